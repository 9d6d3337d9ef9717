"""DuckDB over files: small runs use one connection after the other, and none finds anything of the one before."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import column, event, func, select, table, text

from monitor.engine import Engine, Location, Session
from monitor.engines import connect
from monitor.engines.views import _INDEXES, MOST_RUNS
from monitor.errors import EngineError

EVENTS = table("events", column("item"), column("at"))
START = datetime(2026, 2, 1, tzinfo=UTC)
SUM = select(func.count(), func.sum(EVENTS.c.item)).select_from(EVENTS)


def write(path: Path, first: int, options: str = "FORMAT parquet, COMPRESSION uncompressed") -> None:
    rows = f"SELECT i + {first} AS item, TIMESTAMP '2026-03-01' + i * INTERVAL 1 SECOND AS at FROM range(1000) t(i)"
    duckdb.connect().execute(f"COPY ({rows}) TO '{path}' ({options})")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write(tmp_path / "a.parquet", 0)
    return tmp_path / "*.parquet"


@pytest.fixture
def engine() -> Iterator[Engine]:
    # With a limit of its own it shares nothing with other tests.
    with closing(connect("files", "duckdb:///:memory:", options={"memory_limit": "201MB"})) as engine:
        yield engine


@pytest.fixture
def connections(engine: Engine) -> list[object]:
    """One entry for each connection that is opened."""
    found: list[object] = []
    event.listen(engine.sqlalchemy_engine, "connect", lambda driver, _record: found.append(driver))
    return found


def little(session: Session, files: Path) -> list[tuple[object, ...]]:
    session.open(Location("events", files=str(files)))
    return list(session.run(SUM, 1))


def test_small_runs_follow_each_other_on_one_connection(
    engine: Engine, connections: list[object], files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for _run in range(3):
        with engine.session() as session:
            assert little(session, files) == [(1000, 499_500)]
            assert list((tmp_path / "here").iterdir()) == [], "nothing is to be spilled"
    assert len(connections) == 1


def test_a_connection_that_has_served_for_long_is_replaced(
    engine: Engine, connections: list[object], files: Path
) -> None:
    for run in range(2 * MOST_RUNS + 1):
        with engine.session() as session:
            assert little(session, files) == [(1000, 499_500)]
        assert len(connections) == 1 + run // MOST_RUNS


def test_sessions_that_overlap_have_connections_of_their_own(
    engine: Engine, connections: list[object], files: Path
) -> None:
    with engine.session() as one, engine.session() as other, engine.session() as third:
        assert little(one, files) == little(other, files) == little(third, files)
    assert len(connections) == 3
    with engine.session() as one, engine.session() as other, engine.session() as third:
        assert little(one, files) == little(other, files) == little(third, files)
    assert len(connections) == 4, "two are kept"


def _fails(session: Session, _files: Path) -> None:
    with pytest.raises(EngineError):
        session.run(select(column("nowhere")).select_from(EVENTS), 1)


def _is_large(session: Session, files: Path) -> None:
    size = "FORMAT parquet, COMPRESSION uncompressed"
    rows = "SELECT hash(i)::VARCHAR AS item, now() AS at FROM range(60000) t(i)"
    duckdb.connect().execute(f"COPY ({rows}) TO '{files.parent}/large.parquet' ({size})")
    session.open(Location("large", files=f"{files.parent}/large.parquet"))
    session.run(select(func.count()).select_from(table("large", column("item"))), 1)


def _holds_a_stream(session: Session, _files: Path) -> None:
    session.open(Location("lag", rows=((1, "a", 2.0),)))
    assert session.run(select(func.count()).select_from(table("lag", column("value"))), 1) == [(1,)]


def _reads_words(session: Session, _files: Path) -> None:
    session.run(text("SELECT 1"), 1)


def _reads_csv(session: Session, files: Path) -> None:
    write(files.parent / "a.csv", 0, "FORMAT csv")
    session.open(Location("csv", files=f"{files.parent}/a.csv"))


def _reads_json(session: Session, files: Path) -> None:
    write(files.parent / "a.json", 0, "FORMAT json")
    session.open(Location("json", files=f"{files.parent}/a.json"))
    session.run(select(func.count()).select_from(table("json", column("item"))), 1)


@pytest.mark.parametrize("spoil", [_fails, _is_large, _holds_a_stream, _reads_words, _reads_csv, _reads_json])
def test_a_connection_that_did_anything_else_is_closed(
    engine: Engine, connections: list[object], files: Path, spoil: Callable[[Session, Path], None]
) -> None:
    with engine.session() as session:
        little(session, files)
        spoil(session, files)
    assert len(connections) == 1
    with engine.session() as session:
        assert little(session, files.with_name("a.parquet")) == [(1000, 499_500)]
    assert len(connections) == 2


def test_json_has_more_memory_on_its_own_connection_alone(files: Path) -> None:
    limit = text("SELECT current_setting('memory_limit')")
    with closing(connect("files", "duckdb:///:memory:")) as engine:
        with engine.session() as session:
            little(session, files)
            _reads_json(session, files)
            (raised,) = session.run(limit, 1)
        with engine.session() as session:
            little(session, files)
            (usual,) = session.run(limit, 1)
    assert raised != usual


@pytest.mark.parametrize("is_in_place", [True, False])
def test_a_file_of_the_same_size_and_time_is_read_anew(
    engine: Engine, connections: list[object], files: Path, is_in_place: bool
) -> None:
    path, new = files.with_name("a.parquet"), files.with_name("a.new")
    before = path.stat()
    with engine.session() as session:
        assert little(session, files) == [(1000, 499_500)]
    write(new, 500)
    assert new.stat().st_size == before.st_size
    if is_in_place:
        path.write_bytes(new.read_bytes())
    else:
        os.replace(new, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with engine.session() as session:
        session.open(Location("events", files=str(files)))
        # Statistics of before would leave these rows out.
        over = select(func.count(), func.sum(EVENTS.c.item)).select_from(EVENTS).where(EVENTS.c.item > 1200)
        assert session.run(over, 1) == [(299, 299 * 1350)]
    assert len(connections) == 1


def test_nothing_of_the_run_before_is_left(engine: Engine, connections: list[object], files: Path) -> None:
    with engine.session() as session:
        little(session, files)
    with engine.session() as session:
        assert session.run(text("SELECT view_name FROM duckdb_views() WHERE NOT internal"), 1) == []
    # A name may stand for something else by now.
    with engine.session() as session:
        little(session, files)
    with engine.session() as session:
        session.open(Location("events", rows=((1, "a", 2.0),)))
        assert session.run(select(func.sum(table("events", column("value")).c.value)), 1) == [(2.0,)]
    assert len(connections) == 2


def test_files_that_went_away_in_between_are_no_error_of_the_next_run(
    engine: Engine, connections: list[object], files: Path
) -> None:
    with engine.session() as session:
        little(session, files)
    files.with_name("a.parquet").unlink()
    other = files.parent / "other"
    other.mkdir()
    write(other / "b.parquet", 0)
    with engine.session() as session:
        session.open(Location("other", files=str(other / "*.parquet")))
        assert session.run(select(func.count()).select_from(table("other", column("item"))), 1) == [(1000,)]
    assert len(connections) == 1


def test_what_is_known_of_files_ends_with_the_engine(engine: Engine, files: Path) -> None:
    with engine.session() as session:
        little(session, files)
    assert _INDEXES[engine.sqlalchemy_engine]
    engine.close()
    assert engine.sqlalchemy_engine not in _INDEXES


def test_a_statement_that_waited_for_another_session_has_a_time_limit_still(files: Path) -> None:
    # One learns what the files hold, and the other waits for it longer than its statement may take.
    others = [table(name, column("item")) for name in ("a", "b", "c")]
    joined: Any = EVENTS
    for other in others:
        joined = joined.join(other, EVENTS.c.item + other.c.item >= 0)
    endless = select(func.count()).select_from(joined).where(EVENTS.c.at > START)
    with (
        closing(connect("one", "duckdb:///:memory:", options={"memory_limit": "203MB"})) as one,
        closing(connect("two", "duckdb:///:memory:", timeout_seconds=0.5, options={"memory_limit": "203MB"})) as two,
        one.session() as learning,
    ):
        little(learning, files)
        (index,) = _INDEXES[one.sqlalchemy_engine].values()
        with two.session() as session:
            for name in ("events", "a", "b", "c"):
                session.open(Location(name, files=str(files)))
            index._lock.acquire()
            threading.Timer(1.0, index._lock.release).start()
            with pytest.raises(EngineError, match="timed out"):
                session.run(endless, 1)


def test_engines_that_may_take_as_much_share_what_is_kept(files: Path) -> None:
    url = "duckdb:///:memory:"
    with (
        closing(connect("one", url)) as one,
        closing(connect("two", url, timeout_seconds=5)) as two,
        closing(connect("three", url, options={"threads": 1})) as three,
    ):
        assert one.sqlalchemy_engine is two.sqlalchemy_engine
        assert three.sqlalchemy_engine is not one.sqlalchemy_engine
        with one.session() as session:
            little(session, files)
        one.close()
        with two.session() as session:
            assert little(session, files) == [(1000, 499_500)]
