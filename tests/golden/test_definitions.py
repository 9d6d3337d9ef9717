"""The golden values of the definitions, and every way to write a time or an id, on each kind of engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.resolve import build
from monitor.runner import Runner

NOON = datetime(2026, 3, 3, 12, 0)
HOUR = Window(NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC) + timedelta(hours=1))
Rows = Sequence[tuple[Any, ...]]
Tables = Mapping[str, tuple[str, Rows]]
Judge = Callable[..., list[Verdict]]


def in_duckdb(folder: Path, tables: Tables) -> str:
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        for name, (columns, rows) in tables.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
            if rows:
                connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", list(rows))
    return f"duckdb:///{folder}/shop.duckdb"


def in_sqlite(folder: Path, tables: Tables) -> str:
    with sqlite3.connect(folder / "shop.sqlite") as connection:
        for name, (columns, rows) in tables.items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
            plain = [[str(value) if isinstance(value, date) else value for value in row] for row in rows]
            if plain:
                connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(plain[0]))})", plain)
    connection.close()
    return f"sqlite:///{folder}/shop.sqlite"


@pytest.fixture(params=[in_duckdb, in_sqlite], ids=["duckdb", "sqlite"])
def judge(request: pytest.FixtureRequest, tmp_path: Path) -> Judge:
    """Put rows into an engine and return what one check says of them."""

    def run(
        check: str, tables: Tables, datasets: Mapping[str, Any], window: Window = HOUR, **settings: Any
    ) -> list[Verdict]:
        url = request.param(tmp_path, tables)
        for name, dataset in datasets.items():
            dataset.setdefault("table", name)
        config = Config.model_validate(
            {"engines": {"shop": {"url": url}}, "datasets": datasets, "checks": {check: {"min_rows": 1, **settings}}}
        )
        pipeline = build(config)
        checks = [found for found in pipeline.checks["events"] if found.id == check]
        runner = Runner(pipeline, None, SystemClock())
        judged = runner.run("events", [(found, window) for found in checks])
        pipeline.close()
        verdicts = [verdict for found in judged for verdict in found.verdicts]
        assert [verdict.reason for verdict in verdicts if verdict.outcome is Outcome.ERROR] == []
        return verdicts

    return run


def minute(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


# -- 1 freshness -----------------------------------------------------------------------------------


def test_freshness(judge: Judge) -> None:
    """Rows at 12:00, 12:04 and 13:00; now 12:06, tolerance 60 s: lag 120 s, one row from the future."""
    tables = {"events": ("ts TIMESTAMP", [(minute(0),), (minute(4),), (minute(60),)])}
    now = minute(6).replace(tzinfo=UTC)
    found = judge(
        "freshness", tables, {"events": {"roles": {"event_time": "ts"}}}, Window(now - timedelta(hours=1), now)
    )
    assert (found[0].value, found[0].details["future"]) == (120.0, 1)
    assert found[0].outcome is Outcome.GOOD


def test_an_empty_feed_is_not_a_stale_one(judge: Judge) -> None:
    found = judge("freshness", {"events": ("ts TIMESTAMP", [])}, {"events": {"roles": {"event_time": "ts"}}})
    assert (found[0].outcome, found[0].value) == (Outcome.UNKNOWN, None)
    assert "no row at all" in found[0].reason


def test_a_feed_that_is_silent_since_long_is_found(judge: Judge) -> None:
    tables = {"events": ("ts TIMESTAMP", [(minute(-6_000),)])}
    found = judge("freshness", tables, {"events": {"roles": {"event_time": "ts"}}})
    assert (found[0].outcome, found[0].value) == (Outcome.BAD, 6_060 * 60.0)


# -- 2 ingestion -----------------------------------------------------------------------------------


def test_ingestion(judge: Judge) -> None:
    """Sent 1000, landed 985 of which 3 invalid, rejected 10: good 982, total 1000, silent drop 5."""
    landed = [(minute(1), -1.0 if n < 3 else 1.0) for n in range(985)]
    tables = {
        "events": ("ts TIMESTAMP, price DOUBLE", landed),
        "sent": ("ts TIMESTAMP, n INTEGER", [(minute(1), 400), (minute(2), 600)]),
        "rejected": ("ts TIMESTAMP", [(minute(1),)] * 10),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "value": "price"}, "sent": "sent", "rejected": "rejected"},
        "sent": {"roles": {"event_time": "ts", "value": "n"}},
        "rejected": {"roles": {"event_time": "ts"}},
    }
    found = judge("ingestion", tables, datasets)[0]
    assert (found.good, found.total, found.details["silent_drop"]) == (982, 1000, 5)
    assert (found.outcome, found.details["rejected"], found.details["invalid"]) == (Outcome.BAD, 10, 3)


def test_more_landed_than_sent_is_a_surplus_and_no_success_above_one(judge: Judge) -> None:
    tables = {"events": ("ts TIMESTAMP", [(minute(1),)] * 12), "sent": ("ts TIMESTAMP", [(minute(1),)] * 10)}
    datasets = {"events": {"roles": {"event_time": "ts"}, "sent": "sent"}, "sent": {"roles": {"event_time": "ts"}}}
    found = judge("ingestion", tables, datasets)[0]
    assert (found.good, found.total, found.details["surplus"]) == (10, 10, 2)


# -- 3 unknown ids ---------------------------------------------------------------------------------

ITEMS = ["A"] * 5 + ["B"] * 2 + ["X"] * 2 + [None]


def test_unknown_ids(judge: Judge) -> None:
    """Items A A A A A B B X X null of a catalogue {A, B}: bad 3, missing 1, unknown 2, distinct 1."""
    tables = {
        "events": ("ts TIMESTAMP, item VARCHAR", [(minute(1), item) for item in ITEMS]),
        "catalogue": ("item VARCHAR", [("A",), ("B",)]),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "item": "item"}, "items": "catalogue"},
        "catalogue": {"roles": {"item": "item"}},
    }
    found = judge("unknown_ids", tables, datasets)[0]
    assert (found.total, found.good, found.value) == (10, 7, 0.3)
    assert found.details["causes"] == {"missing": 1, "malformed": 0, "unknown": 2, "retired": 0}
    assert found.details["distinct_unknown"] == 1


def test_causes_in_their_order_as_the_catalogue_stood(judge: Judge) -> None:
    events = [
        (minute(30), "ok"), (minute(30), " NULL "), (minute(30), ""), (minute(30), "bad id!"), (minute(30), "late"),
        (minute(30), "soon"), (minute(30), "gone"), (minute(10), "gone"),
    ]  # fmt: skip
    catalogue = [
        ("ok", minute(-60), None),
        ("late", minute(45), None),
        ("soon", minute(35), None),
        ("gone", minute(-60), minute(20)),
    ]
    tables = {
        "events": ("ts TIMESTAMP, item VARCHAR", events),
        "catalogue": ("item VARCHAR, since TIMESTAMP, until TIMESTAMP", catalogue),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "item": "item"}, "items": "catalogue"},
        "catalogue": {"roles": {"item": "item", "valid_from": "since", "valid_to": "until"}},
    }
    found = judge("unknown_ids", tables, datasets, item_pattern="[a-z]+", catalogue_grace="10m")[0]
    assert found.details["causes"] == {"missing": 2, "malformed": 1, "unknown": 1, "retired": 1}


@pytest.mark.parametrize(
    ("kind", "known", "seen", "unknown"),
    [
        ("BIGINT", [-(2**63), 2**63 - 1, 7], [-(2**63), 2**63 - 1, 2**63 - 2, 7], 1),
        ("VARCHAR", ["007", "a'b", 'c"d', "e;--", "ü"], ["007", "7", "a'b", 'c"d', "e;--", "ü"], 1),
    ],
)
def test_ids_survive_exactly(judge: Judge, kind: str, known: list[Any], seen: list[Any], unknown: int) -> None:
    tables = {
        "events": (f"ts TIMESTAMP, item {kind}", [(minute(1), item) for item in seen]),
        "catalogue": (f"item {kind}", [(item,) for item in known]),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "item": "item"}, "items": "catalogue"},
        "catalogue": {"roles": {"item": "item"}},
    }
    found = judge("unknown_ids", tables, datasets)[0]
    assert found.details["causes"]["unknown"] == unknown


def test_ids_of_two_types_are_compared_as_text(judge: Judge) -> None:
    tables = {
        "events": ("ts TIMESTAMP, item BIGINT", [(minute(1), 7), (minute(1), 8)]),
        "catalogue": ("item VARCHAR", [("7",), ("008",)]),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "item": "item"}, "items": "catalogue"},
        "catalogue": {"roles": {"item": "item"}},
    }
    assert judge("unknown_ids", tables, datasets)[0].details["causes"]["unknown"] == 1


# -- 4 duplicates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "splits"),
    [
        ([], {"same_window": 2, "retry": 0, "replay": 0}),
        ([(minute(-5), "a")], {"same_window": 0, "retry": 3, "replay": 0}),
        ([(minute(-50), "a")], {"same_window": 0, "retry": 0, "replay": 3}),
        ([(minute(-50), "z")], {"same_window": 2, "retry": 0, "replay": 0}),
    ],
)
def test_duplicates(judge: Judge, before: Rows, splits: dict[str, int]) -> None:
    """(a, a, a, b) is 2 surplus copies of 4 rows; with a first seen in the window before, 3 of 4."""
    rows = [*before, (minute(1), "a"), (minute(2), "a"), (minute(3), "a"), (minute(4), "b"), (minute(5), None)]
    tables = {"events": ("ts TIMESTAMP, id VARCHAR", rows)}
    found = judge("duplicates", tables, {"events": {"roles": {"event_time": "ts", "event_id": "id"}}})[0]
    assert {name: found.details[name] for name in splits} == splits
    assert (found.total, found.value) == (4, sum(splits.values()) / 4)
    assert found.details["no_event_id"] == 1


def test_semantic_repeats_are_found_across_every_grid_line(judge: Judge) -> None:
    rows = []
    for place, second in enumerate((0.0, 58.5, 59.9, 60.0, 119.5)):
        at = NOON + timedelta(seconds=60 * place * 3 + second)
        rows += [(at, f"{place}a", "u", f"i{place}"), (at + timedelta(seconds=1.5), f"{place}b", "u", f"i{place}")]
        rows += [(at + timedelta(seconds=9), f"{place}c", "u", f"i{place}")]
    tables = {"events": ("ts TIMESTAMP, id VARCHAR, u VARCHAR, i VARCHAR", rows)}
    roles = {"event_time": "ts", "event_id": "id", "user": "u", "item": "i"}
    found = {verdict.feature: verdict for verdict in judge("duplicates", tables, {"events": {"roles": roles}})}
    assert found["semantic"].details["semantic"] == 5
    assert found[None].details["surplus"] == 0


# -- 5 density, 6 popularity -----------------------------------------------------------------------


def test_density_and_its_context(judge: Judge) -> None:
    rows = [(minute(1), user, item) for user, item in ("aX", "aX", "aY", "bX", "cZ")]
    rows += [(minute(1), None, "X"), (minute(1), "d", None), (minute(-30), "a", "X")]
    tables = {
        "events": ("ts TIMESTAMP, u VARCHAR, i VARCHAR", rows),
        "users": ("u VARCHAR", [(user,) for user in "abcdefgh"]),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "user": "u", "item": "i"}, "users": "users"},
        "users": {"roles": {"user": "u"}},
    }
    details = judge("density", tables, datasets)[0].details
    assert (details["cells"], details["users"], details["items"], details["catalogue_users"]) == (4, 4, 3, 8)
    assert details["density"] == pytest.approx(4 / 12)
    assert (details["events_per_user_p50"], details["events_per_user_p90"]) == (1, 3)
    assert details["cold_user_share"] == pytest.approx(3 / 4)
    assert details["cold_item_share"] == pytest.approx(2 / 3)


def test_gini_over_the_whole_catalogue(judge: Judge) -> None:
    """200 items seen equally often of a catalogue of 100,000: Gini 0.998, effective size 200, coverage 0.002."""
    size = 2_000
    tables = {
        "events": ("ts TIMESTAMP, i INTEGER", [(minute(1), n % 4 + 1) for n in range(40)]),
        "items": ("i INTEGER", [(n + 1,) for n in range(size)]),
    }
    datasets = {
        "events": {"roles": {"event_time": "ts", "item": "i"}, "items": "items"},
        "items": {"roles": {"item": "i"}},
    }
    details = judge("popularity", tables, datasets)[0].details
    # The same shares as in the definition, on a fiftieth of its catalogue.
    assert details["gini"] == pytest.approx(0.998)
    assert details["effective_items"] == pytest.approx(4)
    assert details["coverage"] == pytest.approx(0.002)


# -- 7 contract ------------------------------------------------------------------------------------


def test_an_invalid_row_counts_once_under_its_first_rule(judge: Judge) -> None:
    rows = [
        (minute(1), minute(1), 1.0, 3),
        (minute(1), minute(1), -1.0, 9),
        (minute(1), minute(1), float("inf"), 3),
        (datetime(1970, 1, 1), minute(1), 1.0, 3),
        (minute(50), minute(1), -1.0, 9),
        (None, minute(1), 1.0, 3),
        (minute(1), minute(1), None, 9),
    ]
    tables = {"events": ("ts TIMESTAMP, seen TIMESTAMP, price DOUBLE, stars INTEGER", rows)}
    roles = {"event_time": "ts", "ingested_at": "seen", "value": "price"}
    found = judge("contract", tables, {"events": {"roles": roles}}, ranges={"stars": [1, 5]})[0]
    assert found.details["rules"] == {
        "event_time_missing": 1,
        "event_time_before_floor": 1,
        "event_time_in_future": 1,
        "value_not_finite": 1,
        "value_negative": 1,
        "stars_out_of_range": 1,
    }
    assert (found.good, found.total) == (1, 7)


# -- times -----------------------------------------------------------------------------------------

MOMENTS = [minute(n) for n in (-1, 0, 10, 59.99, 60)]
SECONDS = [(moment - datetime(1970, 1, 1)).total_seconds() for moment in MOMENTS]
TIMES: dict[str, tuple[str, list[Any]]] = {
    "timestamp": ("TIMESTAMP", MOMENTS),
    "seconds": ("BIGINT", [int(second) for second in SECONDS]),
    "milliseconds": ("BIGINT", [round(second * 1e3) for second in SECONDS]),
    "microseconds": ("BIGINT", [round(second * 1e6) for second in SECONDS]),
    "seconds as floats": ("DOUBLE", SECONDS),
    "milliseconds as floats": ("DOUBLE", [second * 1e3 for second in SECONDS]),
    "text": ("VARCHAR", [f"{moment.isoformat()}Z" for moment in MOMENTS]),
    "text with an offset": (
        "VARCHAR",
        [(moment + timedelta(hours=2)).isoformat(sep=" ", timespec="milliseconds") + "+02:00" for moment in MOMENTS],
    ),
}


@pytest.mark.parametrize("written", TIMES)
def test_a_time_may_be_written_in_any_usual_way(judge: Judge, written: str) -> None:
    """Three of five rows lie in [12:00, 13:00), whatever the column is."""
    kind, values = TIMES[written]
    tables = {"events": (f"ts {kind}, id VARCHAR", [(value, str(n)) for n, value in enumerate(values)])}
    roles = {"event_time": "ts", "event_id": "id"}
    found = judge("duplicates", tables, {"events": {"roles": roles}})[0]
    assert found.total == 3


def test_zoned_timestamps_and_dates(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "zoned.duckdb")) as connection:
        connection.execute("CREATE TABLE events (ts TIMESTAMPTZ, day DATE, id INTEGER)")
        connection.execute("INSERT INTO events VALUES ('2026-03-03 14:30:00+02:00', '2026-03-03', 1)")
        connection.execute("INSERT INTO events VALUES ('2026-03-03 14:30:00+00:00', '2026-03-04', 2)")
    for column, window in (("ts", HOUR), ("day", Window(HOUR.start - timedelta(hours=12), HOUR.end))):
        config = Config.model_validate(
            {
                "engines": {"shop": {"url": f"duckdb:///{tmp_path}/zoned.duckdb"}},
                "datasets": {"events": {"table": "events", "roles": {"event_time": column, "event_id": "id"}}},
            }
        )
        pipeline = build(config)
        checks = [check for check in pipeline.checks["events"] if check.id == "duplicates"]
        judged = Runner(pipeline, None, SystemClock()).run("events", [(checks[0], window)])
        assert judged[0].verdicts[0].total == 1, judged[0].verdicts[0].reason


def test_hostile_names_are_only_names(judge: Judge) -> None:
    columns = '"it\'s; a ""time""" TIMESTAMP, "100% :id" VARCHAR, "user-item" VARCHAR'
    rows = [(minute(1), "a", "x"), (minute(2), "a", "x' OR 1=1 --")]
    roles = {"event_time": 'it\'s; a "time"', "event_id": "100% :id", "item": "user-item"}
    found = judge("duplicates", {"events": (columns, rows)}, {"events": {"roles": roles}})[0]
    assert (found.total, found.details["surplus"]) == (2, 1)
