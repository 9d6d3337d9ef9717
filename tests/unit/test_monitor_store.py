"""The state: one transaction a window, counters that neither skip nor double, baselines."""

from __future__ import annotations

import inspect
import json
import random
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from checks import CATALOGUE
from checks.baseline import BandSettings
from checks.check import Check, Outcome, Sample, Verdict
from checks.measure import Merge, Tally
from checks.rows import LONGEST_SOURCE
from checks.window import Window, micros
from monitor import schema
from monitor.clock import ManualClock
from monitor.errors import StateError
from monitor.records import Judged, SavedBaseline
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
COUNTER = "recwatch_contract_rows_total"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    yield store
    store.close()


def window(number: int) -> Window:
    return Window(NOON + number * MINUTE, NOON + (number + 1) * MINUTE)


def judged(number: int, rows: int = 100, outcome: Outcome = Outcome.GOOD, **changes: object) -> Judged:
    span = window(number)
    verdict = Verdict("contract", "events", span, outcome, "invalid_ratio", 0.0, 0.001, rows, rows, "fine")
    tally = Tally("events", span, {"rows": rows}, {"ios": {"rows": rows}}, {"values": [("a", 1)]}, {"rows": Merge.SUM})
    counted = (Sample(COUNTER, {"dataset": "events", "result": "valid"}, rows),)
    gauges = (Sample("recwatch_matrix_users", {"dataset": "events", "matrix": "active"}, 7.0),)
    found = Judged("contract", "events", span, (verdict,), span.end, 0.1, tally, counted, gauges, {"rows": rows})
    return replace(found, **changes)  # type: ignore[arg-type]


def counted(store: Store) -> float:
    return sum(sample.value for sample in store.counters() if sample.metric == COUNTER)


def test_a_new_counter_is_first_seen_at_zero(store: Store) -> None:
    store.commit(judged(0, rows=100))
    assert counted(store) == 0, "Prometheus must see 0 before it sees the first events"
    store.commit(judged(1, rows=10))
    assert counted(store) == 110


def test_the_first_count_of_a_series_does_not_wait_for_a_second(store: Store) -> None:
    def release(minute: int) -> float:
        with store.writing() as connection:
            store.release(connection, NOON + minute * MINUTE)
        return counted(store)

    store.commit(judged(0))
    assert [release(minute) for minute in (0, 1, 2, 3)] == [0, 0, 100, 100], "a scrape has to see the 0 first"
    store.commit(judged(1))
    assert [counted(store), release(4)] == [200, 200]


def test_a_window_judged_again_counts_once(store: Store) -> None:
    for number, rows in ((0, 100), (1, 10), (1, 10), (1, 10)):
        store.commit(judged(number, rows))
    assert counted(store) == 110


def test_late_rows_add_their_difference_and_a_counter_never_falls(store: Store) -> None:
    for rows in (100, 130, 90, 130):
        store.commit(judged(0, rows))
    assert counted(store) == 130
    assert store.latest()[0].total == 130


