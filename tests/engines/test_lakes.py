"""Delta tables: their log says which files count; what lies in a folder with such a log is not read without it."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake
from sqlalchemy import func, select

from checks.dataset import Dataset, Role, TimeUnit, dataset_table
from checks.rows import Rows
from checks.window import Window
from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.engines.lakes import DeltaIndex
from monitor.errors import EngineError
from monitor.load import load

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = "strftime(\"at\", '%Y-%m-%d') AS dt"


def append(table: Path, hour: float, rows: int = 10, more: str = "", **how: Any) -> None:
    """Add rows of one hour to a table, which is made where there is none."""
    at = f"TIMESTAMPTZ '2026-03-01 00:00:00+00' + (i + {int(hour * 3600)}) * INTERVAL 1 SECOND"
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    events = connection.sql(f'SELECT *{more} FROM (SELECT i AS item, {at} AS "at" FROM range({rows}) t(i))')
    write_deltalake(table.as_uri(), events, mode="append", **how)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(connect("files", "duckdb:///:memory:")) as engine:
        yield engine


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "events"


def opened(session: Session, files: Path | str) -> Dataset:
    columns = session.open(Location("events", files=str(files)))
    roles = {Role.EVENT_TIME: "at", Role.ITEM: "item"}
    return Dataset("events", dataset_table("events", columns), columns, roles, {Role.EVENT_TIME: TimeUnit.NATIVE})


def count(session: Session, events: Dataset, hour: float, hours: float = 1) -> int:
    window = Window(START + hour * HOUR, START + (hour + hours) * HOUR)
    return int(session.run(Rows(events, window).select(func.count()), 1)[0][0])


def once(engine: Engine, table: Path, hour: float, hours: float = 1) -> int:
    with engine.session() as session:
        return count(session, opened(session, table / "_delta_log"), hour, hours)


def merge(table: Path) -> None:
    """Merge the files of a table into one, and remove those that are no part of it any more."""
    DeltaTable(table).optimize.compact()
    DeltaTable(table).vacuum(0, dry_run=False, enforce_retention_duration=False)


def test_rows_count_once_however_often_files_were_merged_and_rows_deleted(engine: Engine, table: Path) -> None:
    for hour in range(4):
        append(table, hour)
    assert once(engine, table, 0, 4) == 40
    DeltaTable(table).optimize.compact()
    assert len(list(table.glob("*.parquet"))) == 5
    assert once(engine, table, 0, 4) == 40
    DeltaTable(table).delete("item = 3")
    assert once(engine, table, 0, 4) == 36
    append(table, 2, rows=5)
    assert [once(engine, table, hour) for hour in range(5)] == [9, 9, 14, 9, 0]


def test_a_table_that_is_merged_and_tidied_during_a_run_is_read_as_it_is_then(engine: Engine, table: Path) -> None:
    for hour in range(4):
        append(table, hour)
    assert once(engine, table, 2) == 10
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        append(table, 2, rows=7)
        merge(table)
        assert len(list(table.glob("*.parquet"))) == 1
        assert count(session, events, 2) == 17


def test_a_statement_over_one_hour_opens_its_own_files_alone(engine: Engine, table: Path) -> None:
    for hour in range(9):
        append(table, hour)
    assert once(engine, table, 7) == 10
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        first, *others = DeltaTable(table).file_uris()
        kept = {first, *(path for path in others if duckdb.read_parquet(path).min("at").fetchall()[0][0].hour == 7)}
        for path in {first, *others} - kept:
            Path(path).write_bytes(b"no such thing as a footer")
        assert count(session, events, 7) == 10
        with pytest.raises(EngineError, match=r"(?i)magic bytes"):
            session.run(select(func.count()).select_from(events.table), 1)


def test_a_table_that_is_made_anew_is_another(engine: Engine, table: Path) -> None:
    append(table, 0)
    append(table, 1)
    assert once(engine, table, 0, 9) == 20
    shutil.rmtree(table)
    append(table, 5, rows=3)
    assert once(engine, table, 0, 9) == 3
    shutil.rmtree(table)
    append(table, 6, rows=4)
    assert once(engine, table, 0, 9) == 4


def test_a_table_that_is_merged_between_two_looks_at_it_is_whole(
    engine: Engine, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour, part in enumerate("aab"):
        append(table, hour, more=f", '{part}' AS p", partition_by=["p"])
    named = DeltaIndex.named
    merges = iter((table,))

    def named_before(index: DeltaIndex) -> list[str]:
        paths = named(index)
        for one in merges:
            merge(one)
        return paths

    monkeypatch.setattr(DeltaIndex, "named", named_before)
    assert once(engine, table, 0, 9) == 30


def test_a_file_that_is_lost_is_an_error(engine: Engine, table: Path) -> None:
    append(table, 0)
    append(table, 1)
    lost = Path(DeltaTable(table).file_uris()[0])
    lost.unlink()
    assert f"1 files that the log names are not there, such as {lost}" in refused(engine, table / "_delta_log")


def test_a_table_that_was_read_as_a_whole_and_merged_is_read_as_it_is_then(engine: Engine, table: Path) -> None:
    for hour in range(4):
        append(table, hour)
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        assert session.run(select(func.count()).select_from(events.table), 1) == [(40,)]
        assert count(session, events, 1) == 10
        merge(table)
        assert count(session, events, 2) == 10


@pytest.mark.parametrize("name", ["sp ace", "ünï", "ha#sh", "pc%zz", "q?m", 'dq"x', "cur{a,b}", "br[1]", "it's"])
def test_a_table_may_lie_in_any_folder(engine: Engine, tmp_path: Path, name: str) -> None:
    # The library that writes it here could not write into all of these.
    append(tmp_path / "plain", 0, more=", 'a b' AS odd", partition_by=["odd"])
    append(tmp_path / "plain", 1, more=", 'c' AS odd", partition_by=["odd"])
    shutil.copytree(tmp_path / "plain", tmp_path / name / "events")
    assert [once(engine, tmp_path / name / "events", hour) for hour in range(3)] == [10, 10, 0]


def test_folders_above_a_table_are_no_columns_of_it(engine: Engine, tmp_path: Path) -> None:
    table = tmp_path / "env=prod" / "events"
    append(table, 0, more=", 'staging' AS env")
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        assert session.run(select(events.table.c.env).distinct(), 1) == [("staging",)]
    parted = tmp_path / "env=prod" / "parted"
    append(parted, 0, more=f", 'staging' AS env, {DAYS}", partition_by=["dt"])
    assert "a folder above it is called env=..., as a column of it" in refused(engine, parted / "_delta_log")


def test_what_a_table_is_parted_by_has_the_type_of_the_log(engine: Engine, table: Path) -> None:
    more = ", true AS flag, '007' AS code, \"at\"::DATE AS day, 1.5::DECIMAL(9,2) AS cut"
    append(table, 0, more=more, partition_by=["flag", "code", "day", "cut"])
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        found = {name: events.columns[name].declared for name in ("flag", "code", "day", "cut")}
        assert found == {"flag": "BOOLEAN", "code": "VARCHAR", "day": "DATE", "cut": "DECIMAL(9,2)"}
        assert session.run(select(events.table.c.code).distinct(), 1) == [("007",)]


def test_what_a_table_is_parted_by_is_a_column(engine: Engine, table: Path) -> None:
    for hour in (0, 30):
        append(table, hour, more=f", {DAYS}, 'a b/c:d%20' AS odd", partition_by=["dt", "odd"])
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        days = select(events.table.c.dt, events.table.c.odd, func.count()).group_by("dt", "odd").order_by("dt")
        found = [(str(day), odd, n) for day, odd, n in session.run(days, 2)]
        assert found == [("2026-03-01", "a b/c:d%20", 10), ("2026-03-02", "a b/c:d%20", 10)]
        assert count(session, events, 30) == 10


def test_a_column_that_came_later_is_missing_before(engine: Engine, table: Path) -> None:
    append(table, 0)
    append(table, 1, more=", 1 AS price", schema_mode="merge")
    with engine.session() as session:
        events = opened(session, table / "_delta_log")
        assert session.run(select(func.count(), func.count(events.table.c.price)), 1) == [(20, 10)]


def refused(engine: Engine, files: Path | str) -> str:
    with engine.session() as session, pytest.raises(EngineError) as error:
        opened(session, files)
    return str(error.value)


@pytest.mark.parametrize("files", ["*.parquet", "**/*.parquet", "dt=2026-03-01/*.parquet"])
def test_the_files_of_a_table_are_not_read_without_its_log(engine: Engine, table: Path, files: str) -> None:
    append(table, 0, more=f", {DAYS}", partition_by=["dt"])
    said = refused(engine, table / files)
    assert f"{table} is a Delta table, and its folder also holds files that are no part of it any more" in said
    assert said.endswith(f"; write files: {table}/_delta_log")


@pytest.mark.parametrize("files", ["*/*.parquet", "**/*.parquet", "e*/*.parquet"])
def test_a_table_that_a_glob_reaches_is_not_read_without_its_log(
    engine: Engine, tmp_path: Path, table: Path, files: str
) -> None:
    append(table, 0)
    assert f"{table} is a Delta table" in refused(engine, tmp_path / files)


def test_a_folder_that_becomes_a_table_is_not_read_without_its_log(engine: Engine, table: Path) -> None:
    table.mkdir()
    (table.parent / "link").symlink_to(table)
    duckdb.sql("SELECT 1 AS item, TIMESTAMP '2026-03-01' AS \"at\"").write_parquet(str(table / "a.parquet"))
    with engine.session() as session:
        assert count(session, opened(session, table.parent / "link" / "*.parquet"), 0) == 1
    convert_to_deltalake(table)
    DeltaTable(table).delete()
    duckdb.sql("SELECT 1 AS item, TIMESTAMP '2026-03-01' AS \"at\"").write_parquet(str(table / "b.parquet"))
    assert f"{table} is a Delta table" in refused(engine, table.parent / "link" / "*.parquet")


def test_metadata_of_another_kind_are_no_table(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "croissant.metadata.json").write_text("{}")
    duckdb.sql("SELECT 1 AS item, TIMESTAMP '2026-03-01' AS \"at\"").write_parquet(str(tmp_path / "a.parquet"))
    with engine.session() as session:
        assert count(session, opened(session, tmp_path / "*.parquet"), 0) == 1


def test_a_log_that_is_elsewhere_is_refused(engine: Engine) -> None:
    said = refused(engine, "s3://bucket/events/_delta_log")
    assert said.startswith("files s3://bucket/events/_delta_log: Delta tables are read from a disk; ")


@pytest.mark.parametrize("mark", [".hoodie/hoodie.properties", "metadata/00001-ab.metadata.json"])
def test_the_files_of_other_tables_are_not_read(engine: Engine, tmp_path: Path, mark: str) -> None:
    for path in (tmp_path / mark, tmp_path / "data" / "a.parquet"):
        path.parent.mkdir(parents=True)
        path.write_text("")
    said = refused(engine, tmp_path / "data" / "*.parquet")
    assert f"{tmp_path} is a table of Hudi or Iceberg" in said
    assert said.endswith("read it through Spark or another engine, as a table")


def commit(table: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change each action of the first commit of a table."""
    path = table / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        change(action)
    path.write_text("\n".join(map(json.dumps, actions)))


