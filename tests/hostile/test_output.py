"""What comes out of hostile names and values: pages whose structure they do not change, messages that call nobody."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse
from rich.console import Console

from alerts import conformance, pagerduty, slack_blocks
from alerts.mail import Mail
from alerts.message import Alert, Problem, Severity, State
from alerts.wording import printable
from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.app import App
from monitor.clock import ManualClock
from monitor.commands.export import command as export
from monitor.commands.table import show
from monitor.config import Config
from monitor.exposition import Exposition, registry
from monitor.records import Judged
from monitor.resolve import build
from monitor.series import LONGEST_LABEL
from monitor.status import Watched
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
WINDOW = Window(NOON - timedelta(minutes=1), NOON)
PIECES = (
    "<", ">", "&", '"', "'", "`", "{{", "}}", "{%", "</script>", "<script>alert(1)</script>", "<img src=x onerror=a()>",
    "<!channel>", "<!here>", "<@U123>", "<#C1>", "<https://evil.example|ok>", "*b*", "_i_", "~s~", "```",
    "javascript:a()",
    "\r\nBcc: all@example.org", "\r\n\r\nbody", "\n", "\u2028", "\u202e", "\x1b[2J", "\\", '"} or vector(1) #',
    "${X}", "$x",
    "&lt;", "%0d%0a", "a", " ", "\u65e5", "\U0001f600", "<!--", "-->", "<![CDATA[", "]]>", "' onmouseover='a()", "\x7f",
)  # fmt: skip
hostile = some.lists(some.sampled_from(PIECES) | some.text(max_size=6), min_size=1, max_size=5).map("".join)
PATIENT = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


# -- messages ------------------------------------------------------------------------------------


def alert(text: str) -> Alert:
    problem = Problem("name", "RecwatchSloBudgetBurn", Severity.PAGE, State.FIRING, "sentence", NOON)
    plain = Alert("recwatch/key", 1, State.FIRING, Severity.PAGE, "shop", NOON, NOON, (problem,), "")
    return conformance.spoilt(plain, text, problems=3)


def mrkdwn(found: Any) -> Iterator[str]:
    """Yield every text that Slack would interpret."""
    for value in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from mrkdwn(value)
    if isinstance(found, dict) and found.get("type") == "mrkdwn":
        assert found["verbatim"] is True, "else Slack makes links of what looks like one"
        yield found["text"]


@PATIENT
@given(text=hostile)
def test_slack_is_told_to_call_nobody_and_to_link_nowhere(text: str) -> None:
    made = alert(text)
    for said in (*mrkdwn(slack_blocks.blocks(made)), slack_blocks.fallback(made), slack_blocks.triage(made)):
        # Times of ours are the only thing that is marked so.
        assert "<" not in re.sub(r"<!date\^\d+\^[^<>|]*\|[^<>]*>", "", said), said
        assert not re.search(r"&(?!amp;|lt;|gt;)", said), said


@PATIENT
@given(text=hostile)
def test_a_mail_has_the_headers_that_we_gave_it_and_no_other(text: str) -> None:
    mail = Mail("m", host="127.0.0.1", port=1, sender="r@example.org", recipients=["a@example.org"], security="none")
    found = mail.message(alert(text))
    assert {"Bcc", "Cc"}.isdisjoint(found)
    again = re.split(rb"\r?\n\r?\n", bytes(found), maxsplit=1)[0].decode("ascii")
    names = {line.split(":")[0] for line in again.splitlines() if not line.startswith((" ", "\t"))}
    assert names == set(found.keys())


@PATIENT
@given(text=hostile)
def test_pagerduty_is_sent_json_of_bounded_texts(text: str) -> None:
    made = pagerduty.event(alert(text * 200))
    assert len(made["payload"]["summary"]) <= pagerduty.LONGEST_SUMMARY
    assert len(made["payload"]["source"]) <= pagerduty.LONGEST_SOURCE
    assert str(made["payload"]).encode("utf-8")


# -- a terminal ----------------------------------------------------------------------------------


@PATIENT
@given(text=hostile | some.sampled_from(["[/]", "[/red]x", "[link=https://evil.example]x", "[bold]x"]))
def test_a_table_shows_words_of_the_data_as_they_are(text: str) -> None:
    kinds = ({"source": text}, {"feature": text}, {"reason": text})
    told = io.StringIO()
    for kind in kinds:
        verdict = Verdict("freshness", "events", WINDOW, Outcome.BAD, "lag_seconds", 900.0, 300.0, **kind)
        show([verdict], [], Console(file=told, width=1_000, force_terminal=False))
    assert "\x1b" not in told.getvalue()
    word = printable(text).strip()
    assert word not in ("[/]", "[/red]x", "[bold]x") or told.getvalue().count(word) == len(kinds)


# -- pages and metrics ---------------------------------------------------------------------------


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, without texts and values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _value in attrs]))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")


def shown(folder: Path, text: str) -> tuple[dict[str, str], bytes]:
    """Return pages and metrics about a source, a feature and a reason of this text."""
    roles = {"event_time": "at", "source": "app", "user": "who"}
    config = Config.model_validate(
        {"pipeline": text[:64] or "x", "datasets": {"events": {"files": "x.csv", "roles": roles, "features": ["f"]}}}
    )
    pipeline, store = build(config), Store(f"sqlite:///{folder}/{len(list(folder.iterdir()))}.db", config.pipeline)
    verdicts = [
        Verdict("freshness", "events", WINDOW, Outcome.BAD, "lag_seconds", 900.0, 300.0, reason=text),
        Verdict("freshness", "events", WINDOW, Outcome.BAD, "lag_seconds", 900.0, 300.0, source=text, reason=text),
    ]
    drift = Verdict("feature_drift", "events", WINDOW, Outcome.BAD, "psi", 0.9, 0.2, feature=text, reason=text)
    gauge = Sample("recwatch_newest_event_timestamp_seconds", {"dataset": "events", "source": text}, 1e9)
    for check, found in (("freshness", verdicts), ("feature_drift", [drift])):
        gauges = [gauge] if check == "freshness" else []
        store.commit(Judged(check, "events", WINDOW, found, NOON, 0.1, Tally("events", WINDOW), gauges=gauges))
    watched = Watched(config, pipeline.checks, {}, NOON, slos=pipeline.slos)
    clock = ManualClock(NOON)
    app = App(store, clock, lambda: watched, lambda: text, lambda: None)

    def ask(path: str, query: str = "") -> str:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query}
        return b"".join(app(environ, lambda *_answer: None)).decode()

    pages = {
        "status": ask("/"),
        "freshness": ask("/check", "dataset=events&check=freshness"),
        "drift": ask("/check", "dataset=events&check=feature_drift"),
    }
    metrics = generate_latest(registry(Exposition(store, lambda: watched, clock)))
    store.close()
    pipeline.close()
    return pages, metrics


@pytest.mark.parametrize("text", ["".join(PIECES), *(f"{piece}x" for piece in PIECES[9:13])], ids=range(5))
def test_no_element_attribute_or_series_comes_from_data(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("shown")
    (plain, plain_metrics), (pages, metrics) = shown(folder, "plain"), shown(folder, text)
    for name, page in pages.items():
        ours, theirs = Structure(plain[name]), Structure(page)
        assert theirs.found == ours.found, name
        # The icon is of ours; no other address may run anything.
        active = [found for found in theirs.addresses if found.lower().lstrip().startswith(("javascript:", "data:"))]
        assert active == [found for found in ours.addresses if found.startswith("data:")]
    told = [sample for family in parse(metrics.decode()) for sample in family.samples]
    before = [sample for family in parse(plain_metrics.decode()) for sample in family.samples]
    assert sorted(sample.name for sample in told) == sorted(sample.name for sample in before)
    assert max(len(value) for sample in told for value in sample.labels.values()) <= LONGEST_LABEL


def test_promtool_reads_what_a_megabyte_leaves(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here")
    _pages, metrics = shown(tmp_path, "".join(PIECES) + "\x00" + "x" * 1_000_000)
    assert len(metrics) < 100_000
    done = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, timeout=60)
    assert b"error while" not in done.stdout + done.stderr


# -- rules ---------------------------------------------------------------------------------------


def test_a_tier_whose_name_would_break_out_of_a_rule_is_refused(tmp_path: Path) -> None:
    evil = '"} or vector(1) # {{ $x }}'
    tier = {"name": evil, "severity": "page", "long": "6h", "short": "3m", "burn_rate": 5}
    config = {
        "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at"}}},
        "tiers": {"own": [tier]},
        "channels": {"here": {"type": "console"}},
    }
    path = tmp_path / "recwatch.yml"
    path.write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(export, ["rules", "-c", str(path)])
    assert "tiers.own[0].name: must be lower case letters" in str(done.exception)


def test_names_of_the_configuration_break_out_of_no_rule(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here")
    evil = '"} or vector(1) # {{ $x }} \n</script>'
    tier = {"name": "quick", "severity": "page", "long": "6h", "short": "3m", "burn_rate": 5}
    config = {
        "pipeline": evil,
        "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at", "source": "app"}, "sources": [evil]}},
        "tiers": {"own": [tier]},
        "channels": {"here": {"type": "console"}},
        "slos": {"freshness": {"team": evil, "tiers": "own"}},
    }
    path = tmp_path / "recwatch.yml"
    path.write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(export, ["rules", "-c", str(path)])
    assert done.exit_code == 0, done.exception
    assert '"} or' not in done.output
    rules = tmp_path / "rules.yml"
    rules.write_text(done.output)
    checked = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
