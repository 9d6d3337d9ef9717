"""How much the state holds: old windows lose their listings, nothing that adds up, and the size is told."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from checks.check import Outcome, Sample, Verdict
from checks.measure import Merge, Tally
from checks.window import Window
from monitor import schema, state_size
from monitor.records import Judged, load_tally
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def window(number: int) -> Window:
    return Window(NOON + number * HOUR, NOON + (number + 1) * HOUR)


def judged(number: int, check: str = "popularity") -> Judged:
    span, ranked = window(number), [("ranked", str(item), float(item)) for item in range(1_000)]
    verdict = Verdict(check, "events", span, Outcome.GOOD, "js_distance", 0.0, 0.1, reason="fine")
    tally = Tally("events", span, {"rows": 7}, {"ios": {"rows": 7}}, {"interactions": ranked}, {"rows": Merge.SUM})
    counted = (Sample("recwatch_contract_rows_total", {"dataset": "events", "result": "valid"}, 7),)
    return Judged(check, "events", span, (verdict,), span.end, 0.1, tally, counted, figures={"density": 0.5 + number})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    return str(request.getfixturevalue("postgresql"))


def tallies(store: Store) -> dict[int, Tally]:
    with store.reading() as connection:
        rows = connection.execute(schema.windows.select().where(schema.windows.c.pipeline == store.pipeline)).all()
    return {round((row.start_us / 1e6 - NOON.timestamp()) / 3600): load_tally("events", row, row.tally) for row in rows}


def test_old_windows_keep_what_adds_up(url: str) -> None:
    with closing(Store(url, "compacted")) as store:
        for number in range(10):
            store.commit(judged(number))
        store.commit(judged(0, "density"))
        assert state_size.compact(store, window(6).end) == 6
        assert state_size.compact(store, window(6).end) == 0
        kept = {number: bool(tally.listings) for number, tally in tallies(store).items() if number}
        assert kept == {number: number >= 6 for number in range(1, 10)}
        old = tallies(store)
        assert [old[number].counts for number in (1, 2)] == [{"rows": 7}] * 2
        past = store.baseline("events", "popularity", window(9)).past
        assert past.values["density"] == [0.5 + number for number in range(10)], "bands lose nothing"
        newest = store.baseline("events", "density", window(5)).previous
        assert newest is not None
        assert newest.listings, "the newest window of a check is looked at again, however old it is"


def test_a_compacted_window_is_judged_again_as_any_other(url: str) -> None:
    with closing(Store(url, "again")) as store:
        for number in range(3):
            store.commit(judged(number))
        state_size.compact(store, window(5).end)
        before = store.counters()
        store.commit(judged(1))
        assert store.counters() == before
        assert tallies(store)[1].listings


def test_the_state_stays_within_bounds(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as store:
        sizes = []
        for number in range(120):
            store.commit(judged(number))
            store.prune(window(number).end - 30 * HOUR)
            state_size.compact(store, window(number).end - 6 * HOUR)
            sizes.append(state_size.size_bytes(store))
        assert sizes[-1] <= 1.1 * sizes[40], "as many windows come as go"
        assert state_size.rows(store)["windows"] == 31


def test_the_size_is_told(url: str) -> None:
    with closing(Store(url, "told")) as store:
        before = state_size.rows(store)["windows"]
        for number in range(5):
            store.commit(judged(number))
        assert state_size.rows(store)["windows"] == before + 5
        assert state_size.size_bytes(store) > 20_000
