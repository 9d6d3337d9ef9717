"""Parquet files: a statement reads those that can hold its rows, and finds what it would find in all of them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import and_, func, or_, select, text

from checks.dataset import ColumnType, Dataset, Role, TimeUnit, dataset_table
from checks.rows import Rows
from checks.window import Window
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.engines.bounds import reads
from monitor.errors import EngineError
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def write(path: Path, hour: float, columns: str = "i AS item, {at} AS at", rows: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = columns.format(at=f"(TIMESTAMP '2026-03-01' + (i + {int(hour * 3600)}) * INTERVAL 1 SECOND)")
    part = path.with_name(f"{path.name}.part")
    where = str(part).replace("'", "''")
    # What has no zone is read in that of the machine otherwise.
    duckdb.connect().execute(
        f"SET TimeZone = 'UTC'; COPY (SELECT {chosen} FROM range({rows}) t(i)) TO '{where}' (FORMAT parquet)"
    )
    os.replace(part, path)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(connect("files", "duckdb:///:memory:")) as engine:
        yield engine


def opened(session: Session, files: str, unit: TimeUnit = TimeUnit.NATIVE) -> Dataset:
    columns = session.open(Location("events", files=files))
    roles = {Role.EVENT_TIME: "at", Role.ITEM: "item"}
    return Dataset("events", dataset_table("events", columns), columns, roles, {Role.EVENT_TIME: unit})


def hour_of(number: float, hours: float = 1) -> Window:
    return Window(START + number * HOUR, START + (number + hours) * HOUR)


def count(session: Session, dataset: Dataset, window: Window) -> int:
    return int(session.run(Rows(dataset, window).select(func.count()), 1)[0][0])


def once(engine: Engine, files: Any, number: float, unit: TimeUnit = TimeUnit.NATIVE) -> int:
    with engine.session() as session:
        return count(session, opened(session, str(files), unit), hour_of(number))


def test_a_statement_over_one_hour_opens_its_own_files_alone(engine: Engine, tmp_path: Path) -> None:
    for hour in range(20):
        write(tmp_path / f"{hour:02}.parquet", hour)
    assert once(engine, f"{tmp_path}/*.parquet", 7) == 10
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/*.parquet")
        # The first file gives the columns; every other one would be an error if it were opened.
        for hour in set(range(1, 20)) - {7}:
            (tmp_path / f"{hour:02}.parquet").write_bytes(b"no such thing as a footer")
        assert count(session, events, hour_of(7)) == 10
        with pytest.raises(EngineError, match=r"(?i)magic bytes"):
            session.run(select(func.count()).select_from(events.table), 1)


def test_new_replaced_and_deleted_files_are_noticed(engine: Engine, tmp_path: Path) -> None:
    files = f"{tmp_path}/*.parquet"
    for hour in range(3):
        write(tmp_path / f"{hour}.parquet", hour)
    assert [once(engine, files, hour) for hour in range(4)] == [10, 10, 10, 0]
    write(tmp_path / "new.parquet", 3)
    write(tmp_path / "0.parquet", 2)
    (tmp_path / "1.parquet").unlink()
    assert [once(engine, files, hour) for hour in range(4)] == [0, 0, 20, 10]
    write(tmp_path / "late.parquet", 0, rows=3)
    assert once(engine, files, 0) == 3


def test_files_that_vanish_during_a_run_are_read_as_what_replaced_them(engine: Engine, tmp_path: Path) -> None:
    for hour in range(4):
        write(tmp_path / f"{hour}.parquet", hour)
    files = f"{tmp_path}/*.parquet"
    assert once(engine, files, 2) == 10
    with engine.session() as session:
        events = opened(session, files)
        write(tmp_path / "merged.parquet", 2, rows=30)
        (tmp_path / "2.parquet").unlink()
        assert count(session, events, hour_of(2)) == 30
        assert count(session, events, hour_of(3)) == 10


@pytest.mark.parametrize("pattern", ["**/*.parquet", "*/*.parquet", "dt=1/*.parquet"])
def test_what_is_being_written_is_not_read(engine: Engine, tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "dt=1" / "a.parquet", 0)
    write(tmp_path / "dt=1" / ".b.parquet", 0, columns="{at} AS other")
    write(tmp_path / "dt=1" / "_c.parquet", 0)
    write(tmp_path / "_temporary" / "0" / "dt=1" / "a.parquet", 0)
    write(tmp_path / ".staged" / "a.parquet", 0)
    assert once(engine, f"{tmp_path}/{pattern}", 0) == 10
    with engine.session() as session:
        everything = opened(session, f"{tmp_path}/{pattern}").table
        assert session.run(select(func.count()).select_from(everything), 1) == [(10,)]


def test_of_a_folder_that_is_called_like_a_file_all_is_read_but_what_is_being_written(
    engine: Engine, tmp_path: Path
) -> None:
    table = tmp_path / "events.parquet"
    for name in ("a", "day=1/b", "day=1/_c", "_temporary/0/day=1/d", "day=2/.e"):
        write(table / f"{name}.parquet", 0)
    for name in ("_SUCCESS", "notes.txt"):
        (table / name).write_text("")
    assert once(engine, table, 0) == 20
    (table / "a.parquet").unlink()
    assert once(engine, table, 0) == 10
    with engine.session() as session:
        assert session.run(select(func.count()).select_from(opened(session, str(table)).table), 1) == [(10,)]


def test_what_is_hidden_is_read_where_it_is_named(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "_events" / "_year=2026" / "a.parquet", 0)
    write(tmp_path / "_events" / "_year=2026" / "_b.parquet", 0)
    assert once(engine, f"{tmp_path}/_events/**/*.parquet", 0) == 10
    assert once(engine, f"{tmp_path}/_events/**/_*.parquet", 0) == 10
    assert once(engine, f"{tmp_path}/_events/_year=2026/_b.parquet", 0) == 10
    with pytest.raises(EngineError, match=r"all that match begin with \. or _, .*; to read it, begin"):
        once(engine, f"{tmp_path}/*/**/*.parquet", 0)


def test_columns_are_those_of_all_files(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", 0, "i::INT AS item, {at} AS at")
    write(tmp_path / "1.parquet", 1, "{at} AS at, i::BIGINT AS item, 'a' AS app")
    write(tmp_path / "2.parquet", 2, 'i::DOUBLE AS item, {at}::TIMESTAMPTZ AS "AT"')
    write(tmp_path / "3.parquet", 3, "i AS item")
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/*.parquet")
        whole = duckdb.connect().execute(
            f"DESCRIBE SELECT * FROM read_parquet('{tmp_path}/*.parquet', union_by_name = true)"
        )
        expected = [(row[0], row[1]) for row in whole.fetchall()]
        assert [(name, column.declared) for name, column in events.columns.items()] == expected
        for hour in range(4):
            rows = session.run(Rows(events, hour_of(hour)).select(*events.table.c), 100)
            assert len(rows) == (10 if hour < 3 else 0)
            assert {type(row[0]) for row in rows} <= {float}, "the type of an item is that of all files"


@pytest.mark.parametrize("name", ["it's", "a [1] b", "é ü 日本", "per%cent", "{curly}", "semi;colon", "a*b"])
def test_names_may_be_anything(engine: Engine, tmp_path: Path, name: str) -> None:
    for hour in range(3):
        write(tmp_path / name / f"{name} {hour}.parquet", hour)
    assert [once(engine, f"{tmp_path}/*/*.parquet", hour) for hour in range(3)] == [10, 10, 10]


def columns_of(engine: Engine, files: Any, number: float, hours: float = 1) -> dict[str, set[str]] | None:
    """Return the columns of an hour, each with its types in the hour's files; "" stands for files without it."""
    with engine.session() as session:
        events = opened(session, str(files))
        rows = Rows(events, hour_of(number, hours))
        found = session.columns("events", select(func.count()).select_from(events.table).where(rows.belongs))
        return None if found is None else {name: set(types) for name, types in found.items()}


