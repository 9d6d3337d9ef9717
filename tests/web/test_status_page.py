"""The status page in a real browser: it can be read, by anyone, on anything, and runs nothing but its own."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.errors import StateError
from monitor.overview import SPANS, overview
from monitor.page import Page
from monitor.server import Server
from monitor.status import status
from monitor.store import Store
from tests.web.conftest import CONTRASTS

Open = Callable[..., Any]


def test_the_first_sentence_says_what_is_wrong(open_page: Open) -> None:
    page = open_page()
    said = page.inner_text("h1")
    assert said == "4 of 19 checks are bad: contract, unknown_ids, duplicates, feature_drift on events"
    assert page.title() == "4 bad \N{MIDDLE DOT} shop-recs \N{MIDDLE DOT} recwatch"
    assert "last computed 14:04:59 UTC, 9 s ago" in page.inner_text("header")
    assert page.get_attribute("html", "lang") == "en"


def test_every_check_is_listed_once_in_the_order_of_the_catalogue(open_page: Open) -> None:
    page = open_page()
    listed = page.locator("section").first.locator(".check").all_inner_texts()
    assert listed == [
        "freshness", "ingestion", "contract", "unknown_ids", "duplicates", "density", "feature_drift", "popularity",
    ]  # fmt: skip
    states = page.locator("section").first.locator("th .badge").all_inner_texts()
    assert states == ["good", "good", "bad", "bad", "bad", "error", "bad", "disabled"]


def test_a_check_tells_value_limit_reason_age_and_baseline(open_page: Open) -> None:
    page = open_page()
    users = " ".join(page.inner_text("#check-1-unknown_ids").split())
    said = r"ran 9 s ago, every 1 min .*user entity, bad 32\.\d % at most 1\.21 % allowing for chance at 11,902 events"
    assert re.search(said, users)
    assert "0.5004 % at most 0.5 %" in " ".join(page.inner_text("#check-1-duplicates").split())
    contract = " ".join(page.inner_text("#check-1-contract").split())
    assert "reference of 6 d 21 h, built 3 h ago, pinned" in contract
    assert "add_to_wishlist_from_search" in contract
    density = " ".join(page.inner_text("#check-1-density").split())
    assert "last worked 9 min ago" in density
    assert "postgresql://recwatch:***@warehouse" in density
    assert "needs the role item" in page.inner_text("#check-1-popularity")
    assert "switched off in the configuration" in page.inner_text("#check-3-density")
    assert "overdue, so this is old" in page.inner_text("#check-3-freshness")
    assert "hunter2" not in page.content()


def test_sources_come_worst_first_and_the_good_ones_on_request(open_page: Open) -> None:
    page = open_page()
    rows = page.locator("#check-1-unknown_ids > tr .subject:visible").all_inner_texts()
    assert rows == ["user", "item", "user ios"]
    rest = page.locator("#rest-1-unknown_ids")
    assert rest.locator("summary").inner_text() == "3 more sources: good"
    rest.locator("summary").click()
    assert rest.locator(".subject:visible").all_inner_texts() == ["user android", "user web", "item ios"]


def test_trends_mark_what_was_bad_and_leave_gaps(open_page: Open) -> None:
    page = open_page()
    trend = page.locator("#check-1-duplicates .trend").first
    assert trend.locator(".over").count() == 2, "three minutes an hour ago, and the last one"
    assert trend.locator(".error").count() == 6
    assert trend.locator(".value").count() == 2, "the line is broken where the check could not run"
    assert trend.locator(".limit").count() == 1
    said = trend.locator("title").text_content()
    assert said.startswith("last 60 windows, 13:05 to 14:04 UTC: 50 good, 4 bad, 6 error;")


def test_hostile_names_are_text(open_page: Open) -> None:
    page = open_page()
    assert page.locator("h2").nth(1).inner_text() == 'dataset clicks"><script>alert(1)</script>'
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    page.locator("#rest-1-freshness summary").click()
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#rest-1-freshness")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_every_text_has_enough_contrast_and_nothing_overflows(
    open_page: Open, made: Any, scheme: str, width: int
) -> None:
    made.watched = replace(made.watched, read_problem="recwatch.yml:3:1: datset: unknown key")
    page = open_page(width, color_scheme=scheme)
    page.evaluate("for (const list of document.querySelectorAll('details')) list.open = true")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [(said, round(ratio, 2)) for said, ratio in contrasts if ratio < 4.5] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) > 128) is (scheme == "light")


def test_states_differ_by_word_and_shape_too(open_page: Open) -> None:
    page = open_page()
    shapes = page.evaluate("[...document.querySelectorAll('symbol')].map(s => [s.id, s.innerHTML])")
    assert len({drawn for _name, drawn in shapes}) == len(shapes) == 7
    for badge in page.locator("th .badge").all():
        word = badge.inner_text()
        assert badge.locator("use").get_attribute("href") == f"#mark-{word}"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_screen_reader_finds_tables_rows_and_headers(open_page: Open, width: int) -> None:
    """Also on a phone, where the tables are drawn as cards."""
    page = open_page(width)
    table = page.get_by_role("table", name="dataset events")
    assert table.get_by_role("columnheader").all_inner_texts() == ["Check", "About", "Found", "Trend", "In words"]
    assert table.get_by_role("rowheader").count() == 8
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).count() == 4
    assert page.get_by_role("img", name=re.compile("last 60 windows")).count() > 5


def test_it_works_without_javascript_and_then_reloads_itself(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert "4 of 19 checks are bad" in page.inner_text("h1")
    page.click("#rest-1-freshness summary")
    assert page.is_visible("#rest-1-freshness ul")
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "20"


def test_it_refreshes_in_place_and_leaves_open_what_is_open(open_page: Open, made: Any) -> None:
    page = open_page()
    page.click("#rest-1-freshness summary")
    made.watched = replace(made.watched, read_problem="recwatch.yml:3:1: datset: unknown key; did you mean dataset?")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_text("did you mean dataset?").wait_for()
    assert page.locator("#rest-1-freshness").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_a_page_that_can_not_be_renewed_says_so(browser: Any, server: Server) -> None:
    page = browser.new_page()
    page.goto(server.url)
    assert page.is_hidden("#lost")
    server.close()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.locator("#lost").wait_for(state="visible")
    assert "Not up to date since" in page.inner_text("#lost")
    page.close()


def test_all_good_is_said_in_one_sentence(made_fine: Any, open_page: Open) -> None:
    page = open_page()
    assert page.inner_text("h1") == "All 2 checks are good"
    assert page.title().startswith("all good")


def test_the_json_has_the_same_content(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}api/status") as answer:
        found = json.load(answer)
    assert found["sentence"].startswith("4 of 19 checks are bad")
    events = {check["check"]: check for check in found["datasets"]["events"]}
    assert events["unknown_ids"]["state"] == "bad"
    worst = events["unknown_ids"]["subjects"][0]
    assert (worst["kind"], worst["name"], worst["state"], worst["limit"]) == ("entity", "user", "bad", 0.0121)
    assert len(worst["trend"]) == 60
    kinds = {name: {subject["kind"] for subject in events[name]["subjects"]} for name in ("contract", "feature_drift")}
    assert kinds == {"contract": {"", "part"}, "feature_drift": {"feature"}}, "the schema is no feature of the data"
    assert "hunter2" not in json.dumps(found)


def test_a_lost_state_is_not_an_empty_page(server: Server, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Store) -> None:
        raise StateError("state sqlite:///state.db: cannot be read: disk I/O error")

    monkeypatch.setattr(Store, "latest", fail)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url)
    with refused.value:
        assert refused.value.code == 503
        assert b"disk I/O error" in refused.value.read()


def test_rendering_is_fast(made: Any, tmp_path: Path) -> None:
    """At most 50 ms for 24 checks with an hour of history: processor time, so that load counts little."""
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        for table in ("verdicts", "runs"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for name in ("more", "again"):
                values = ", ".join(f"'{name}'" if column == "dataset" else column for column in columns)
                connection.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE dataset = 'events'")
    checks = dict.fromkeys(("events", "more", "again"), made.watched.checks["events"])
    datasets = dict.fromkeys(checks, made.watched.config.datasets["events"])
    config = made.watched.config.model_copy(update={"datasets": datasets})
    watched = replace(made.watched, config=config, checks=checks, disabled={})
    page = Page()

    def typical() -> float:
        took = []
        for _ in range(20):
            started = time.thread_time()
            page.render(overview(made.store, watched, made.now, None, SPANS[0]))
            took.append(time.thread_time() - started)
        return sorted(took)[10]

    assert sum(bool(subject.trend) for checks in status(made.store, watched, made.now).datasets.values()
               for check in checks for subject in check.subjects) >= 30  # fmt: skip
    assert any(typical() < 0.05 for _ in range(3))
