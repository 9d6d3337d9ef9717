"""The commands around alerts: what fires, silences, test messages, rules, runbooks; and no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.alerting import _MEMORY, STATE, Alerting, saved
from monitor.clock import ManualClock
from monitor.errors import StateError
from monitor.load import load
from monitor.objectives import points
from monitor.records import Judged
from monitor.resolve import build
from monitor.store import Store
from monitor.watch import Watch

Recwatch = Callable[..., Any]
MINUTE = timedelta(minutes=1)
CANARY = "canary-s3cret"
CONFIG = """\
pipeline: shop
state: sqlite:///state.db
datasets:
  events:
    files: events.csv
    roles: {event_time: at, user: u}
checks:
  freshness: {every: 1m}
channels:
  hook: {type: webhook, url: "URL/canary-s3cret", secret: canary-s3cret}
  pager: {type: pagerduty, routing_key: canary-s3cret, api_url: URL}
notify: {heartbeat: {url: "URL/canary-s3cret/beat", every: 1m}}
"""


class Web:
    """An address that takes anything, or refuses."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.paths.append(self.path)
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def config(tmp_path: Path, web: Web) -> str:
    path = tmp_path / "recwatch.yml"
    path.write_text(CONFIG.replace("URL", web.url))
    return str(path)


def play(config: str, minutes: str, watched: timedelta = timedelta(days=5)) -> None:
    """Let freshness run once a minute up to now, and once when it was first watched; evaluate after each run."""
    loaded = load(Path(config))
    pipeline, store = build(loaded), Store(loaded.state.get_secret_value(), "shop")
    now = datetime.now(UTC) - len(minutes) * MINUTE
    slos = [slo for slo in pipeline.slos.values() if slo.check == "freshness"]
    alerting = Alerting(store, pipeline, now)
    for what, at in [("+", now - watched), *((what, now + n * MINUTE) for n, what in enumerate(minutes))]:
        outcome = Outcome.GOOD if what == "+" else Outcome.BAD
        verdict = Verdict(
            "freshness", "events", Window(at - MINUTE, at), outcome, "lag_seconds", 700, 300, reason="old"
        )
        found = tuple(points(slos, [verdict], at))
        store.commit(Judged("freshness", "events", verdict.window, [verdict], at, 0.1, points=found))
        alerting.evaluate(at)
    store.close()
    pipeline.close()


def test_alerts_tells_what_fires_and_what_was_sent(config: str, recwatch: Recwatch) -> None:
    assert "No evaluation yet" in recwatch("alerts", "-c", config).out
    play(config, "+" * 30 + "-" * 15)
    said = recwatch("alerts", "-c", config)
    assert said.code == 1
    assert "events-freshness" in said.out
    assert "page_fast" in said.out
    assert "hook queued" in said.out
    lines = [json.loads(line) for line in recwatch("alerts", "-c", config, "--json").out.splitlines()]
    assert {line["state"] for line in lines if "slo" in line} >= {"firing"}
    assert any("sent" in line for line in lines)
    assert CANARY not in said.out


def test_what_burns_before_it_was_watched_for_long_enough_is_said(config: str, recwatch: Recwatch) -> None:
    """Half of a tier's long window has to be watched; whoever has just begun wonders why nothing fires."""
    play(config, "+" * 5 + "-" * 15, MINUTE)
    said = recwatch("alerts", "-c", config)
    assert (said.code, said.out.startswith("Nothing fires, as of ")) == (0, True)
    (line,) = said.out.splitlines()[1:]
    assert re.match(r"events-freshness burns [\d.]+ times too fast; page_fast can fire after 30m, at \d\d:\d\d", line)
    (early,) = map(json.loads, recwatch("alerts", "-c", config, "--json").out.splitlines())
    can_fire_from, burn = datetime.fromisoformat(early.pop("can_fire_from")), early.pop("burn_rate")
    assert early == {
        "slo": "events-freshness", "check": "freshness", "dataset": "events", "tier": "page_fast", "state": "early",
    }  # fmt: skip
    assert f" burns {burn:.3g} times" in line
    assert f"at {can_fire_from:%H:%M} UTC" in line
    play(config, "+", timedelta(hours=1))
    assert "too fast" not in recwatch("alerts", "-c", config).out, "good again"
    assert "early" not in recwatch("alerts", "-c", config, "--json").out