def test_an_hour_has_the_columns_of_its_own_files(engine: Engine, tmp_path: Path) -> None:
    files = f"{tmp_path}/*.parquet"
    write(tmp_path / "0.parquet", 0, "i::INT AS item, {at} AS at, 'x' AS app")
    write(tmp_path / "1.parquet", 1, "i::INT AS item, {at} AS at")
    write(tmp_path / "2.parquet", 2, "i::BIGINT AS item, {at} AS at, 1.5::DOUBLE AS Price, NULL::INT AS App")
    base = {"item": {"INTEGER"}, "at": {"TIMESTAMP"}}
    assert columns_of(engine, files, 0) == {**base, "app": {"VARCHAR"}}
    assert columns_of(engine, files, 1) == base
    new = {"item": {"BIGINT"}, "at": {"TIMESTAMP"}, "Price": {"DOUBLE"}, "app": set[str]()}
    assert columns_of(engine, files, 2) == new, "what is null throughout has no type"
    assert columns_of(engine, files, 0, hours=2) == {**base, "app": {"VARCHAR", ""}}
    mixed = {"item": {"INTEGER", "BIGINT"}, "at": {"TIMESTAMP"}, "Price": {"DOUBLE", ""}, "app": {""}}
    assert columns_of(engine, files, 1, hours=2) == mixed
    assert columns_of(engine, files, 5) is None, "there is no file to tell"