def test_a_crash_within_a_commit_leaves_nothing_of_the_window(store: Store) -> None:
    store.commit(judged(0))

    def crash(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO runs"):
            raise sa.exc.OperationalError("killed", {}, Exception("killed"))

    sa.event.listen(store._engine, "before_cursor_execute", crash)
    with pytest.raises(StateError, match="cannot be written"):
        store.commit(judged(1))
    sa.event.remove(store._engine, "before_cursor_execute", crash)
    assert store.watermarks("events")["contract"] == window(0).end
    assert [verdict.window for verdict in store.latest()] == [window(0)]
    store.commit(judged(1))
    assert counted(store) == 200


def test_a_round_is_written_as_one_or_not_at_all(store: Store) -> None:
    store.commit(judged(0), judged(1, 10))
    assert counted(store) == 110
    with pytest.raises(OverflowError):
        store.commit(judged(2), judged(3, 2**70))
    assert (counted(store), store.watermarks("events")["contract"]) == (110, window(1).end)


def test_an_error_keeps_the_watermark_and_is_remembered(store: Store) -> None:
    store.commit(judged(0))
    error = Verdict("contract", "events", window(1), Outcome.ERROR, "none", reason="engine files timed out")
    failed = Judged("contract", "events", window(1), (error,), window(1).end, 30.0, advances=False)
    store.commit(failed)
    run = store.runs()[0]
    assert (run.watermark, run.succeeded_at, run.error) == (window(0).end, window(0).end, "engine files timed out")
    store.commit(judged(1))
    assert store.runs()[0].error is None
    assert store.watermarks("events")["contract"] == window(1).end


def test_baselines_hold_accepted_windows_before_the_tested_one_only(store: Store) -> None:
    for number in range(5):
        store.commit(judged(number, rows=number, outcome=Outcome.BAD if number == 2 else Outcome.GOOD))
    past = store.baseline("events", "contract", window(4)).past
    assert list(past.values["rows"]) == [0, 1, 3, 4]
    band_ends = [end for end in past.ends if end <= window(4).start]
    assert len(band_ends) == 3, "the tested window is kept out by the band itself"
    assert store.baseline("events", "contract", window(4)).previous.window == window(3)  # type: ignore[union-attr]
    without = store.baseline("events", "contract", window(4), with_past=False)
    assert (list(without.past.ends), without.previous) == ([], store.baseline("events", "contract", window(4)).previous)


def test_windows_are_held_against_those_of_their_own_length(store: Store) -> None:
    for number in range(5):
        store.commit(judged(number, rows=number))
    wide = Window(window(0).start, window(2).end)
    after = Window(window(4).end, window(4).end + wide.duration)
    assert list(store.baseline("events", "contract", after).past.values) == []
    store.commit(replace(judged(1, rows=300), window=wide))
    assert list(store.baseline("events", "contract", after).past.values["rows"]) == [300]


def test_windows_of_a_minute_are_held_against_the_same_hour_of_weeks_before(store: Store) -> None:
    """The newest alone reach back to yesterday."""
    minutes = range(1, 15 * 24 * 60)
    rows = [
        {
            "pipeline": "shop", "dataset": "events", "check_id": "contract", "version": 1, "accepted": True,
            "tally": "", "increments": "", "start_us": micros(end - MINUTE), "end_us": micros(end),
            "figures": json.dumps({"rows": 900 if (end.weekday(), end.hour) == (1, 12) else 10}),
        }
        for end in (NOON - minute * MINUTE for minute in minutes)
    ]  # fmt: skip
    with store.writing() as connection:
        connection.execute(schema.windows.insert(), rows)
    baseline = store.baseline("events", "contract", window(4), with_previous=False)
    assert list(baseline.past.ends) == sorted(set(baseline.past.ends))
    assert len(baseline.past.ends) < 2_500
    band = baseline.band("rows", window(4), BandSettings(8, 5.0, 0.5, 0.0))
    assert band is not None
    assert (band.comparable, band.centre, band.windows) == ("same hour of the week", 900, 120)


@pytest.mark.parametrize("check", CATALOGUE, ids=lambda check: check.id)
def test_a_check_is_given_its_past_if_it_looks_for_what_is_normal(check: type[Check[Any]]) -> None:
    assert ("baseline.band(" in inspect.getsource(check)) == bool(check.history)


def test_a_reference_survives_as_it_was(store: Store) -> None:
    tally = judged(0).tally
    assert tally is not None
    saved = SavedBaseline("events", "contract", window(0), NOON, False, {"columns": {"b": "INT", "a": "TEXT"}}, tally)
    store.save_baseline(saved)
    assert store.saved_baseline("events", "contract") == saved
    assert store.pin_baseline("events", "contract", True)
    assert store.saved_baseline("events", "contract").pinned  # type: ignore[union-attr]
    assert store.drop_baseline("events", "contract")
    assert store.saved_baseline("events", "contract") is None
    assert not store.pin_baseline("events", "contract", True)


def test_what_was_dropped_stays_so_when_late_rows_come(store: Store) -> None:
    store.commit(judged(0))
    store.commit(judged(1, outcome=Outcome.BAD))
    assert store.drop_baseline("events", "contract")
    for number in range(2):
        store.commit(judged(number, rows=130))
    assert store.accepted_windows("events", "contract") == 0
    store.commit(judged(2, outcome=Outcome.BAD))
    store.commit(judged(2, rows=130))
    store.commit(judged(3))
    assert store.accepted_windows("events", "contract") == 2, "a bad window that late rows made good is accepted"


def test_pruning_forgets_old_windows_and_keeps_counters(store: Store) -> None:
    for number in range(4):
        store.commit(judged(number))
    assert store.prune(window(2).end) == 4, "two windows, each with one verdict"
    assert counted(store) == 400


def test_pipelines_in_one_database_do_not_mix(store: Store, tmp_path: Path) -> None:
    other = Store(f"sqlite:///{tmp_path}/state.db", "news")
    store.commit(judged(0))
    assert other.latest() == []
    assert other.watermarks("events") == {}
    other.close()


def test_two_writers_wait_for_each_other(store: Store, tmp_path: Path) -> None:
    other = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    for number in range(20):
        (store if number % 2 else other).commit(judged(number))
    assert counted(store) == 2_000
    other.close()


@pytest.mark.parametrize(
    ("schema_version", "todo"), [(99, "upgrade recwatch"), (3, "move it away, and a new one is begun")]
)
def test_a_state_of_another_schema_is_refused_and_left_as_it_is(
    store: Store, tmp_path: Path, schema_version: int, todo: str
) -> None:
    store.commit(judged(0))
    store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute(f"UPDATE meta SET value = '{schema_version}' WHERE key = 'schema_version'")
        connection.execute("DROP TABLE leases")
        before = list(connection.iterdump())
    url = f"sqlite:///{tmp_path}/state.db"
    known = f"is of schema {schema_version}, this recwatch knows {schema.VERSION}"
    said = re.escape(f"state {url}: {known}; {todo}, or point state at another database")
    for clock in (None, ManualClock(NOON)):
        with pytest.raises(StateError, match=said):
            Store(url, "shop", clock)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert list(connection.iterdump()) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"state.db", "state.db-wal", "state.db-shm"}