def test_that_nothing_fires_is_said_with_its_time(config: str, recwatch: Recwatch) -> None:
    play(config, "+" * 30)
    said = recwatch("alerts", "-c", config)
    assert (said.code, said.out.startswith("Nothing fires, as of ")) == (0, True)
    assert "see whether the daemon runs" not in said.out
    with closing(Store(f"sqlite:///{Path(config).parent}/state.db", "shop")) as store:
        memory = saved(store)
        long_ago = replace(memory, evaluated=memory.evaluated - timedelta(hours=2))
        store.set_note(STATE, _MEMORY.dump_python(long_ago, mode="json"))
    assert "This is from 2 h ago: see whether the daemon runs." in recwatch("alerts", "-c", config).out


def test_silences_come_and_go(config: str, recwatch: Recwatch) -> None:
    assert "nothing is silenced" in recwatch("silence", "list", "-c", config).out
    said = recwatch("silence", "add", "-c", config, "--slo", "events-*", "--for", "2h", "--reason", "migration")
    assert said.code == 0
    assert said.out.endswith(f"end it with: recwatch silence end 1 -c {config}\n")
    assert "events-* until" in recwatch("silence", "list", "-c", config).out
    named = ["--for", "2h", "--reason", "migration", "--author", "ann"]
    assert recwatch("silence", "add", "-c", config, "--slo", "events-*", *named).code == 0
    assert recwatch("silence", "list", "-c", config).out.endswith("migration (ann)\n")
    assert recwatch("silence", "end", "-c", config, "1").code == 0
    assert recwatch("silence", "end", "-c", config, "1").code == 2
    wrong = recwatch("silence", "add", "-c", config, "--slo", "nope", "--for", "2h", "--reason", "x")
    assert "no objective is called nope" in wrong.err
    assert "a silence must end" in recwatch("silence", "add", "-c", config, "--slo", "*", "--reason", "x").err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--for", "0s", "--reason", "x"), "--for: must be longer than nothing"),
        (("--until", "2020-01-01", "--reason", "x"), "--until: must be in the future"),
        (("--for", "2h", "--reason", " "), "--reason: must say something"),
    ],
    ids=["no length", "over", "no reason"],
)
def test_a_silence_that_is_none_is_told_what_it_lacks(
    config: str, recwatch: Recwatch, given: tuple[str, ...], said: str
) -> None:
    done = recwatch("silence", "add", "-c", config, "--slo", "events-freshness", *given)
    assert (done.code, said in done.err) == (2, True)
    assert "nothing is silenced" in recwatch("silence", "list", "-c", config).out


def test_a_user_without_a_name_may_silence(config: str, recwatch: Recwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 1_234_567_890)
    said = recwatch("silence", "add", "-c", config, "--slo", "events-*", "--for", "2h", "--reason", "migration")
    assert said.code == 0
    assert "migration (user 1234567890)" in recwatch("silence", "list", "-c", config).out


def test_a_silence_is_one_line_with_its_year(config: str, recwatch: Recwatch) -> None:
    about = ("--slo", "events-freshness", "--until", "2130-01-01", "--reason", "two\nlines \x1b[31mred")
    assert "until 2130-01-01 00:00 UTC" in recwatch("silence", "add", "-c", config, *about).out
    (line,) = recwatch("silence", "list", "-c", config).out.splitlines()
    assert "until 2130-01-01 00:00 UTC: two lines [31mred (" in line
    overdue = ("--slo", "events-unknown_ids", "--for", "2h", "--reason", "a check that is overdue has no other name")
    assert recwatch("silence", "add", "-c", config, *overdue).code == 0
    missed = recwatch("silence", "add", "-c", config, "--slo", "events-freshnes", "--for", "2h", "--reason", "x")
    assert "did you mean events-freshness?" in missed.err


UNFINISHED = {"a misspelt key": "cheks: {}\n", "no YAML": "datasets: {events: [\n", "no engine": "engines: 5\n"}