def test_an_hour_whose_files_do_not_tell_their_times_has_the_columns_of_all(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", 0, "i AS item, {at} AS at, 'x' AS app")
    write(tmp_path / "1.parquet", 1, "i AS item, ({at})::VARCHAR AS at")
    found = columns_of(engine, f"{tmp_path}/*.parquet", 1)
    assert found == {"item": {"BIGINT"}, "at": {"TIMESTAMP", "VARCHAR"}, "app": {"VARCHAR", ""}}


def test_a_column_that_is_part_of_the_paths_is_in_every_hour(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "app=ios" / "0.parquet", 0)
    write(tmp_path / "app=web" / "1.parquet", 1)
    for hour in (0, 1):
        found = columns_of(engine, f"{tmp_path}/*/*.parquet", hour)
        assert found == {"item": {"BIGINT"}, "at": {"TIMESTAMP"}, "app": {"VARCHAR"}}


def schema_verdict(tmp_path: Path, checked: float, learnt: Window, forget: str = "") -> tuple[str, str]:
    """Return what the contract says of an hour's columns, against those of a reference.

    Args:
        tmp_path: Where the files are.
        checked: Which hour.
        learnt: The reference.
        forget: A part of the recorded contract that is as if it had not been recorded.
    """
    datasets = {"events": {"files": f"{tmp_path}/*.parquet", "roles": {"event_time": "at", "item": "item"}}}
    config = Config.model_validate({"pipeline": "shop", "datasets": datasets})
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, ManualClock(START + 20 * HOUR))
        check = next(check for check in pipeline.checks["events"] if check.id == "contract")
        built = Builder(runner, store).build_reference("events", check, learnt, pinned=False)
        assert built.problem is None, built.problem
        if forget:
            saved = store.saved_baseline("events", "contract")
            assert saved is not None
            store.save_baseline(replace(saved, frozen={k: v for k, v in saved.frozen.items() if k != forget}))
        (judged,) = runner.run("events", [(check, hour_of(checked))])
        (found,) = [verdict for verdict in judged.verdicts if verdict.feature == "schema"]
        return found.outcome.value, found.reason


def test_a_contract_notices_a_column_that_newer_files_lack(tmp_path: Path) -> None:
    for hour in range(4):
        write(tmp_path / f"{hour}.parquet", hour, "i AS item, {at} AS at, 'x' AS app", rows=2000)
    write(tmp_path / "4.parquet", 4, rows=2000)
    write(tmp_path / "5.parquet", 5, "i AS item, {at} AS at, 'x' AS app", rows=2000)
    learnt = hour_of(0, 4)
    assert schema_verdict(tmp_path, 3, learnt)[0] == "good"
    assert schema_verdict(tmp_path, 4, learnt) == ("bad", "columns removed: app")
    assert schema_verdict(tmp_path, 5, learnt)[0] == "good", "it is over when the files have it again"
    assert schema_verdict(tmp_path, 4, learnt, forget="types")[0] == "good", "as it was recorded before, of all files"
    write(tmp_path / "9.parquet", 9, "i AS item, {at} AS at, 'x' AS app, 1 AS extra", rows=2000)
    assert schema_verdict(tmp_path, 7, learnt)[0] == "good", "an hour without files has no columns"
    assert schema_verdict(tmp_path, 9, learnt) == ("bad", "columns added: extra")


