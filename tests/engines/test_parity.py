"""Every check on every engine, over the same rows: the results must be equal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import DATETIME

from checks import CATALOGUE
from checks.check import Outcome
from checks.window import Window
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.engines import connect
from monitor.faults import Fault
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAULTY = START + 9 * MINUTE
TABLES = ("events", "items", "users", "sent", "rejected")
ROLES = {
    "events": {
        "event_id": "event_id",
        "user": "user_id",
        "item": "item_id",
        "event_type": "event_type",
        "event_time": "event_time",
        "ingested_at": "ingested_at",
        "value": "value",
        "source": "source",
        "cohort": "cohort",
    },
    "items": {"item": "item_id", "valid_from": "created_at", "valid_to": "retired_at"},
    "users": {"user": "user_id", "valid_from": "created_at"},
    "sent": {"event_time": "bucket_start", "source": "source", "value": "sent"},
    "rejected": {"event_time": "event_time", "source": "source"},
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Eleven made minutes with every kind of dirt, the last two of them faulty."""
    folder = tmp_path_factory.mktemp("parity")
    stream = Stream(StreamSettings(events_per_second=20, users=2_000, items=300))
    kinds = ("missing_users", "unknown_items", "retry_storm", "semantic_retry", "corrupt_values", "null_feature")
    faults = tuple(Fault(kind, FAULTY, FAULTY + 2 * MINUTE) for kind in (*kinds, "rejects"))
    LiveWriter(stream, folder, START, faults=faults).advance(START + 20 * MINUTE)
    found = {}
    with duckdb.connect() as connection:
        for table in TABLES:
            files = f"{folder}/{table}.parquet" if table in ("items", "users") else f"{folder}/{table}/*.parquet"
            found[table] = connection.execute(f"SELECT * FROM read_parquet('{files}') ORDER BY ALL").df()
    # Some of no cohort, and one that is neither.
    arms = {"iphone": "model", "pixel": "organic", "desktop": "search"}
    found["events"]["cohort"] = found["events"]["device"].map(arms)
    return found


@dataclass(frozen=True)
class Place:
    """An engine with the rows in it, as a configuration names it."""

    engines: Mapping[str, Any]
    dataset: Callable[[str], Mapping[str, Any]]


def files_place(frames: Mapping[str, pd.DataFrame], folder: Path, ending: str) -> Place:
    options = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "json": "FORMAT json"}[ending]
    with duckdb.connect() as connection:
        for table, frame in frames.items():
            connection.register("frame", frame)
            connection.execute(f"COPY frame TO '{folder}/{table}.{ending}' ({options})")
    return Place({}, lambda table: {"files": f"{folder}/{table}.{ending}"})


def duckdb_place(frames: Mapping[str, pd.DataFrame], folder: Path) -> Place:
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        for table, frame in frames.items():
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM frame")
    return Place({"shop": {"url": f"duckdb:///{folder}/shop.duckdb"}}, lambda table: {"table": table})


def sqlite_place(frames: Mapping[str, pd.DataFrame], folder: Path) -> Place:
    with closing(sqlite3.connect(folder / "shop.sqlite")) as connection, connection:
        for table, frame in frames.items():
            frame.to_sql(table, connection, index=False)
    return Place({"shop": {"url": f"sqlite:///{folder}/shop.sqlite"}}, lambda table: {"table": table})


def postgresql_place(frames: Mapping[str, pd.DataFrame], url: str) -> Place:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA IF NOT EXISTS "shop"'))
        for table, frame in frames.items():
            frame.to_sql(table, connection, schema="shop", index=False, if_exists="replace", chunksize=5_000)
    engine.dispose()
    return Place({"shop": {"url": url}}, lambda table: {"table": f"shop.{table}"})


