"""No raw id and no column that nobody listed leaves the data: not in a page, a message, a metric, a file or the log.

A shop whose every user id, event id and mail address is a canary runs for a while, breaks in every
way that we know how to see, and then cannot be read at all; whatever comes out is searched.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from alerts import alertmanager, pagerduty, slack_blocks, webhook, wording
from alerts.mail import Mail
from checks.window import Window
from monitor import evidence, log, outbox
from monitor.app import App
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.commands import alerts as alerts_command
from monitor.commands import check, explain, triage
from monitor.daemon import Daemon
from monitor.status import Watched

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HEALTHY, BROKEN = 12, 8
COLUMNS = ("id", "who", "what", "at", "app", "version", "price", "mail")
CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events.csv
    roles: {event_id: id, user: who, item: what, event_time: at, source: app, value: price, event_type: version}
    features: [version, price]
    users: people
  people: {files: FOLDER/people.csv, roles: {user: who}}
checks:
  density: {every: 1m, window: 2m}
  feature_drift: {every: 1m, window: 2m, min_rows: 1}
  popularity: {every: 1m, window: 2m, min_rows: 1}
  freshness: {max_age: 1m, every: 1m}
evidence: {min_group: 2, every: 1s, reports: false}
tiers:
  quick: [{name: page_quick, severity: page, long: 6m, short: 3m, burn_rate: 1}]
  quick_ticket: [{name: ticket_quick, severity: ticket, long: 6m, short: 3m, burn_rate: 1}]
slos:
  unknown_ids: {tiers: quick, min_bad_checks: 1}
  contract: {tiers: quick, min_bad_checks: 1}
  freshness: {tiers: quick, min_bad_checks: 1}
  duplicates: {tiers: quick_ticket, min_bad_checks: 1}
  feature_drift: {tiers: quick_ticket, min_bad_checks: 1}
  popularity: {tiers: quick_ticket, min_bad_checks: 1}
channels: {here: {type: console}}
notify: {external_url: "https://recwatch.example.org"}
"""