@pytest.mark.parametrize("edit", UNFINISHED.values(), ids=UNFINISHED)
def test_those_on_call_need_no_right_configuration(config: str, recwatch: Recwatch, edit: str) -> None:
    play(config, "+" * 30 + "-" * 15)
    with Path(config).open("a") as file:
        file.write(edit)
    assert recwatch("check", "-c", config).code == 2
    said = recwatch("alerts", "-c", config, "--json")
    assert said.code == 1
    assert {json.loads(line).get("slo") for line in said.out.splitlines()} >= {"events-freshness"}
    assert said.err.startswith((f"{config}:13:1: ", f"{config}:14:1: is not YAML"))
    assert said.err.endswith(f"{config}: only pipeline and state are read until that is mended\n")
    assert "Most likely: stalled feed" in recwatch("triage", "-c", config).out
    wanted = ("--for", "2h", "--reason", "migration")
    assert recwatch("silence", "add", "-c", config, "--slo", "events-*", *wanted).code == 0
    assert "events-* until" in recwatch("silence", "list", "-c", config).out
    unknown = recwatch("silence", "add", "-c", config, "--slo", "nope", *wanted)
    assert "no objective is called nope; there are events-freshness" in unknown.err
    assert recwatch("event", "add", "-c", config, "ios 8.3.0").code == 0


@pytest.mark.parametrize(
    "wrong", ["state: 5", "stat: sqlite:///other.db", "state: sqlit:///other.db", "pipline: other"]
)
def test_what_may_be_wrong_about_the_state_is_guessed_by_nobody(config: str, recwatch: Recwatch, wrong: str) -> None:
    play(config, "+")
    key = "pipeline: shop" if wrong.startswith("pip") else "state: sqlite:///state.db"
    Path(config).write_text(Path(config).read_text().replace(key, wrong))
    said = recwatch("alerts", "-c", config)
    assert (said.code, said.out) == (2, "")
    assert f"{wrong.partition(':')[0]}: " in said.err


def test_a_wrong_configuration_makes_no_state(config: str, recwatch: Recwatch) -> None:
    with Path(config).open("a") as file:
        file.write("cheks: {}\n")
    said = recwatch("alerts", "-c", config)
    assert (said.code, said.err) == (2, f"{config}:13:1: cheks: unknown key; did you mean checks?\n")
    assert [path.name for path in Path(config).parent.iterdir()] == ["recwatch.yml"]


