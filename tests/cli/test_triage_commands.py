"""``recwatch triage`` and ``recwatch event`` as commands."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from alerts.evaluate import NO_DATA
from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.causes import Deviation, likely
from monitor.commands import event, triage
from monitor.records import Judged
from monitor.store import Store
from monitor.triage import postmortem, told
from monitor.triage import triage as found_in

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
CONFIG = "state: sqlite:///FOLDER/state.db\ndatasets: {events: {files: x.csv, roles: {event_time: at}}}\n"


def test_what_was_noted_and_what_was_found_stand_on_one_timeline(tmp_path: Path) -> None:
    config = tmp_path / "recwatch.yml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    window = Window(NOON, NOON + timedelta(minutes=1))
    store = Store(f"sqlite:///{tmp_path}/state.db", "default")
    reason = "newest event is 12 min old"
    verdict = Verdict("freshness", "events", window, Outcome.BAD, "lag_seconds", 720.0, 300.0, reason=reason)
    store.commit(Judged("freshness", "events", window, [verdict], window.end, 0.1, Tally("events", window)))
    store.close()
    runner, at = CliRunner(), (NOON - timedelta(minutes=5)).isoformat()
    noted = runner.invoke(event.command, ["add", "gateway 2.1", "--config", str(config), "--at", at])
    assert noted.exit_code == 0, noted.output
    listed = runner.invoke(event.command, ["list", "--config", str(config), "--since", NOON.isoformat()])
    assert listed.output == "2026-03-03 11:55:00 UTC  deploy  gateway 2.1\n"

    out, span = (
        tmp_path / "postmortem.md",
        ["--since", NOON.isoformat(), "--to", (NOON + timedelta(hours=1)).isoformat()],
    )
    done = runner.invoke(triage.command, ["--config", str(config), *span, "--postmortem", str(out)])

    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.output.splitlines()]
    assert "Most likely: stalled feed" in lines
    assert lines.index("11:55:00 UTC  deploy: gateway 2.1") + 1 == next(
        at for at, line in enumerate(lines) if line.startswith("12:01:00 UTC  freshness 12 min, 2.4 times its limit")
    )
    assert "recwatch runbook RecwatchSloBudgetBurn" in done.output
    assert out.read_text().startswith("# Postmortem: stalled feed (default, ")


def test_that_nothing_deviated_is_said_only_of_what_was_judged(tmp_path: Path) -> None:
    config, out = tmp_path / "recwatch.yml", tmp_path / "postmortem.md"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    span = ["--config", str(config), "--since", NOON.isoformat(), "--postmortem", str(out)]
    done = CliRunner().invoke(triage.command, span)
    assert (done.exit_code, done.output.splitlines()[2]) == (0, "Nothing is known: no check has judged this time yet.")
    assert "**nothing known**. Nothing is known: no check" in out.read_text()
    window = Window(NOON, NOON + timedelta(minutes=1))
    verdict = Verdict("freshness", "events", window, Outcome.GOOD, "lag_seconds", 3.0, 300.0)
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        store.commit(Judged("freshness", "events", window, [verdict], window.end, 0.1, Tally("events", window)))
    assert CliRunner().invoke(triage.command, span).output.splitlines()[2] == "Nothing has deviated."


def committed(store: Store, check: str, end: datetime, outcome: Outcome, **fields: Any) -> None:
    window = Window(end - timedelta(minutes=1), end)
    verdict = Verdict(check, "events", window, outcome, fields.pop("measure", "none"), **fields)
    store.commit(Judged(check, "events", window, [verdict], window.end, 0.1, Tally("events", window)))


def test_words_of_the_data_give_no_orders_to_a_terminal_or_a_page(tmp_path: Path) -> None:
    config, out = tmp_path / "recwatch.yml", tmp_path / "postmortem.md"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    words = "\x1b[2J![x](https://evil.example/p) <img src=x>\nfake"
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        end, drift = NOON + timedelta(minutes=1), {"measure": "psi", "value": 0.9, "limit": 0.2}
        committed(store, "feature_drift", end, Outcome.BAD, feature=words, reason=words, **drift)
    span = ["--config", str(config), "--since", NOON.isoformat(), "--postmortem", str(out)]
    done = CliRunner().invoke(triage.command, span)
    assert done.exit_code == 0, done.output
    assert "![x](https://evil.example/p) <img src=x> fake" in done.output
    assert "\x1b" not in done.output + out.read_text()
    assert r"!\[x](https://evil.example/p) \<img src=x> fake" in out.read_text()
    assert not re.search(r"(?<!\\)[<\[]", out.read_text())


def test_without_a_time_it_is_about_what_was_bad_last(tmp_path: Path) -> None:
    config, now = tmp_path / "recwatch.yml", datetime.now(UTC).replace(microsecond=0)
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    lag = {"measure": "lag_seconds", "value": 720.0, "limit": 300.0, "reason": "newest event is 12 min old"}
    copies = {"measure": "duplicate_ratio", "value": 0.3, "limit": 0.005, "reason": "copies", "details": {"retry": 9}}
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        committed(store, "freshness", now - timedelta(hours=5), Outcome.BAD, **lag)
        committed(
            store, "freshness", now - timedelta(hours=4), Outcome.GOOD, measure="lag_seconds", value=1.0, limit=300.0
        )
        committed(store, "duplicates", now - timedelta(minutes=9), Outcome.BAD, **copies)
    said = CliRunner().invoke(triage.command, ["--config", str(config)]).output
    assert "Most likely: retry storm" in said
    assert "newest event" not in said, "that was over for hours"
    assert "about duplicates on events; --since tells all of a time" in said
    fared = dict(line.split(maxsplit=1) for line in said.splitlines()[-2:])
    assert fared == {"freshness": "deviated at another time", "duplicates": "deviated"}, "of a span that holds both"
    whole = ["--config", str(config), "--since", (now - timedelta(hours=6)).isoformat()]
    all_of_it = CliRunner().invoke(triage.command, whole).output
    assert ("newest event" in all_of_it, "about" in all_of_it, "another time" in all_of_it) == (True, False, False)


def test_what_deviated_is_shown_also_where_it_explains_nothing(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        committed(store, "duplicates", NOON, Outcome.BAD, value=0.3, limit=0.005, reason="copies")
        span = Window(NOON - timedelta(hours=1), NOON + timedelta(hours=1))
        blind = found_in(store, span, {(NO_DATA, "events", "density")})
    assert blind.cause is None
    said = told(blind)
    assert "What has deviated explains nothing of what alarms." in said
    assert "copies" in said
    assert "nothing known" in postmortem(blind, NOON)


def test_a_postmortem_that_cannot_be_written_is_told_so(tmp_path: Path) -> None:
    config = tmp_path / "recwatch.yml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    done = CliRunner().invoke(triage.command, ["--config", str(config), "--postmortem", f"{tmp_path}/none/there.md"])
    assert done.exit_code == 2
    assert "there.md cannot be written: No such file or directory" in done.output


def test_a_span_must_have_a_beginning_and_an_end(tmp_path: Path) -> None:
    config = tmp_path / "recwatch.yml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    span = ["--since", NOON.isoformat(), "--to", NOON.isoformat()]
    done = CliRunner().invoke(triage.command, ["--config", str(config), *span])
    assert done.exit_code == 2
    assert "--since must lie before --to" in done.output


def found(check: str, at: datetime, seconds: float, **fields: Any) -> Deviation:
    window = Window(at - timedelta(seconds=seconds), at)
    return Deviation(Verdict(check, "events", window, Outcome.BAD, **{"measure": "ratio", **fields}), window, window, 1)


def test_what_began_later_is_no_cause_and_what_lies_upstream_is() -> None:
    missing = {"entity": "user", "details": {"causes": {"missing": 9}}}
    stalled = {"measure": "lag_seconds", "value": 400.0, "limit": 300.0}
    ids = found("unknown_ids", NOON, 60, **missing)
    later = found("freshness", NOON + timedelta(minutes=30), 60, **stalled)
    assert likely([later, ids]).kind == "client release dropping ids"
    # An age is noticed late: the feed had stalled before the first minute was short of events.
    short = found("ingestion", NOON, 60, details={"silent_drop": 100})
    soon = found("freshness", NOON + timedelta(minutes=5), 60, **stalled)
    assert likely([short, soon]).kind == "stalled feed"
    # A check of hours ends after one of minutes, and began before it.
    hourly = found("density", NOON + timedelta(minutes=50), 3_600)
    assert likely([hourly, ids]).kind == "client release dropping ids"
    assert likely([]) is None