def needs(feature: str, action: dict[str, Any]) -> None:
    if "protocol" in action:
        action["protocol"] = {
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature],
        }  # fmt: skip


def z85(raw: bytes) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    return "".join(digits[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))


def test_rows_that_are_deleted_beside_the_files_are_refused(engine: Engine, table: Path) -> None:
    append(table, 0)
    commit(table, lambda action: needs("deletionVectors", action))
    assert once(engine, table, 0) == 10, "a table may have such rows, and has none"

    # The rows 2 and 5, as a bitmap within the log, in the protocol's own format.
    bitmap = struct.pack("<IQI", 1681511377, 1, 0) + struct.pack("<IIHHIHH", 12346, 1, 0, 1, 16, 2, 5)
    vector = {"storageType": "i", "pathOrInlineDv": z85(bitmap), "sizeInBytes": len(bitmap), "cardinality": 2}

    def delete(action: dict[str, Any]) -> None:
        if "add" in action:
            action["add"]["deletionVector"] = vector

    commit(table, delete)
    said = refused(engine, table / "_delta_log")
    assert "rows are deleted beside the files (deletion vectors)" in said
    assert "REORG TABLE ... APPLY (PURGE)" in said


def test_columns_that_the_files_call_otherwise_are_refused(engine: Engine, table: Path) -> None:
    append(table, 0)

    def map_columns(action: dict[str, Any]) -> None:
        needs("columnMapping", action)
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            for number, column in enumerate(schema["fields"], start=1):
                named = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
                column["metadata"] |= named
            action["metaData"]["schemaString"] = json.dumps(schema)
            action["metaData"]["configuration"] = {
                "delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2",
            }  # fmt: skip

    commit(table, map_columns)
    assert "(column mapping); read it through Spark" in refused(engine, table / "_delta_log")