def test_a_column_that_only_some_files_ever_had_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path / "ios.parquet", 0, "i AS item, {at} AS at, 'x' AS app", rows=2000)
    for hour in range(3):
        write(tmp_path / f"web-{hour}.parquet", hour, rows=2000)
    assert schema_verdict(tmp_path, 2, hour_of(0, 2))[0] == "good"


def test_a_type_that_some_files_of_the_reference_had_is_no_change(tmp_path: Path) -> None:
    """As pandas writes them: whole numbers as floats where one is missing, and nothing at all as any type."""
    for hour in range(6):
        price = {1: "i::DOUBLE", 5: "i::VARCHAR"}.get(hour, "i")
        app = "NULL::INTEGER" if hour in (2, 4) else "'x'"
        columns = f"i AS item, {{at}} AS at, {price} AS price, {app} AS app"
        write(tmp_path / f"{hour}.parquet", hour, columns, rows=2000)
    learnt = hour_of(0, 3)
    assert [schema_verdict(tmp_path, hour, learnt)[0] for hour in (1, 3, 4)] == ["good"] * 3
    assert schema_verdict(tmp_path, 5, learnt) == ("bad", "columns retyped: price BIGINT, DOUBLE to VARCHAR")


def test_a_file_without_a_value_of_a_column_tells_no_type_of_it(engine: Engine, tmp_path: Path) -> None:
    """As pandas writes a column of nothing: of the null type, or of that of another hour, or as empty lists."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    at = [(START + HOUR).replace(tzinfo=None)] * 3
    hours = {"nothing": pa.nulls(3), "texts": pa.array([None] * 3, pa.string())}
    for name, price in hours.items():
        pq.write_table(
            pa.table({"item": [1] * 3, "at": at, "price": price, "tags": price}), tmp_path / f"{name}.parquet"
        )
    write(tmp_path / "none.parquet", 1, "i AS item, {at} AS at, NULL::INTEGER AS price, [1::INTEGER] AS tags", rows=0)
    write(tmp_path / "usual.parquet", 2, "i AS item, {at} AS at, 1.5::DOUBLE AS price, ['a'] AS tags")
    usual = {"item": {"BIGINT"}, "at": {"TIMESTAMP"}}
    assert columns_of(engine, f"{tmp_path}/*.parquet", 1) == {**usual, "price": set(), "tags": set()}
    assert columns_of(engine, f"{tmp_path}/*.parquet", 2) == {**usual, "price": {"DOUBLE"}, "tags": {"VARCHAR[]"}}


def test_partitions_keep_the_type_that_all_paths_give_them(engine: Engine, tmp_path: Path) -> None:
    files = f"{tmp_path}/**/*.parquet"
    for hour in range(3):
        write(tmp_path / f"dt=2026-03-01/hour={hour}" / "part.parquet", hour)
    assert once(engine, files, 1) == 10
    with engine.session() as session:
        assert opened(session, files).columns["dt"].declared == "DATE"
    write(tmp_path / "dt=unknown/hour=7" / "part.parquet", 7)
    with engine.session() as session:
        events = opened(session, files)
        assert events.columns["dt"].declared == "VARCHAR"
        found = session.run(Rows(events, hour_of(1)).select(events.table.c.dt, events.table.c.hour).distinct(), 2)
        assert found == [("2026-03-01", 1)]
    write(tmp_path / "elsewhere" / "part.parquet", 1)
    with engine.session() as session:
        assert "dt" not in opened(session, files).columns, "not all paths have these parts"
    assert once(engine, files, 1) == 20


def test_a_partition_hides_the_column_of_the_same_name_in_the_files(engine: Engine, tmp_path: Path) -> None:
    for hour in range(2):
        write(tmp_path / f"at=2026-03-0{hour + 1}" / "part.parquet", 500)
    with engine.session() as session:
        assert count(session, opened(session, f"{tmp_path}/*/*.parquet"), hour_of(24)) == 10


def test_files_without_statistics_are_always_read(engine: Engine, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for hour in range(3):
        times = [(START + hour * HOUR).replace(tzinfo=None)] * 4
        rows = pa.table({"item": [1] * 4, "at": times})
        pq.write_table(rows, tmp_path / f"bare{hour}.parquet", write_statistics=False)
        pq.write_table(rows, tmp_path / f"old{hour}.parquet", use_deprecated_int96_timestamps=True)
        pq.write_table(rows, tmp_path / f"usual{hour}.parquet", row_group_size=2)
    assert [once(engine, f"{tmp_path}/*.parquet", hour) for hour in range(4)] == [12, 12, 12, 0]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("epoch({at})::BIGINT", TimeUnit.SECONDS),
        ("epoch_ms({at})", TimeUnit.MILLISECONDS),
        ("epoch_us({at})::DOUBLE", TimeUnit.MICROSECONDS),
        ("CASE WHEN i = 0 THEN 'nan'::DOUBLE ELSE epoch({at}) END", TimeUnit.SECONDS),
        ("epoch({at})::DECIMAL(18, 3)", TimeUnit.SECONDS),
        ("strftime({at}, '%Y-%m-%dT%H:%M:%SZ')", TimeUnit.TEXT),
        ("{at}::TIMESTAMPTZ", TimeUnit.NATIVE),
        ("{at}::TIMESTAMP_NS", TimeUnit.NATIVE),
        ("CASE WHEN i = 0 THEN TIMESTAMP 'infinity' WHEN i = 1 THEN NULL ELSE {at} END", TimeUnit.NATIVE),
    ],
)
def test_times_may_be_written_in_any_way(engine: Engine, tmp_path: Path, column: str, unit: TimeUnit) -> None:
    for hour in range(3):
        write(tmp_path / f"{hour}.parquet", hour, f"i AS item, {column} AS at")
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/*.parquet", unit)
        rows = session.run(Rows(events, hour_of(1)).select(events.table.c.item), 10)
        assert {row[0] for row in rows} >= set(range(2, 10))
        assert len(rows) <= 10
        since = Rows(events, hour_of(2)).within(Role.EVENT_TIME, START + 2 * HOUR, None)
        whole = or_(since, events.table.c.item < 0)
        open_end = [session.run(select(func.count()).select_from(events.table).where(a), 1) for a in (since, whole)]
        assert open_end[0] == open_end[1], "NaN and infinity come after every time"


def test_dates_are_times(engine: Engine, tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path / f"{day}.parquet", 24 * day, "i AS item, {at}::DATE AS at")
    assert [once(engine, f"{tmp_path}/*.parquet", 24 * day) for day in range(4)] == [10, 10, 10, 0]


@pytest.mark.parametrize("later", ["2026-03-01 00:30:01", "2026-03-01T00:30:01+00:00", "2026-03-01"])
def test_in_json_a_time_may_be_written_otherwise_than_the_first_thousands(
    engine: Engine, tmp_path: Path, later: str
) -> None:
    first = '{"at": "2026-03-01 00:20:00.000001", "item": 1}\n'
    (tmp_path / "a.jsonl").write_text(first * 30_000 + f'{{"at": "{later}", "item": 2}}\n')
    assert once(engine, tmp_path / "*.jsonl", 0, TimeUnit.TEXT) == 30_001


def test_in_json_a_time_that_is_none_is_one_row_without_a_time(engine: Engine, tmp_path: Path) -> None:
    first = '{"at": "2026-03-01 00:20:00.000001", "item": 1}\n'
    (tmp_path / "a.jsonl").write_text(first * 30_000 + '{"at": "yesterday", "item": 2}\n')
    assert once(engine, tmp_path / "*.jsonl", 0, TimeUnit.TEXT) == 30_000


@pytest.mark.parametrize(
    ("ending", "options", "limit_mb"),
    [
        ("parquet", {"threads": 3}, 170),
        ("parquet", {"threads": 16}, 400),
        ("json", {"threads": 3}, 300),
        ("json", {"threads": 16}, 1_280),
        ("json", {"threads": 16, "memory_limit": None}, 1_280),
        ("json", {"threads": 16, "memory_limit": "300MB"}, 300),
    ],
)
def test_memory_grows_with_threads_and_for_json_unless_the_configuration_says_how_much(
    tmp_path: Path, ending: str, options: dict[str, Any], limit_mb: int
) -> None:
    duckdb.connect().execute(f"COPY (SELECT 1 AS item) TO '{tmp_path}/a.{ending}'")
    limited = text("SELECT value FROM duckdb_settings() WHERE name = 'memory_limit'")
    with closing(connect("files", "duckdb:///:memory:", options=options)) as engine, engine.session() as session:
        session.open(Location("events", files=f"{tmp_path}/*.{ending}"))
        ((found,),) = session._connection.execute(limited).fetchall()
        number, unit = found.split()
        assert float(number) * {"MiB": 2**20, "GiB": 2**30}[unit] == pytest.approx(1e6 * limit_mb, rel=0.08)


def test_little_is_read_by_one_thread_and_much_by_all(tmp_path: Path) -> None:
    write(tmp_path / "events.parquet", 0)
    write(tmp_path / "many.parquet", 0, "i AS item, {at} AS at, uuid() AS id", rows=200_000)
    with closing(connect("files", "duckdb:///:memory:", options={"threads": 4})) as engine, engine.session() as session:
        events = opened(session, f"{tmp_path}/events.parquet").table
        many = dataset_table("many", session.open(Location("many", files=f"{tmp_path}/many.parquet")))
        threads = func.min(func.current_setting("threads"))
        beside = select(func.count()).select_from(many).scalar_subquery()
        assert session.run(select(threads).select_from(events), 1) == [(1,)]
        assert session.run(select(threads).select_from(many), 1) == [(4,)]
        assert session.run(select(threads).select_from(events), 1) == [(1,)]
        assert session.run(select(threads, beside).select_from(events), 1) == [(4, 200_000)]
        # SQL in words may read anything.
        assert session.run(select(func.current_setting("threads")).select_from(text("many LIMIT 1")), 1) == [(4,)]


def test_many_distinct_counts_of_little_fit_into_the_default_memory(tmp_path: Path) -> None:
    """With one thread each takes 2 MB, whatever there is to count."""
    columns = ", ".join(f"i % {at + 2} AS c{at}" for at in range(100))
    write(tmp_path / "events.parquet", 0, columns, rows=60)
    with closing(connect("files", "duckdb:///:memory:")) as engine, engine.session() as session:
        table = dataset_table("events", session.open(Location("events", files=f"{tmp_path}/events.parquet")))
        ((threads, *counted),) = session.run(
            select(func.min(func.current_setting("threads")), *(func.count(column.distinct()) for column in table.c)), 1
        )
        assert counted == [min(60, at + 2) for at in range(100)]
        assert threads > 1


def test_many_small_compressed_files_are_read_within_the_default_memory(engine: Engine, tmp_path: Path) -> None:
    """The buffers of CSV are 32 MB each by default, and each file has its own."""
    for day in range(12):
        at = f"TIMESTAMP '2026-03-01' + INTERVAL (i + {86_400 * day}) SECOND"
        rows = f"SELECT i AS item, {at} AS at FROM range(9000) t(i)"
        duckdb.connect().execute(f"COPY ({rows}) TO '{tmp_path}/{day:02}.csv.gz' (HEADER)")
    assert once(engine, f"{tmp_path}/*.csv.gz", 24) == 3600


def test_a_thousand_wide_files_are_looked_into_within_the_default_memory(engine: Engine, tmp_path: Path) -> None:
    wide = ", ".join(f"i AS feature_{number}" for number in range(60))
    write(tmp_path / "0000.parquet", 0, f"i AS item, {{at}} AS at, {wide}")
    for number in range(1, 1_000):
        os.link(tmp_path / "0000.parquet", tmp_path / f"{number:04}.parquet")
    with engine.session() as session:
        dataset = opened(session, f"{tmp_path}/*.parquet")
        assert count(session, dataset, hour_of(5)) == 0
        assert "events" in session._connection.info["recwatch_views"]


def test_a_folder_that_is_called_like_a_file_is_read(engine: Engine, tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "events.parquet" / f"part-{number}.parquet", number)
    with engine.session() as session:
        dataset = opened(session, f"{tmp_path}/events.parquet")
        assert count(session, dataset, hour_of(0, 2)) == 20


def test_one_row_dated_in_the_future_widens_its_own_file_alone(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", 0, "i AS item, CASE WHEN i = 0 THEN TIMESTAMP '2099-01-01' ELSE {at} END AS at")
    write(tmp_path / "1.parquet", 1)
    assert [once(engine, f"{tmp_path}/*.parquet", hour) for hour in range(3)] == [9, 10, 0]
    assert once(engine, f"{tmp_path}/*.parquet", (datetime(2099, 1, 1, tzinfo=UTC) - START) / HOUR) == 1


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_what_is_not_there_of_a_path_is_said(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    (tmp_path / "events").mkdir()
    monkeypatch.chdir(tmp_path)
    for files, lacking in {
        f"{tmp_path}/evnts/*.{ending}": f"there is no evnts/*.{ending} in {tmp_path}",
        f"{tmp_path}/events/*/h*.{ending}": f"there is no */h*.{ending} in {tmp_path}/events",
        f"events/one.{ending}": f"there is no one.{ending} in {tmp_path}/events",
    }.items():
        with engine.session() as session, pytest.raises(EngineError) as found:
            opened(session, files)
        assert str(found.value) == f"files {files}: {lacking}"


def test_an_empty_folder_and_a_broken_file_are_the_errors_of_the_engine(engine: Engine, tmp_path: Path) -> None:
    files = f"{tmp_path}/*.parquet"
    with engine.session() as session, pytest.raises(EngineError, match=r"there is no \*\.parquet in "):
        opened(session, files)
    write(tmp_path / "0.parquet", 0)
    assert once(engine, files, 0) == 10
    (tmp_path / "1.parquet").write_bytes(b"half a file")
    with engine.session() as session, pytest.raises(EngineError, match=r"(?i)too small|magic bytes"):
        opened(session, files)
    (tmp_path / "1.parquet").unlink()
    assert once(engine, files, 0) == 10


def test_a_dataset_of_which_files_are_its_own_catalogue(tmp_path: Path) -> None:
    for hour in range(3):
        write(tmp_path / f"{hour}.parquet", hour, "i + 100 * (i % 2) AS item, 'u' AS u, {at} AS at")
    write(tmp_path / "9.parquet", 9, "i AS item, 'u' AS u, {at} AS at", rows=1_000)
    files = f"{tmp_path}/*.parquet"
    roles = {"user": "u", "item": "item", "event_time": "at"}
    datasets = {
        "events": {"files": files, "roles": roles, "items": "known"},
        "known": {"files": files, "roles": {"item": "item"}},
    }
    config = Config.model_validate({"datasets": datasets, "checks": {"unknown_ids": {"min_rows": 1}}})
    with closing(build(config)) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == "unknown_ids")
        (judged,) = Runner(pipeline, None, ManualClock(START + HOUR)).run("events", [(check, hour_of(0))])
    assert [verdict.outcome for verdict in judged.verdicts if verdict.entity == "item"] == ["good"]


@pytest.mark.parametrize("seed", range(4))
def test_any_layout_gives_what_all_files_give(engine: Engine, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(12):
        at = chance.choice(["{at}", "{at}::TIMESTAMPTZ", "CASE WHEN i % 3 = 0 THEN NULL ELSE {at} END"])
        columns = f"{number} + i AS item, {at} AS at" + chance.choice(["", ", i AS extra"])
        path = tmp_path / chance.choice("ab") / f"{number}.parquet"
        write(path, chance.uniform(0, 6), columns, rows=chance.choice([0, 1, 50, 4_000]))
    if seed % 2:
        shutil.copy(path, tmp_path / "a" / "copy.parquet")
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/**/*.parquet")
        for _try in range(15):
            rows = Rows(events, hour_of(chance.uniform(-1, 6), chance.uniform(0.001, 3)))
            item = events.table.c.item
            figures: tuple[Any, ...] = (func.count(), func.sum(item))
            pruned = session.run(rows.select(*figures), 1)
            # A condition of which nothing follows for a file as a whole.
            whole = select(*figures).select_from(events.table).where(or_(rows.belongs, item < 0))
            assert pruned == session.run(whole, 1)


def test_what_a_statement_says_of_its_rows() -> None:
    columns = {"at": ColumnType.__new__(ColumnType)}
    one, two = dataset_table("one", columns), dataset_table("two", columns)
    early, late = START.replace(tzinfo=None), (START + HOUR).replace(tzinfo=None)

    def bounds(statement: Any) -> Any:
        found = reads(statement)
        return found and {
            name: [{column: (bound.low, bound.high) for column, bound in each.items()} for each in every]
            for name, every in found.items()
        }

    low, high = int(early.replace(tzinfo=UTC).timestamp() * 1e6), int(late.replace(tzinfo=UTC).timestamp() * 1e6)
    inside = and_(one.c.at >= early, one.c.at < late)
    assert bounds(select(func.count()).select_from(one).where(inside)) == {"one": [{"at": (low, high - 1)}]}
    assert bounds(select(one.c.at).where(or_(inside, one.c.at.is_(None)))) == {"one": [{}]}
    assert bounds(select(one.c.at).where(~inside)) == {"one": [{}]}
    assert bounds(select(one.alias().c.at).where(inside))["one"].count({}) == 1
    joined = select(func.count()).select_from(one.outerjoin(two, one.c.at == two.c.at)).where(inside)
    assert bounds(joined) == {"one": [{"at": (low, high - 1)}], "two": [{}]}
    before = select(one.c.at).where(one.c.at < early).subquery()
    nested = select(one.c.at).where(inside, one.c.at.in_(select(before.c.at)))
    assert sorted(bounds(nested)["one"], key=str) == sorted([{"at": (low, high - 1)}, {"at": (None, low - 1)}], key=str)
    assert reads(text("SELECT * FROM one")) is None
    assert reads(select(func.count()).select_from(text("one"))) is None


def test_a_feed_that_is_silent_is_searched_for_once(tmp_path: Path) -> None:
    for hour in range(3):
        write(tmp_path / f"{hour}.parquet", hour)
    events = {"files": f"{tmp_path}/*.parquet", "roles": {"item": "item", "event_time": "at"}}
    config = Config.model_validate({"datasets": {"events": events}})
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as store:
        check = next(check for check in pipeline.checks["events"] if check.id == "freshness")
        lags = []
        for tick in range(3):
            if tick == 2:
                # Late, and newer than all that came before.
                write(tmp_path / "late.parquet", 4)
            window = hour_of(10 + tick)
            (judged,) = Runner(pipeline, store, ManualClock(window.end)).run("events", [(check, window)])
            store.commit(judged)
            lags.append(judged.verdicts[0].value)
        newest = 2 * 3600 + 9
        assert lags == [11 * 3600 - newest, 12 * 3600 - newest, 13 * 3600 - 4 * 3600 - 9]
        with pipeline.engines["files"].session() as session:
            rows = Rows(opened(session, events["files"]), hour_of(12))  # type: ignore[arg-type]
        _measure, search = check.measures(rows, store.baseline("events", "freshness", hour_of(12)))
        (bounds,) = (reads(search.statement) or {})["events"]
        assert bounds["at"].low == int((START + timedelta(seconds=newest)).timestamp() * 1e6)
