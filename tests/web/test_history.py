"""Objectives, incidents, timelines and the pages of single checks; and that 200 checks of 90 days are quick."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from alerts.message import Alert, Problem, Severity, State
from checks.check import Outcome, Verdict
from checks.window import Window, micros
from monitor import outbox
from monitor.alerting import _MEMORY, STATE, Memory
from monitor.app import App
from monitor.chart import chart
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.objectives import points
from monitor.outbox import DELIVERED, REFUSED
from monitor.overview import SPANS, objectives_now, overview, timelines
from monitor.page import Page
from monitor.records import Judged
from monitor.resolve import build
from monitor.rollups import Bucket, Counts
from monitor.server import Server
from monitor.status import Watched
from monitor.store import Store
from tests.web.conftest import CONTRASTS, HOSTILE_DATASET, HOSTILE_SOURCE, MINUTE, NOW

Open = Callable[..., Any]
CAUSE = ("Most likely client release dropping ids: 31 % of events: missing 3,720", "Segment: source ios, 98 % of them")


def problem(name: str, state: State, since: datetime) -> Problem:
    until = None if state is State.FIRING else NOW - timedelta(minutes=30)
    return Problem(
        name, "RecwatchSloBudgetBurn", Severity.PAGE, state, f"31 % of {HOSTILE_SOURCE} events were bad", since,
        check="unknown_ids", dataset="events", until=until,
    )  # fmt: skip


def tell(store: Store, key: str, number: int, state: State, **more: Any) -> None:
    started = NOW - timedelta(hours=1 if state is State.RESOLVED else 0, minutes=9)
    at = started + timedelta(minutes=number)
    about = problem("events-unknown_ids-user", state, started)
    alert = Alert(
        key, number, state, Severity.PAGE, store.pipeline, at, started, (about,), f"change {number}",
        ended=at if state is State.RESOLVED else None, triage=CAUSE, consequences=("events-duplicates, quiet",), **more,
    )  # fmt: skip
    with store.writing() as connection:
        outbox.put(connection, store.pipeline, alert, ["team", "pager"])


@pytest.fixture
def told(made: Any) -> Any:
    """The same pipeline with an incident that goes on, one that is over, and objectives that burn."""
    store = made.store
    tell(store, "over", 1, State.FIRING)
    tell(store, "over", 2, State.RESOLVED)
    tell(store, "open", 1, State.FIRING)
    for channel, state in (("team", DELIVERED), ("pager", REFUSED)):
        while (item := outbox.first(store, channel)) is not None:
            outbox.settle(store, item, state, NOW, "pagerduty pager: refused with 400" if state == REFUSED else "")
    window = Window(NOW - MINUTE, NOW)
    verdicts = [
        Verdict("unknown_ids", "events", window, Outcome.BAD, "unknown_ratio", 0.3, 0.01, 70, 100, entity="user")
    ]
    for made_up in (verdicts,):
        of = [slo for slo in made.watched.slos.values() if (slo.dataset, slo.check) == ("events", "unknown_ids")]
        found = tuple(points(of, made_up, NOW))
        store.commit(Judged("unknown_ids", "events", window, made_up, NOW, 0.1, points=found))
    store.set_note(
        STATE, _MEMORY.dump_python(Memory(burns={"events-unknown_ids-user": {3600: 31.0, 300: 31.4}}), mode="json")
    )
    return made


def test_an_incident_tells_its_cause_and_who_was_told_what(told: Any, open_page: Open) -> None:
    page = open_page()
    card = page.locator("#open-1")
    said = " ".join(card.inner_text().split())
    assert said.startswith("page unknown ids of events since 13:56:08 UTC, 9 min ago")
    assert "the figures are of 13:57:08 UTC" in said, "the message, not the present"
    assert card.get_by_text("runbook").evaluate("link => link.href").endswith("/runbooks/recwatchslobudgetburn")
    assert f"31 % of {HOSTILE_SOURCE} events were bad" in said
    assert CAUSE[0] in said
    assert CAUSE[1] in said
    assert "kept quiet: events-duplicates, quiet" in said
    assert "1 message: pager refused, team delivered" in said
    card.locator("summary").click()
    assert "pager refused: pagerduty pager: refused with 400" in " ".join(card.locator(".sent").inner_text().split())
    past = page.locator("#past-1")
    assert "resolved" in past.inner_text()
    assert past.locator("summary").inner_text() == "2 messages, the last: pager refused, team delivered"
    tops = [page.locator(name).bounding_box()["y"] for name in ("#open-1", "#dataset-1", "#objectives", "#past-1")]
    assert tops == sorted(tops), "what goes on comes before all, what is over after all"


def test_objectives_tell_budget_and_burn_rate(told: Any, open_page: Open) -> None:
    page = open_page()
    row = page.locator("table.objectives tr", has_text="events-unknown_ids-user")
    cells = [" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()]
    assert cells[:2] == ["99 % of events in 28 d", "70 %"]
    assert cells[2] == "95.5 %".replace(" ", " ") or "%" in cells[2]
    assert cells[3] == (
        "5 min 31.4x 1 h 31x no alert over 6 h before 17:05:08, over 1 d before 2026-03-04 02:05,"
        " over 3 d before 2026-03-05 02:05"
    ), "half of each has to be watched"
    waiting = page.locator("table.objectives tr", has_text="events-freshness")
    assert "waiting" in waiting.inner_text()
    assert "no data yet" in waiting.inner_text()


def test_json_has_objectives_and_incidents(told: Any, server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}api/status") as answer:
        found = json.load(answer)
    assert [incident["is_open"] for incident in found["incidents"]] == [True, False]
    burning = next(one for one in found["objectives"] if one["name"] == "events-unknown_ids-user")
    assert burning["burns"] == {"300": 31.4, "3600": 31.0}
    assert 0 < burning["budget_left_ratio"] < 1


def test_an_objective_is_bad_while_its_alert_fires_and_unknown_without_data(told: Any) -> None:
    from alerts.alarms import Alarm
    from alerts.evaluate import BURN, NO_DATA, Sign

    def state(alert: str, tier: str) -> tuple[str, tuple[str, ...]]:
        sign = Sign(alert, "events-unknown_ids-user", Severity.PAGE, tier, "events", "unknown_ids", 0.3, 0.1)
        memory = Memory(alarms={sign.key: Alarm(sign, NOW, NOW)})
        told.store.set_note(STATE, _MEMORY.dump_python(memory, mode="json"))
        found = objectives_now(told.store, told.watched, NOW)
        one = next(one for one in found if one.name == "events-unknown_ids-user")
        assert found[0] is one, "what fires comes first"
        return one.state, one.firing

    assert state(BURN, "page_fast") == ("bad", ("page_fast",))
    assert state(NO_DATA, "") == ("unknown", (NO_DATA,))


def test_a_timeline_has_a_cell_for_each_step(made: Any) -> None:
    for span in SPANS:
        found = timelines(made.store, made.now, span)["events", "duplicates"]
        assert len(found.cells) * span.step == span.length
        assert sum(found.cells, Counts()) == Counts(good=104, bad=4, error=6), span.name
        assert found.span.start <= made.now - span.length + span.step
        assert found.span.end > made.now


def test_the_strip_says_what_it_shows(open_page: Open) -> None:
    page = open_page()
    strip = page.locator("#check-1-duplicates .strip")
    assert strip.locator("title").text_content() == (
        "last 1 d in steps of 1 h, 2 of 24 known: bad in 2, last 03 Mar 14:00; error in 1, last 03 Mar 13:00"
    )
    assert {name.get_attribute("class") for name in strip.locator("path").all()} == {"good", "bad", "error"}
    page.get_by_role("link", name="90 days").click()
    assert "2 of 90" not in page.locator("#check-1-duplicates .strip title").text_content()
    assert "1 of 90 known" in page.locator("#check-1-duplicates .strip title").text_content()


def test_a_check_leads_to_its_history(open_page: Open) -> None:
    page = open_page()
    page.click("#check-1-duplicates a.check")
    assert page.inner_text("h1") == "duplicates of events: bad"
    assert page.locator(".chart").count() == 2
    page.get_by_role("link", name="1 hour").click()
    chart = page.locator(".chart").first
    assert chart.locator(".target").count() == 58, "a minute each"
    assert chart.locator(".limit").count() == chart.locator(".value").count() == chart.locator(".bad").count() == 1
    assert chart.locator("title").nth(20).text_content().startswith("windows ending 03 Mar 13:2")
    assert "1.1 %, limit 0.5 %; 1 bad" in chart.locator("title").nth(20).text_content()
    heads = page.locator("table.wrong th").all_inner_texts()
    assert [head.lower() for head in heads[:2]] == ["first window ending", "last window ending"]
    rows = [" ".join(row.split()) for row in page.locator("table.wrong tbody tr").all_inner_texts()]
    assert len(rows) == 3, "spells, not windows"
    assert rows[0].startswith("14:04:00 14:04:00 bad all rows")
    assert rows[1].startswith("13:35:00 13:40:00 6 windows error all rows engine files timed out")
    assert rows[2].startswith("13:27:00 13:29:00 3 windows bad all rows")


def test_a_band_is_drawn_where_there_is_one(open_page: Open, server: Server) -> None:
    page = open_page()
    page.goto(f"{server.url}check?dataset=events&check=density&span=1h")
    assert page.locator(".chart .band").count() == 1
    assert "usual 0.00081 to 0.00151" in page.locator(".chart title").first.text_content()
    page.goto(f"{server.url}check?dataset=events&check=density&span=7d")
    assert page.locator(".chart .band").count() == 1


def test_a_value_that_stands_alone_is_as_wide_as_its_bucket() -> None:
    hour = Window(NOW - timedelta(hours=2), NOW - timedelta(hours=1))
    alone = Bucket(hour, Counts(good=1), "rows", 360.0, 360.0, 360.0, None, (180.0, 540.0))
    drawn = chart([alone], Window(NOW - timedelta(days=1), NOW))
    assert '<path class="value" d="M916.7 64.0H958.3M937.5 64.0"/>' in drawn


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_both_pages_read_well_anywhere(told: Any, open_page: Open, server: Server, width: int, scheme: str) -> None:
    page = open_page(width, color_scheme=scheme)
    for address in (server.url, f"{server.url}check?dataset=events&check=unknown_ids", f"{server.url}?span=90d"):
        page.goto(address)
        page.evaluate("for (const list of document.querySelectorAll('details')) list.open = true")
        assert [(said, ratio) for said, ratio in page.evaluate(CONTRASTS) if ratio < 4.5] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_all_works_without_javascript(told: Any, open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    page.click("#check-1-unknown_ids a.check")
    page.get_by_role("link", name="7 days").click()
    # A click does not wait for the page that it leads to.
    page.locator(".chart").first.wait_for()
    assert page.locator(".chart").count() == 2
    page.get_by_role("link", name="status page").click()
    page.locator("#open-1").wait_for()


def test_hostile_names_are_names(open_page: Open, server: Server) -> None:
    page = open_page()
    page.click("#check-2-ingestion a.check")
    assert HOSTILE_DATASET in page.inner_text("h1")
    assert page.locator("img, script").count() == 0


@pytest.mark.parametrize(
    "asked",
    ["", "?dataset=events", "?dataset=nope&check=density", "?dataset=events&check=nope", "?dataset=%00&check=%ff"],
)
def test_a_check_that_is_not_there_is_not_found(server: Server, asked: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}check{asked}")
    with refused.value:
        assert refused.value.code == 404
        assert b"?dataset=...&check=..." in refused.value.read()


def test_a_check_that_never_ran_has_a_page(server: Server) -> None:
    asked = urllib.parse.urlencode({"dataset": "nightly", "check": "density", "span": "nonsense"})
    with urllib.request.urlopen(f"{server.url}check?{asked}") as answer:
        said = answer.read().decode()
    assert "switched off in the configuration" in said
    assert "Nothing was measured in this time." in said


# -- large ------------------------------------------------------------------------------------

DATASETS, DAYS = 25, 90
SUBJECTS = {
    "unknown_ids": ('{"entity":"item"}', '{"entity":"user"}'), "contract": ("{}", '{"feature":"schema"}'),
    "duplicates": ("{}", '{"feature":"semantic"}'), "feature_drift": ('{"feature":"a"}', '{"feature":"b"}'),
}  # fmt: skip
MEASURES = {"freshness": "lag_seconds", "density": "density", "feature_drift": "psi", "popularity": "js_distance"}
CHECKS = ("freshness", "ingestion", "contract", "unknown_ids", "duplicates", "density", "feature_drift", "popularity")


def rows() -> Iterator[tuple[Any, ...]]:
    """Yield an hourly verdict of each subject of 200 checks over 90 days."""
    hour, last = timedelta(hours=1), NOW.replace(minute=0, second=0)
    for dataset in range(DATASETS):
        for check in CHECKS:
            measure = MEASURES.get(check, "bad_ratio")
            for subject in SUBJECTS.get(check, ("{}",)):
                for n in range(24 * DAYS):
                    end = micros(last - n * hour)
                    outcome = "bad" if n % 97 == dataset else "good"
                    yield (
                        "shop", f"events{dataset}", check, end, end - micros(last) + micros(last - hour), subject,
                        outcome, measure, 0.01 * (n % 24), 0.3, 99, 100, "as usual", "{}", end + 5_000_000,
                    )  # fmt: skip


ROLL_UP = """
INSERT INTO rollups SELECT pipeline, dataset, check_id, {0}, (end_us - 1) / {0}000000 * {0}000000, subject,
  SUM(outcome = 'good'), SUM(outcome = 'bad'), 0, 0, MAX(measure), MIN(value), MAX(value), MAX(end_us), MAX(value), 0.3,
  NULL, NULL FROM verdicts WHERE end_us > {1} GROUP BY pipeline, dataset, check_id, 5, subject
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Watched]]:
    folder = tmp_path_factory.mktemp("large")
    config = Config.model_validate(
        {
            "pipeline": "shop",
            "datasets": {f"events{n}": {"files": "*.csv", "roles": {"event_time": "at"}} for n in range(DATASETS)},
        }
    )
    pipeline = build(config)
    store = Store(f"sqlite:///{folder}/state.db", "shop")
    with closing(sqlite3.connect(folder / "state.db")) as connection, connection:
        connection.executemany(f"INSERT INTO verdicts VALUES ({','.join('?' * 15)})", rows())
        recent = micros(NOW - timedelta(days=9))
        connection.execute(ROLL_UP.format(3600, recent))
        connection.execute(ROLL_UP.format(86400, 0))
        connection.execute(
            "INSERT INTO runs SELECT DISTINCT pipeline, dataset, check_id, ?, ?, ?, 0.1, NULL FROM verdicts",
            [micros(NOW)] * 3,
        )
    yield store, Watched(config, pipeline.checks, {}, NOW, slos=pipeline.slos)
    store.close()
    pipeline.close()


