"""CSV and JSON files: each is looked at once, and a statement finds in its own files what it would find in all."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import Text, cast, func, select
from sqlalchemy.exc import OperationalError

from checks.dataset import Dataset, Kind, Role, TimeUnit, dataset_table
from checks.rows import Rows
from checks.window import Window
from monitor.engine import Engine, Location, Session
from monitor.engines import connect, text_files
from monitor.engines.duckdb import reader
from monitor.engines.parquet import Shape
from monitor.engines.text_files import TextIndex
from monitor.errors import EngineError

START = datetime(2026, 3, 1, tzinfo=UTC)
FORMS = ("csv", "json")
Cell = Callable[[int], str]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with closing(connect("files", "duckdb:///:memory:")) as engine:
        yield engine


def at(hour: float, row: int, form: str = "%F %T") -> str:
    return (START + timedelta(hours=hour, seconds=row)).strftime(form)


def write(path: Path, hour: float, rows: int = 10, **more: Cell) -> None:
    """Write events of an hour; an empty value is null."""
    cells: dict[str, Cell] = {"user": lambda i: f"{i:03}", "item": str, "at": lambda i: at(hour, i), **more}
    table = [{name: cell(i) for name, cell in cells.items()} for i in range(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        if path.suffix == ".json":
            file.writelines(json.dumps({name: _value(text) for name, text in row.items()}) + "\n" for row in table)
        else:
            writer = csv.DictWriter(file, list(cells))
            writer.writeheader()
            writer.writerows(table)


def hourly(folder: Path, hours: int, form: str) -> str:
    """Write a file for each hour, and return their glob."""
    for hour in range(hours):
        write(folder / f"{hour}.{form}", hour)
    return f"{folder}/*.{form}"


def _value(text: str) -> object:
    is_number = re.fullmatch(r"(0|[1-9][0-9]*)([.][0-9]+)?", text)
    return (json.loads(text) if is_number else text) if text else None


def opened(session: Session, files: object) -> Dataset:
    columns = session.open(Location("events", files=str(files), ids=("user", "item")))
    roles = {Role.USER: "user", Role.ITEM: "item", Role.EVENT_TIME: "at"}
    kind = columns["at"].kind
    unit = TimeUnit.NATIVE if kind in (Kind.TIMESTAMP, Kind.DATE) else TimeUnit.TEXT
    unit = TimeUnit.SECONDS if kind.is_numeric else unit
    return Dataset("events", dataset_table("events", columns), columns, roles, {Role.EVENT_TIME: unit})


def rows_of(session: Session, events: Dataset, hour: float, hours: float = 1) -> list[str]:
    window = Window(START + timedelta(hours=hour), START + timedelta(hours=hour + hours))
    every = (cast(events.table.c[name], Text) for name in events.columns)
    return sorted(map(str, session.run(Rows(events, window).select(*every), 100_000)))


def once(engine: Engine, files: object, hour: float, hours: float = 1) -> int:
    with engine.session() as session:
        return len(rows_of(session, opened(session, files), hour, hours))


@pytest.mark.parametrize("form", FORMS)
def test_a_statement_over_one_hour_opens_its_own_files_alone(engine: Engine, tmp_path: Path, form: str) -> None:
    files = hourly(tmp_path, 8, form)
    assert once(engine, files, 5) == 10
    with engine.session() as session:
        events = opened(session, files)
        for hour in set(range(8)) - {5}:
            (tmp_path / f"{hour}.{form}").write_bytes(b'{"at": 1, "\xff\xfe\n"')
        assert len(rows_of(session, events, 5)) == 10
        with pytest.raises(EngineError):
            session.run(select(func.sum(cast(events.table.c.item, Text))).select_from(events.table), 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_looked_at_once_and_again_when_it_changed(
    engine: Engine, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    looked = TextIndex._shapes_of

    def look(index: TextIndex, connection: Any, marks: Any) -> Iterator[tuple[str, Shape]]:
        asked.extend(Path(path).stem for path in marks)
        return looked(index, connection, marks)

    monkeypatch.setattr(TextIndex, "_shapes_of", look)
    files = hourly(tmp_path, 3, form)
    assert [once(engine, files, hour) for hour in range(4)] == [10, 10, 10, 0]
    assert sorted(asked) == ["0", "1", "2"]
    write(tmp_path / f"3.{form}", 3)
    write(tmp_path / f"0.{form}", 2, rows=7)
    (tmp_path / f"1.{form}").unlink()
    assert [once(engine, files, hour) for hour in range(4)] == [0, 0, 17, 10]
    assert sorted(asked[3:]) == ["0", "3"]


@pytest.mark.parametrize("form", FORMS)
def test_what_reads_all_files_does_not_look_for_their_types_again(
    engine: Engine, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hourly(tmp_path, 3, form)
    monkeypatch.setattr("monitor.engines.views.whole", lambda *_given: pytest.fail("all were looked at again"))
    with engine.session() as session:
        events = opened(session, files)
        assert session.run(select(func.count()).select_from(events.table), 1) == [(30,)]


@pytest.mark.parametrize("form", FORMS)
def test_what_was_learnt_of_some_files_stays_where_all_take_longer_than_a_statement_may(
    engine: Engine, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hourly(tmp_path, 6, form)
    looked, asked = TextIndex._look_at, []

    def look(index: TextIndex, connection: Any, path: str) -> Any:
        asked.append(path)
        if len(asked) % 3 == 0:
            raise EngineError("too slow")
        return looked(index, connection, path)

    monkeypatch.setattr(TextIndex, "_look_at", look)
    for _run in range(2):
        with engine.session() as session, pytest.raises(EngineError, match="too slow"):
            opened(session, files)
    with engine.session() as session:
        opened(session, files)
    assert len(asked) == 8, "each of six files once, and two of them again that had failed"


@pytest.mark.parametrize("form", FORMS)
def test_files_that_vanish_during_a_run_are_read_as_what_replaced_them(
    engine: Engine, tmp_path: Path, form: str
) -> None:
    files = hourly(tmp_path, 4, form)
    assert once(engine, files, 2) == 10
    with engine.session() as session:
        events = opened(session, files)
        write(tmp_path / f"merged.{form}", 2, rows=30)
        (tmp_path / f"2.{form}").unlink()
        assert [len(rows_of(session, events, hour)) for hour in (2, 3)] == [30, 10]


@pytest.mark.parametrize("form", FORMS)
def test_memory_that_does_not_suffice_to_learn_ranges_leaves_no_view_of_other_hours(
    engine: Engine, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, learnt, failed = hourly(tmp_path, 4, form), text_files._note_ranges, []

    def learn(*given: Any) -> None:
        if not failed:
            failed.append(True)
            raise OperationalError("", None, duckdb.OutOfMemoryException("no memory"))
        learnt(*given)

    with engine.session() as session:
        events = opened(session, files)
        assert len(rows_of(session, events, 0)) == 10
        monkeypatch.setattr(text_files, "_note_ranges", learn)
        assert len(rows_of(session, events, 2)) == 10
    assert failed


@pytest.mark.parametrize("form", FORMS)
def test_what_is_being_written_is_not_read(engine: Engine, tmp_path: Path, form: str) -> None:
    write(tmp_path / "dt=1" / f"a.{form}", 0)
    for half_written in (tmp_path / "dt=1" / f".b.{form}", tmp_path / "_temporary" / "dt=1" / f"a.{form}"):
        half_written.parent.mkdir(parents=True, exist_ok=True)
        half_written.write_text('{"user": "007", "item')
    assert once(engine, f"{tmp_path}/**/*.{form}", 0) == 10
    with engine.session() as session:
        location = Location("events", files=f"{tmp_path}/**/*.{form}")
        everything = text_files.whole(session._connection, location, reader(str(location.files)))
        assert "_temporary" not in everything
        session._connection.exec_driver_sql(f"SELECT count(*) FROM {everything}")


def test_a_time_before_all_times_is_before_every_bound(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path / "0.csv", 0, at=lambda i: "-infinity" if i == 3 else at(5, i))
    write(tmp_path / "1.csv", 1)
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/*.csv")
        before = Rows(events, Window(START - timedelta(hours=1), START)).within(Role.EVENT_TIME, None, START)
        assert session.run(select(func.count()).select_from(events.table).where(before), 1) == [(1,)]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_without_a_value_of_a_column_tells_no_type_of_it(engine: Engine, tmp_path: Path, form: str) -> None:
    write(tmp_path / f"0.{form}", 0, price=lambda _i: "")
    write(tmp_path / f"1.{form}", 1, price=str)
    write(tmp_path / f"2.{form}", 2, price=lambda i: f"{i}.5")
    (tmp_path / f"3.{form}").write_text("user,item,at,price\n" if form == "csv" else "")
    with engine.session() as session:
        assert opened(session, f"{tmp_path}/*.{form}").columns["price"].declared == "DOUBLE"
    write(tmp_path / f"4.{form}", 4, price=lambda i: f"about {i}")
    with engine.session() as session:
        events = opened(session, f"{tmp_path}/*.{form}")
        assert events.columns["price"].declared == {"csv": "VARCHAR", "json": "JSON"}[form]
        assert len(rows_of(session, events, 0, hours=5)) == 40


def test_csv_tells_which_files_lack_a_column_and_json_does_not(engine: Engine, tmp_path: Path) -> None:
    def lacks(form: str, hour: float) -> bool | None:
        with engine.session() as session:
            events = opened(session, f"{tmp_path}/*.{form}")
            window = Window(START + timedelta(hours=hour), START + timedelta(hours=hour + 1))
            statement = select(func.count()).select_from(events.table).where(Rows(events, window).belongs)
            found = session.columns("events", statement)
            return None if found is None else "app" not in found

    for form in FORMS:
        write(tmp_path / f"0.{form}", 0, app=lambda _i: "ios")
        write(tmp_path / f"1.{form}", 1)
    assert [lacks("csv", hour) for hour in (0, 1)] == [False, True]
    assert [lacks("json", hour) for hour in (0, 1)] == [None, None], "a row may lack what others of its file have"


@pytest.mark.parametrize("rows", [[{"A": 1}, {"a": 2}], [{"A": 1, "a": 2}, {"A": 3}], [{"a": 1, "a_1": 2}, {"a": 3}]])
def test_keys_of_json_that_differ_by_case_alone_are_columns_of_their_own(
    engine: Engine, tmp_path: Path, rows: list[dict[str, int]]
) -> None:
    for number, row in enumerate(rows):
        told = {"user": "u", "item": "i", "at": at(0, number)}
        (tmp_path / f"{number}.json").write_text(json.dumps({**told, **row}) + "\n")
    assert both(engine, f"{tmp_path}/*.json", [(0, 1)])


@pytest.mark.parametrize("form", FORMS)
def test_files_may_be_packed_and_have_any_names(engine: Engine, tmp_path: Path, form: str) -> None:
    for hour, name in enumerate(["it's", "50% ; --", "a\nb", "é"]):
        write(tmp_path / f"{name}.{form}", hour, **{'a "b", c :d {e}': str})
        with gzip.open(tmp_path / f"{name}.{form}.gz", "wb") as packed:
            packed.write((tmp_path / f"{name}.{form}").read_bytes())
    for ending in (form, f"{form}.gz"):
        assert both(engine, f"{tmp_path}/*.{ending}", [(0, 1), (2, 0.5), (0, 9)])


LAYOUTS = {
    "windows": b'user,item,at\r\nu1,"a\r\nb","2026-03-01 00:10:00"\r\nu2,c,2026-03-01 00:11:00\r\n',
    "semicolons": b"user;item;at\nu1;a,b;2026-03-01 00:10:00\nu2;c;2026-03-01 00:11:00\n",
    "tabs": b"user\titem\tat\nu1\ta,b\t2026-03-01 00:10:00\nu2\tc\t2026-03-01 00:11:00\n",
    "backslashes": b'user,item,at\nu1,"a\\"b",2026-03-01 00:10:00\nu2,"c",2026-03-01 00:11:00\n',
    "single quotes": b"user,item,at\nu1,'a,b',2026-03-01 00:10:00\nu2,'c',2026-03-01 00:11:00\n",
    "byte order mark": b"\xef\xbb\xbfuser,item,at\nu1,a,2026-03-01 00:10:00\nu2,b,2026-03-01 00:11:00\n",
    "a heading": b"Report of today\n\nuser,item,at\nu1,a,2026-03-01 00:10:00\nu2,b,2026-03-01 00:11:00\n",
    "other order and case": b"AT,item,User\n2026-03-01 00:10:00,a,u1\n2026-03-01 00:11:00,b,u2\n",
    "day first": b"user,item,at\nu1,a,25/12/2025 10:00:00\nu2,b,26/12/2025 11:00:00\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_csv_of_any_layout_is_read_as_it_is_by_itself(engine: Engine, tmp_path: Path, layout: str) -> None:
    write(tmp_path / "0.csv", 0)
    (tmp_path / "1.csv").write_bytes(LAYOUTS[layout])
    assert both(engine, f"{tmp_path}/*.csv", [(-2000, 3000), (0, 1), (0.15, 0.1)])


def both(engine: Engine, files: str, windows: list[tuple[float, float]]) -> bool:
    """Return whether columns and rows are those that DuckDB finds in all files at once, where it can read these."""
    with engine.session() as session, pytest.MonkeyPatch.context() as patch:
        events = opened(session, files)
        found = [_tried(session, events, *window) for window in windows]
        patch.setattr(TextIndex, "refresh", lambda _index, _connection: None)
        whole = opened(session, files)
        assert {name: column.declared for name, column in events.columns.items()} == {
            name: column.declared for name, column in whole.columns.items()
        }
        wanted = [_tried(session, whole, *window) for window in windows]
        assert any(found) or None in wanted, "there is something to compare"
        return all(rows is None or own == rows for own, rows in zip(found, wanted, strict=True))


def _tried(session: Session, events: Dataset, hour: float, hours: float) -> list[str] | None:
    """Return rows, or None where values of a file do not fit the type that all files have, as days and integers."""
    try:
        return rows_of(session, events, hour, hours)
    except EngineError as error:
        if "Conversion Error" not in str(error):
            raise
        return None


VALUES: dict[str, Cell] = {
    "integers": str,
    "floats": lambda i: f"{i}.0" if i % 3 == 0 else f"{i}.5",
    "nothing": lambda _i: "",
    "half": lambda i: "" if i % 2 else str(i),
    "words": lambda i: f"w{i % 7}",
    "quotes": lambda i: f'a,"{i % 5}',
    "days": lambda i: f"2026-03-{1 + i % 28:02}",
    "zeros": lambda i: f"{i:05}",
    "large": lambda i: str(10**19 + i),
}


def _now_and_then(hour: float, form: str, row: int) -> str:
    return "" if row % 9 == 8 else at(hour, row, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(12))
def test_any_files_give_what_all_of_them_give_at_once(engine: Engine, tmp_path: Path, seed: int, form: str) -> None:
    chance = random.Random(seed)
    times = chance.choice([("%F %T",), ("%FT%TZ", "%F %T.%f"), ("%s",), ("%F %T", "%FT%T+02:00")])
    for number in range(8):
        hour, time_form = chance.uniform(0, 5), chance.choice(times)
        more: dict[str, Cell] = {
            name: VALUES[chance.choice(list(VALUES))]
            for name in ("user", "x", "y")
            if name == "user" or chance.random() < 0.8
        }
        more["at"] = partial(_now_and_then, hour, time_form)
        folder = tmp_path / (f"day={number % 3}" if seed % 4 == 3 else "")
        write(folder / f"{chance.randrange(1_000)}.{form}", hour, chance.choice([1, 2, 60, 400]), **more)
        if chance.random() < 0.3:
            victim = chance.choice(sorted(tmp_path.rglob(f"*.{form}")))
            shutil.copy(sorted(tmp_path.rglob(f"*.{form}"))[0], f"{victim}.part")
            os.replace(f"{victim}.part", victim)
        if number % 2:
            assert both(engine, f"{tmp_path}/**/*.{form}", [(hour - 0.05, 0.1), (0, 2), (3, 3), (-1, 9)])