def rows(minute: int, *, is_broken: bool) -> Iterator[tuple[Any, ...]]:
    at = NOON + minute * MINUTE
    for n in range(400):
        event = f"canary-event-{minute}-{n // 2 if is_broken and n % 3 == 0 else n}"
        # Ids that lead nowhere, malformed ones, and those of a bot.
        who = f"canary-user-{n % 50}"
        if is_broken and n % 2:
            who = ("", "canary-stranger-1", " canary user ", "canary-user-1")[n % 8 // 2]
        when = (at + timedelta(seconds=n * 0.14)).strftime("%Y-%m-%d %H:%M:%S.%f")
        price = -5.0 if is_broken and n % 5 == 0 else 900.0 if is_broken else float(n % 7)
        item, version = (7, "2.0-beta") if is_broken and n % 2 else (n % 20, ("1.0", "2.0")[n % 2])
        yield event, who, item, when, ("ios", "web")[n % 2], version, price, f"canary{n}@mail"


def write(folder: Path, minutes: int) -> None:
    with (folder / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for minute in range(minutes):
            writer.writerows(rows(minute, is_broken=minute >= HEALTHY))


UNREADABLE_FILES: tuple[Callable[[Path], object], ...] = (
    # A line too short, a time that is none, a file that is no text: each makes the engine complain in its own words.
    lambda folder: (folder / "events.csv").write_text(
        (folder / "events.csv").read_text() + "canary-event-x,canary-user-x\n" * 3
    ),
    lambda folder: (folder / "events.csv").write_text(
        "\n".join(
            [",".join(COLUMNS), "canary-event-1,canary-user-1,canary-item,canary-time,ios,1,canary-price,canary@mail"]
        )
    ),
    lambda folder: (folder / "events.csv").write_bytes(b'id,who\n"canary-event\xff\xfe,canary-user\x00\n"""canary'),
)


class Ran:
    """What came out, by where."""

    def __init__(self, out: dict[str, str], broken: set[str]) -> None:
        self.out, self.broken = out, broken


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("privacy")
    (folder / "people.csv").write_text("who\n" + "".join(f"canary-user-{n}\n" for n in range(50)))
    config = folder / "recwatch.yml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    write(folder, HEALTHY)
    clock = ManualClock(NOON + HEALTHY * MINUTE)
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr(log, "event", lambda name, **keys: lines.append(log._line(name, keys)))
        patch.setattr(log, "error", lambda name, **keys: lines.append(log._line(name, keys)))
        daemon = Daemon(config, clock)
        try:
            return played(daemon, clock, config, lines)
        finally:
            daemon.live.watch.close()
            daemon.live.evidence.close()
            daemon.live.pipeline.close()
            daemon.store.close()


def played(daemon: Daemon, clock: ManualClock, config: Path, lines: list[str]) -> Ran:
    Builder(daemon.live.runner, daemon.store).build(Window(NOON, NOON + HEALTHY * MINUTE))
    for minute in range(HEALTHY, HEALTHY + BROKEN):
        write(config.parent, minute + 1)
        turn(daemon, clock, NOON + (minute + 1) * MINUTE + timedelta(seconds=59))
    broken = {verdict.check for verdict in daemon.store.latest() if verdict.outcome == "bad"}
    out = collected(daemon, clock, config)
    for number, spoil in enumerate(UNREADABLE_FILES):
        spoil(config.parent)
        turn(daemon, clock, clock.now() + MINUTE)
        out |= {f"{name} (unreadable {number})": said for name, said in collected(daemon, clock, config).items()}
    out["log"] = "\n".join(lines)
    return Ran(out, broken)


def turn(daemon: Daemon, clock: ManualClock, now: datetime) -> None:
    """Let a minute pass: every check runs, evidence is collected, alarms are evaluated."""
    clock.move(now - clock.now())
    daemon.lease.renew()
    for dataset, checks in daemon.live.pipeline.checks.items():
        daemon.tick(dataset, list(checks))
    daemon.evaluate()


def collected(daemon: Daemon, clock: ManualClock, config: Path) -> dict[str, str]:
    """Return everything that anybody may see now."""
    out = {}
    app = App(daemon.store, clock, lambda: watched(daemon), lambda: None, lambda: None)
    for path in paths(daemon, clock):
        out[path] = asked(app, path)
    for sent in outbox.history(daemon.store, NOON):
        alert, name = sent.alert, f"message {sent.alert.key} {sent.alert.transition}"
        mail = Mail("mail", host="127.0.0.1", port=25, sender="a@b.example", recipients=["c@d.example"]).message(alert)
        push = alertmanager.AlertmanagerPush("am", urls=["http://127.0.0.1:1"])
        out[name] = "\n".join(
            [
                wording.text(alert), json.dumps(slack_blocks.blocks(alert)), slack_blocks.fallback(alert),
                slack_blocks.triage(alert), slack_blocks.reply(alert), json.dumps(webhook.body(alert)),
                json.dumps(pagerduty.event(alert)), json.dumps(list(push.pushed(alert))), mail.as_string(),
            ]
        )  # fmt: skip
    span = ["--since", NOON.isoformat(), "--to", clock.now().isoformat()]
    commands: dict[str, tuple[Any, list[str]]] = {
        "triage": (triage.command, [*span, "--postmortem", str(config.parent / "postmortem.md")]),
        "alerts": (alerts_command.command, []),
        "check": (check.command, ["--all"]),
        "check --json": (check.command, ["--all", "--json"]),
        "explain": (explain.command, ["duplicates"]),
    }
    for name, (command, arguments) in commands.items():
        done = CliRunner().invoke(command, ["--config", str(config), *arguments])
        out[name] = done.output + (str(done.exception) if done.exception else "")
    out["postmortem"] = (config.parent / "postmortem.md").read_text()
    return out


def paths(daemon: Daemon, clock: ManualClock) -> Iterator[str]:
    yield from ("/", "/?span=90d", "/api/status", "/metrics", "/healthz", "/readyz")
    for dataset, kind, _check in watched(daemon).every():
        for span in ("24h", "7d"):
            yield "/check?" + urlencode({"dataset": dataset, "check": kind.id, "span": span})
    for proof in evidence.recent(daemon.store, clock.now() - evidence.FRESH).values():
        yield from (f"/evidence/{proof}", f"/evidence/{proof}.json")


def watched(daemon: Daemon) -> Watched:
    live = daemon.live
    return Watched(live.config, live.pipeline.checks, live.runner.disabled, NOON, slos=live.pipeline.slos)


def asked(app: App, path: str) -> str:
    name, _, query = path.partition("?")
    environ = {"PATH_INFO": name, "QUERY_STRING": query, "REQUEST_METHOD": "GET"}
    return b"".join(app(environ, lambda *_: None)).decode()


def test_everything_has_happened(ran: Ran) -> None:
    """Otherwise there would be nothing to leak."""
    assert ran.broken >= {"unknown_ids", "contract", "duplicates", "feature_drift", "popularity"}
    pages = [name for name in ran.out if name.startswith("/evidence/")]
    assert len(pages) >= 10
    samples = [json.loads(ran.out[name])["body"].get("sample") for name in pages if name.endswith(".json")]
    assert any(str(cell).startswith("#") for sample in samples for row in sample or () for cell in row)
    assert sum(name.startswith("message") for name in ran.out) >= 3
    assert "check_failed" in ran.out["log"]
    assert "Most likely" in ran.out["triage"]
    assert "Traceback" not in "".join(ran.out.values())


def test_no_canary_comes_out(ran: Ran) -> None:
    leaks = {
        name: said[max(0, found.start() - 160) : found.end() + 60]
        for name, said in ran.out.items()
        if (found := re.search("canary", said))
    }
    assert leaks == {}