def test_long_names_fit_into_a_state_on_postgresql(postgresql: str) -> None:
    with closing(Store(postgresql, "p" * 64)) as store:
        store.set_note("sources:" + "d" * 60, ["ios"])
        assert store.note("sources:" + "d" * 60) == ["ios"]
        found = judged(0)
        # Such that an index cannot make it smaller.
        name = "".join(random.Random(1).choices([chr(code) for code in range(0x3041, 0x9000)], k=LONGEST_SOURCE))
        verdict = replace(found.verdicts[0], feature="f" * 100, source=name)
        store.commit(replace(found, verdicts=(found.verdicts[0], verdict)))


def test_a_database_that_cannot_be_opened_says_so_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        Store("postgresql+psycopg://watch:s3cret@127.0.0.1:1/none", "shop")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StateError, match="cannot be opened"):
        Store(f"sqlite:///{tmp_path}/no/such/folder/state.db", "shop")


def test_a_server_that_cannot_be_reached_is_no_path() -> None:
    with pytest.raises(
        StateError, match=r"cannot be opened: .* refused; check the server, its address and the account$"
    ):
        Store("postgresql://u@127.0.0.1:1/x", "shop")


def test_what_is_read_together_is_of_one_moment_to_one_thread(store: Store, tmp_path: Path) -> None:
    other = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    elsewhere: list[object] = []
    with store.one_moment():
        assert store.note("told") is None
        other.set_note("told", 1)
        assert store.note("told") is None
        thread = threading.Thread(target=lambda: elsewhere.append(store.note("told")))
        thread.start()
        thread.join()
        assert elsewhere == [1], "another thread reads for itself"
    assert store.note("told") == 1
    other.set_note("told", 2)
    with pytest.raises(StateError, match="no such table"), store.one_moment(), store.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert store.note("told") == 2, "after a failure, too"
    other.close()


def test_threads_of_one_process_take_turns_at_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    first, second = Store(url, "first"), Store(url, "second")
    began, done = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        second.set_note("at", 1)
        done.set()

    with first.writing():
        other = threading.Thread(target=write)
        other.start()
        assert began.wait(20)
        assert not done.is_set()
        assert second.note("at") is None, "who reads waits for nobody"
    assert done.wait(20)
    other.join()
    assert second.note("at") == 1
    monkeypatch.setattr(schema, "_LONGEST_WAIT_SECONDS", 0.0)
    with first.writing():
        failed: list[StateError] = []

        def fail() -> None:
            try:
                second.set_note("at", 2)
            except StateError as error:
                failed.append(error)

        other = threading.Thread(target=fail)
        other.start()
        other.join()
    assert "another write has gone on for too long" in str(failed[0])
    for store in (first, second):
        store.close()