def is_within(seconds: float, call: Callable[[], object]) -> bool:
    """Whether a call needs no more processor time, in one of some tries: load of the machine counts little."""
    for _ in range(5):
        started = time.thread_time()
        call()
        if time.thread_time() - started < seconds:
            return True
    return False


@pytest.mark.slow
def test_two_hundred_checks_of_ninety_days_are_quick(large: tuple[Store, Watched]) -> None:
    store, watched = large
    watched = replace(watched, disabled={})
    page = Page()
    for span in SPANS:
        found = overview(store, watched, NOW, None, span)
        assert sum(len(checks) for checks in found.status.datasets.values()) == DATASETS * len(CHECKS)
        assert len(found.timelines) == DATASETS * len(CHECKS)
        assert is_within(0.6, lambda span=span: page.render(overview(store, watched, NOW, None, span))), span.name
    clock = ManualClock(NOW)
    app = App(store, clock, lambda: watched, lambda: None, lambda: None)
    for span in ("1h", "24h", "7d", "90d"):
        environ = {
            "PATH_INFO": "/check", "REQUEST_METHOD": "GET",
            "QUERY_STRING": f"dataset=events3&check=feature_drift&span={span}",
        }  # fmt: skip
        said = b"".join(app(environ, lambda *_: None))
        assert said.count(b'class="chart"') == 2, span
        assert is_within(0.1, lambda environ=environ: app(environ, lambda *_: None)), span