def mariadb_place(frames: Mapping[str, pd.DataFrame], url: str) -> Place:
    engine = sa.create_engine(url.replace("mariadb:", "mariadb+pymysql:"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE DATABASE IF NOT EXISTS shop"))
        for table, frame in frames.items():
            # Without its zone, as the driver would send a time of another zone than UTC as it is.
            times = frame.select_dtypes(["datetime", "datetimetz"]).columns
            plain = frame.assign(**{name: pd.to_datetime(frame[name], utc=True).dt.tz_localize(None) for name in times})
            types: Any = dict.fromkeys(times, DATETIME(fsp=6))
            plain.to_sql(
                table, connection, schema="shop", index=False, if_exists="replace", dtype=types, chunksize=5_000
            )
    engine.dispose()
    return Place({"shop": {"url": url}}, lambda table: {"table": f"shop.{table}"})


def spark_place(frames: Mapping[str, pd.DataFrame], folder: Path, url: str) -> Place:
    files_place(frames, folder, "parquet")
    with closing(connect("spark", url)) as engine, engine.sqlalchemy_engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS shop")
        for table in frames:
            at = f"USING parquet LOCATION '{folder}/{table}.parquet'"
            connection.exec_driver_sql(f"CREATE TABLE shop.{table} {at}")
    return Place({"shop": {"url": url, "timeout": "5m"}}, lambda table: {"table": f"shop.{table}"})


ON_SPARK = pytest.param("spark", marks=[pytest.mark.slow])
EVERYWHERE = ("parquet", "csv", "json", "duckdb", "sqlite", "postgresql", "mariadb")
PLACES = (*EVERYWHERE, ON_SPARK)


def place(name: str, frames: Mapping[str, pd.DataFrame], folder: Path, request: pytest.FixtureRequest) -> Place:
    if name == "duckdb":
        return duckdb_place(frames, folder)
    if name == "sqlite":
        return sqlite_place(frames, folder)
    if name == "postgresql":
        return postgresql_place(frames, request.getfixturevalue("postgresql"))
    if name == "mariadb":
        return mariadb_place(frames, request.getfixturevalue("mariadb"))
    if name == "spark":
        return spark_place(frames, folder, request.getfixturevalue("spark"))
    return files_place(frames, folder, name)


def results(where: Place, folder: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return every verdict of every check on a calm and on a faulty window."""
    links = {link: link for link in ("users", "items", "sent", "rejected")}
    events = {"features": ["value", "device", "position"], **links}
    datasets = {
        table: {**where.dataset(table), "roles": ROLES[table], **(events if table == "events" else {})}
        for table in TABLES
    }
    minute = {"every": "1m", "window": "1m"}
    checks: dict[str, Any] = dict.fromkeys(("density", "feature_drift", "popularity"), minute)
    checks["signal"] = {"max_value": 1_000_000}
    checks["click_through"] = {
        **minute,
        "min_history": 3,
        "shown_types": ["view"],
        "hit_types": ["click"],
        "exposed": ["model"],
        "control": ["organic"],
        "min_users": 20,
        "exposed_share": 0.5,
    }
    checks["feedback_loop"] = {**minute, "exposed": ["model"], "control": ["organic"], "min_rows": 100}
    config = Config.model_validate({"engines": where.engines, "datasets": datasets, "checks": checks})
    pipeline, store = build(config), Store(f"sqlite:///{folder}/state.db", "default")
    runner = Runner(pipeline, store, SystemClock())
    built = Builder(runner, store).build(Window(START, START + 8 * MINUTE))
    assert [found.problem for found in built if found.problem] == []
    found = {}
    for start in (START + 8 * MINUTE, FAULTY):
        window = Window(start, start + MINUTE)
        for judged in runner.run("events", [(check, window) for check in pipeline.checks["events"]]):
            for verdict in judged.verdicts:
                key = (str(window), verdict.check, str(verdict.subject))
                found[key] = {
                    "outcome": verdict.outcome.value,
                    "value": verdict.value,
                    "limit": verdict.limit,
                    "good": verdict.good,
                    "total": verdict.total,
                    "reason": verdict.reason,
                    "details": verdict.details,
                }
    store.close()
    pipeline.close()
    return found


@pytest.fixture(scope="module")
def expected(frames: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp("expected")
    return results(files_place(frames, folder, "parquet"), folder)


def test_what_is_compared_is_worth_it(expected: dict[Any, dict[str, Any]]) -> None:
    checks = {check for _window, check, _subject in expected}
    assert checks == {check.id for check in CATALOGUE}
    outcomes = {verdict["outcome"] for verdict in expected.values()}
    assert {Outcome.GOOD, Outcome.BAD} <= outcomes
    assert Outcome.ERROR not in outcomes
    assert sum(verdict["outcome"] == Outcome.BAD for verdict in expected.values()) >= 8


@pytest.mark.parametrize("name", PLACES[1:])
def test_every_engine_finds_the_same(
    name: str,
    frames: dict[str, pd.DataFrame],
    expected: dict[Any, Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    found = results(place(name, frames, tmp_path, request), tmp_path)
    assert set(found) == set(expected)
    for key, verdict in expected.items():
        assert near(found[key], verdict), f"{key}: {name} finds {found[key]}, parquet {verdict}"


def user_verdict(bench: Any, check: str) -> Any:
    """Return the verdict of a check on the users of a minute that starts with ``START``."""
    roles = {"event_time": "at", "user": "who", "item": "what"}
    datasets = {"events": {"roles": roles, "users": "users"}, "users": {"roles": {"user": "who"}}}
    window = Window(START, START + MINUTE)
    return bench.verdicts(datasets, window, checks={check: {"min_rows": 1}}, only=[check])[0]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_ids_that_became_floats_are_known(name: str, benches: Any, table: Any) -> None:
    """A column of integers with a null in it becomes one of floats in many a program."""
    at = START.replace(tzinfo=None)
    columns = {"at": "timestamp", "who": "number", "what": "text"}
    bench = benches(name)
    known = table({"who": "integer"}, [(7,), (120,), (13,)])
    rows = [(at, who, "i") for who in (7.0, 120.0, 13.0, 7.5, None)]
    bench.place.fill({"events": table(columns, rows), "users": known})
    found = user_verdict(bench, "unknown_ids")
    assert found.details["causes"] == {"missing": 1, "malformed": 0, "unknown": 1, "retired": 0}


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    ("kind", "ids"),
    [("number", (0.0, -0.0, -1.0, 7.0, 7.25)), ("decimal", tuple(map(Decimal, ("0", "-1", "7", "7.25"))))],
)
def test_placeholders_that_became_floats_or_decimals_are_missing(
    kind: str, ids: tuple[Any, ...], name: str, benches: Any, table: Any
) -> None:
    bench = benches(name)
    rows = [(START.replace(tzinfo=None), who, "i") for who in ids]
    events = table({"at": "timestamp", "who": kind, "what": "text"}, rows)
    bench.place.fill({"events": events, "users": table({"who": "text"}, [("7",), ("7.25",)])})
    found = user_verdict(bench, "unknown_ids")
    assert found.details["causes"] == {"missing": len(ids) - 2, "malformed": 0, "unknown": 0, "retired": 0}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_an_empty_id_is_no_entry_of_the_catalogue(name: str, benches: Any, table: Any) -> None:
    """In CSV it is NULL."""
    bench = benches(name)
    events = table({"at": "timestamp", "who": "text", "what": "text"}, [(START.replace(tzinfo=None), "a", "i")])
    bench.place.fill(
        {"events": events, "users": table({"who": "text", "n": "integer"}, [("a", 1), ("", 2), (None, 3)])}
    )
    assert user_verdict(bench, "density").details["catalogue_users"] == 1


@pytest.mark.parametrize("ids", [(-1, 0, 7), (7, 0, -1)])
def test_the_widest_integers_are_different_users(ids: tuple[int, ...], benches: Any, table: Any) -> None:
    """In JSON integers are as wide as they need be where some are negative."""
    bench = benches("json")
    bench.place.fill({"users": table({"who": "integer"}, [(7,)])})
    lines = [f'{{"at": {int(START.timestamp())}, "who": {who}, "what": "i"}}\n' for who in ids]
    (bench.folder / "events.json").write_text("".join(lines))
    assert user_verdict(bench, "density").details["users"] == 3


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("kind", ["integer", "text"])
def test_of_equally_popular_items_the_same_are_ranked(kind: str, name: str, benches: Any, table: Any) -> None:
    """Integers are texts in JSON, and the language of a database may sort ``a`` before ``B``."""
    items: list[Any] = list(range(-3, 17)) if kind == "integer" else list("aBcDeFgHiJkLmNoPqRTs")
    ranked = sorted(items, key=str)[:10]
    spelt = 'TEXT COLLATE "en-x-icu"' if (kind, name) == ("text", "postgresql") else kind
    rows = [(START.replace(tzinfo=None), item) for item in items * 30]
    rows += [(START.replace(tzinfo=None) + MINUTE, item) for item in (items[-1], ranked[-1]) for _ in range(300)]
    bench = benches(name)
    bench.place.fill({"events": table({"at": "timestamp", "what": spelt}, rows)})
    datasets = {"events": {"roles": {"event_time": "at", "item": "what"}}}
    verdict = bench.verdicts(
        datasets, Window(START + MINUTE, START + 2 * MINUTE), only=["popularity"],
        checks={"popularity": {"ranking_size": 10, "every": "1m", "window": "1m"}},
        learn=lambda builder: builder.build(Window(START, START + MINUTE)),
    )[0]  # fmt: skip
    moved = {item for item, _change in verdict.details["movers"]}
    assert moved == {str(item) for item in (items[-1], ranked[-1], *ranked[:8])}


def near(left: Any, right: Any) -> bool:
    """Return whether two results are equal; floats to nine digits."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return set(left) == set(right) and all(near(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(near, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return left == pytest.approx(right, rel=1e-9, abs=1e-12)
    return bool(left == right)