def test_a_table_without_rows_or_without_a_log_says_so(engine: Engine, table: Path, tmp_path: Path) -> None:
    append(table, 0)
    DeltaTable(table).delete()
    assert "the table is empty; it can be read once it has rows" in refused(engine, table / "_delta_log")
    append(table, 1, rows=2)
    assert once(engine, table, 1) == 2
    (tmp_path / "nothing" / "_delta_log").mkdir(parents=True)
    for name in ("nothing", "nowhere"):
        assert f"files {tmp_path / name / '_delta_log'}: " in refused(engine, tmp_path / name / "_delta_log")


def test_what_is_not_installed_is_said(engine: Engine, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(table, 0)
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert refused(engine, table / "_delta_log").endswith("pip install 'recwatch[delta]'")


def test_init_finds_tables_and_a_folder_is_told_how_to_be_written(
    recwatch: Callable[..., Any], table: Path, tmp_path: Path
) -> None:
    append(table, 0, rows=300, more=f", item % 7 AS user_id, {DAYS}", partition_by=["dt"])
    DeltaTable(table).delete("item = 3")
    path = tmp_path / "recwatch.yml"
    for target in (tmp_path, table, table / "_delta_log"):
        assert recwatch("init", str(target), "-o", str(path), "--force").code == 0
        assert load(path).datasets["events"].files == str(table / "_delta_log")
    said = recwatch("check", "--all", "--json", "-c", str(path)).out.splitlines()
    assert {verdict["total"] for line in said if (verdict := json.loads(line))["check"] == "contract"} == {299, None}
    append(tmp_path / "daily" / "2026-03-01" / "orders", 0, more=", item % 7 AS user_id")
    append(tmp_path / "daily" / "2026-03-02" / "orders", 0, more=", item % 7 AS user_id")
    assert recwatch("init", str(tmp_path / "daily"), "-o", str(path), "--force").code == 0
    assert {dataset.files for dataset in load(path).datasets.values()} == {
        str(tmp_path / "daily" / f"2026-03-0{day}" / "orders" / "_delta_log") for day in (1, 2)
    }
    assert recwatch("init", str(table), "-o", str(path), "--force").code == 0
    path.write_text(path.read_text().replace("/_delta_log", ""))
    assert f"write {table}/_delta_log" in recwatch("validate", "-c", str(path)).err