def test_a_state_that_can_only_be_read_is_read(
    config: str, recwatch: Recwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(config, "+" * 30 + "-" * 15)
    state, text = Path(config).with_name("state.db"), Path(config).read_text()
    for url in (f"sqlite:///file:{state}?mode=ro&uri=true", "sqlite:///state.db"):
        # Whoever runs the tests may write everywhere, so the second is told to be in a folder of others.
        monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
        Path(config).write_text(text.replace("sqlite:///state.db", url))
        assert "events-freshness" in recwatch("alerts", "-c", config).out
        assert "Most likely: stalled feed" in recwatch("triage", "-c", config).out
        assert recwatch("silence", "list", "-c", config).code == 0
        said = recwatch("event", "add", "-c", config, "ios 8.3.0")
        assert (said.code, "cannot be written: attempt to write a readonly database" in said.err) == (3, True)
    with pytest.raises(StateError, match="readonly"):
        Store(f"sqlite:///{state}", "shop", ManualClock(datetime.now(UTC)))


def test_a_test_message_is_marked_and_a_failure_keeps_its_secret(config: str, recwatch: Recwatch, web: Web) -> None:
    said = recwatch("notify", "test", "-c", config, "hook")
    assert (said.code, said.out) == (0, "hook: delivered\n")
    first, last = (json.loads(body) for body in web.bodies)
    assert (first["is_test"], first["state"], last["state"]) == (True, "firing", "resolved")
    assert "TEST, nothing is wrong" in first["text"]
    web.status = 403
    said = recwatch("notify", "test", "-c", config)
    assert said.code == 3
    assert "hook: webhook hook: answered 403" in said.err
    assert CANARY not in said.err + said.out
    assert "no channel is called nope" in recwatch("notify", "test", "-c", config, "nope").err


def test_a_deploy_is_recorded(config: str, recwatch: Recwatch, web: Web) -> None:
    assert recwatch("notify", "deploy", "-c", config, "ranker v42").out == "pager: recorded\n"
    assert web.paths == ["/v2/change/enqueue"]
    assert json.loads(web.bodies[0])["payload"]["summary"] == "ranker v42"


def test_events_are_listed_a_line_each(config: str, recwatch: Recwatch) -> None:
    assert recwatch("event", "list", "-c", config).out == "nothing was noted in that time\n"
    assert recwatch("event", "add", "-c", config, "ios\n8.3.0 \x1b[31m").code == 0
    (line,) = recwatch("event", "list", "-c", config).out.splitlines()
    assert line.endswith("deploy  ios 8.3.0 [31m")
    assert recwatch("event", "list", "-c", config, "--since", "1h").out.splitlines() == [line]
    at = f"{datetime.now(UTC) - timedelta(days=2):%FT%TZ}"
    assert recwatch("event", "add", "-c", config, "ios 8.2.0", "--at", at).code == 0
    assert "8.2.0" not in recwatch("event", "list", "-c", config, "--since", "1d").out
    assert "8.2.0" in recwatch("event", "list", "-c", config, "--since", "3d").out
    for command in (("event", "list"), ("triage",), ("alerts",)):
        said = recwatch(*command, "-c", config, "--since", "yesterday")
        assert (said.code, "or 6h for how long ago" in said.err) == (2, True)
    ahead = recwatch("event", "list", "-c", config, "--since", "2130-01-01")
    assert (ahead.code, "--since: must be in the past" in ahead.err) == (2, True)


def test_a_deploy_that_is_not_recorded_says_what_was_done(config: str, recwatch: Recwatch, web: Web) -> None:
    web.status = 503
    said = recwatch("notify", "deploy", "-c", config, "ranker v42")
    assert said.code == 3
    assert said.err.startswith("pager: pagerduty pager: answered 503")
    assert said.err.endswith("; for triage it is noted\n")
    assert "ranker v42" in recwatch("event", "list", "-c", config).out
    assert recwatch("notify", "deploy", "-c", config, " ").code == 2, "a deploy without a word"
    # Without anybody who keeps a record.
    alone = Path(config).read_text().replace("  pager: {", "  # pager: {")
    Path(config).write_text(alone)
    said = recwatch("notify", "deploy", "-c", config, "ranker v43")
    assert said.code == 2
    assert "nothing was noted" in said.err
    assert "ranker v43" not in recwatch("event", "list", "-c", config).out


def test_rules_and_objectives_are_exported(config: str, recwatch: Recwatch) -> None:
    pack = yaml.safe_load(recwatch("export", "rules", "-c", config).out)
    assert pack["groups"][0]["name"] == "recwatch-slo-ratios"
    assert recwatch("export", "rules", "-c", f"{config}.typo").code == 2, "not the static pack"
    said = recwatch("export", "rules", "-c", config, "--kubernetes", "--runbooks", "https://x.example")
    found = yaml.safe_load(said.out)
    assert found["kind"] == "PrometheusRule"
    assert "https://x.example/recwatchslobudgetburn" in str(found)
    wrong = recwatch("export", "rules", "-c", config, "--runbooks", "x.example")
    assert (wrong.code, "--runbooks: must begin with https:// or http://" in wrong.err) == (2, True)
    kinds = {document["kind"] for document in yaml.safe_load_all(recwatch("export", "openslo", "-c", config).out)}
    assert kinds == {"Service", "SLO", "AlertPolicy", "AlertCondition"}


def test_runbooks_are_printed(recwatch: Recwatch) -> None:
    assert "recwatchslobudgetburn" in recwatch("runbook").out
    assert recwatch("runbook", "RecwatchMonitorDown").out.startswith("# RecwatchMonitorDown")
    assert recwatch("runbook", "MonitorDown").out.startswith("# RecwatchMonitorDown"), "as tables show it"
    assert "did you mean recwatchmonitordown?" in recwatch("runbook", "RecwatchMonitrDown").err


def test_a_dead_man_s_switch_is_told_while_evaluations_work(
    config: str, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(Path(config))
    pipeline, store, clock = (
        build(loaded),
        Store(loaded.state.get_secret_value(), "shop"),
        ManualClock(datetime.now(UTC)),
    )
    watch = Watch(store, pipeline, clock)
    watch.evaluate()
    watch.evaluate()
    clock.move(timedelta(seconds=29))
    watch.evaluate()
    assert web.paths == [f"/{CANARY}/beat"], "once a minute"
    clock.move(timedelta(seconds=30))
    watch.evaluate()
    assert len(web.paths) == 2, "an evaluation that comes a second early is not waited after"
    clock.move(MINUTE)
    monkeypatch.setattr(Alerting, "evaluate", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError):
        watch.evaluate()
    assert len(web.paths) == 2, "silence says that something is wrong"
    watch.close()
    store.close()
    pipeline.close()
