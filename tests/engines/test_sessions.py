"""Sessions: bounded time, bounded rows, errors that say where and what, and no secret in them."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import URL, column, func, select, table, text

from monitor.engine import Location
from monitor.engines import connect
from monitor.engines.duckdb import _Spill
from monitor.errors import EngineError

ENDLESS = {
    "duckdb": "SELECT count(*) FROM range(100000000) a, range(1000000) b",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000000) b",
    "mariadb": "SELECT count(*) FROM seq_1_to_100000000 a, seq_1_to_1000000 b",
}


def url_of(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if name in ("postgresql", "mariadb"):
        return str(request.getfixturevalue(name))
    (tmp_path / "shop.sqlite").touch()
    return "duckdb:///:memory:" if name == "duckdb" else f"sqlite:///{tmp_path}/shop.sqlite"


def test_a_sqlite_file_that_is_not_there_is_an_error_and_stays_so(tmp_path: Path) -> None:
    engine = connect("shop", f"sqlite:///{tmp_path}/no such%20file?.sqlite")
    said = "engine shop .* cannot be reached: unable to open database file"
    with pytest.raises(EngineError, match=said), engine.session():
        pass
    engine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_sqlite_file_may_have_any_name(tmp_path: Path) -> None:
    place = tmp_path / "my shop%20#1.sqlite"
    with closing(sqlite3.connect(place)) as database:
        database.execute("CREATE TABLE t (n)")
    engine = connect("shop", URL.create("sqlite", database=str(place)).render_as_string())
    with engine.session() as session:
        assert session.run(select(func.count()).select_from(text("t")), 1) == [(0,)]
    engine.close()


@pytest.mark.parametrize("name", ENDLESS)
def test_a_statement_that_takes_too_long_is_cancelled_in_the_engine(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = connect("shop", url_of(name, tmp_path, request), timeout_seconds=0.5)
    endless = select(column("n")).select_from(text(f"({ENDLESS[name].replace('count(*)', 'count(*) AS n')}) AS x"))
    with engine.session() as session:
        started = time.monotonic()
        with pytest.raises(EngineError, match=r"engine shop timed out after 0\.5 s: the endless one"):
            session.run(endless, 1, "the endless one")
        assert time.monotonic() - started < 10
        assert session.run(select(func.abs(-3)), 1, "the next one") == [(3,)], "the session goes on"
    engine.close()


def test_each_statement_has_its_own_time(tmp_path: Path) -> None:
    engine = connect("shop", "duckdb:///:memory:", timeout_seconds=0.6)
    endless = select(column("n")).select_from(text(f"({ENDLESS['duckdb'].replace('count(*)', 'count(*) AS n')}) AS x"))
    before = threading.enumerate()
    with engine.session() as session:
        # Together they take longer than one may.
        for _statement in range(4):
            assert session.run(select(func.abs(-3)), 1) == [(3,)]
            time.sleep(0.25)
        for _statement in range(2):
            started = time.monotonic()
            with pytest.raises(EngineError, match=r"timed out after 0\.6 s"):
                session.run(endless, 1)
            assert 0.6 <= time.monotonic() - started < 10
        assert session.run(select(func.abs(-3)), 1) == [(3,)]
        (watch,) = set(threading.enumerate()) - set(before)
    watch.join(5)
    assert not watch.is_alive(), "with the session its watch ends"
    engine.close()


@pytest.mark.parametrize("name", ENDLESS)
def test_more_rows_than_promised_are_refused(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = connect("shop", url_of(name, tmp_path, request))
    three = select(column("n")).select_from(text("(SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) AS x"))
    with engine.session() as session:
        assert len(session.run(three, 3)) == 3
        with pytest.raises(EngineError, match="returned more than 2 rows"):
            session.run(three, 2)
    engine.close()


@pytest.mark.parametrize("name", ENDLESS)
def test_a_missing_table_is_named(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = connect("shop", url_of(name, tmp_path, request))
    with engine.session() as session:
        with pytest.raises(EngineError, match=r"(?i)nowhere.*(does not exist|not found)"):
            session.open(Location("events", table="nowhere"))
        assert session.run(select(func.abs(-3)), 1) == [(3,)]
    engine.close()


def test_an_engine_that_cannot_be_reached_says_so_without_its_password() -> None:
    engine = connect("warehouse", "postgresql://watch:s3cret@127.0.0.1:1/shop")
    with pytest.raises(EngineError, match=r"engine warehouse .* cannot be reached") as caught, engine.session():
        pass
    assert caught.value.unreachable
    assert "s3cret" not in str(caught.value)


def test_a_duckdb_file_is_only_read_and_only_while_a_run_lasts(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as owner:
        owner.execute("CREATE TABLE events AS SELECT 1 AS n")
    engine = connect("shop", f"duckdb:///{path}")
    with engine.session() as session:
        session.open(Location("events", table="events"))
        assert session.run(select(table("events", column("n"))), 1) == [(1,)]
    with duckdb.connect(str(path)) as owner:
        owner.execute("INSERT INTO events VALUES (2)")
    with engine.session() as session:
        session.open(Location("events", table="events"))
        assert session.run(select(func.count()).select_from(table("events")), 1) == [(2,)]


def test_an_unknown_kind_of_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="no support for mssql; use one of duckdb, sqlite, postgresql"):
        connect("shop", "mssql://host/db")


def test_spark_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyhive", None)
    with pytest.raises(EngineError, match=r"the driver is missing .*pip install 'recwatch\[spark\]'"):
        connect("lake", "hive://127.0.0.1:1/default")


@pytest.mark.parametrize("name", ["mariadb", "mysql"])
def test_mysql_without_its_driver_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(EngineError, match=rf"^{name}://.*the driver is missing .*pip install 'recwatch\[mysql\]'"):
        connect("shop", f"{name}://watch:canary@127.0.0.1:1/shop")


@pytest.mark.parametrize("options", ["", "?auth=NOSASL", "?scheme=http"])
def test_a_thrift_server_that_never_answers_is_unreachable(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyhive.hive", "thrift_sasl"):
        pytest.importorskip(module, reason="the driver of Spark's Thrift server is not installed")
    monkeypatch.setattr("monitor.engines.hive.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        engine = connect("lake", f"hive://127.0.0.1:{server.getsockname()[1]}/default{options}")
        found: list[Exception] = []

        def ask() -> None:
            try:
                with engine.session():
                    pass
            except Exception as error:
                found.append(error)

        lane = threading.Thread(target=ask, daemon=True)
        lane.start()
        lane.join(10)
        assert not lane.is_alive(), "the lane is held"
        assert isinstance(found[0], EngineError)
        assert found[0].unreachable
    engine.close()


def test_sessions_that_do_not_fit_into_memory_spill_apart_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monitor.engines.duckdb._SPILLED", _Spill())
    engine, found, spilt = connect("files", "duckdb:///:memory:", options={"memory_limit": "100MB"}), {}, set[str]()
    numbers = func.range(6_000_000).table_valued("range")

    def count(factor: int) -> None:
        keys = select((numbers.c.range * factor).label("k"), func.count().label("n")).group_by("k").subquery()
        with engine.session() as session:
            found[factor] = session.run(select(func.count(), func.sum(keys.c.k)).select_from(keys), 1)
            (private,) = tmp_path.glob(".recwatch-spill-*/*")
            spilt.update(path.name for path in private.iterdir())
            # Raw ids of users are in there.
            assert private.stat().st_mode & 0o077 == 0

    threads = [threading.Thread(target=count, args=(factor,)) for factor in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = sum(range(6_000_000))
    assert found == {factor: [(6_000_000, factor * whole)] for factor in (1, 3)}
    assert len(spilt) == 2
    assert list(tmp_path.iterdir()) == []

    def full(**_more: str) -> str:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with engine.session() as session:
        assert session.run(select(func.count()).select_from(numbers), 1) == [(6_000_000,)], "it fits into memory"
        keys = select(numbers.c.range.label("k"), func.count().label("n")).group_by("k").subquery()
        with pytest.raises(EngineError, match="nowhere"):
            session.run(select(func.count(), func.sum(keys.c.k)).select_from(keys), 1)
    engine.close()


def test_what_killed_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monitor.engines.duckdb._SPILLED", _Spill())
    place = tmp_path / f".recwatch-spill-{os.getuid()}"
    for name, age_seconds in (("killed", 100_000), ("living", 10)):
        folder = place / name
        folder.mkdir(parents=True)
        (folder / "ids").touch()
        os.utime(folder, (time.time() - age_seconds,) * 2)
    # Nothing else takes as much, so that no connection is kept that has been here before.
    memory = {"memory_limit": "202MB"}
    with closing(connect("files", "duckdb:///:memory:", options=memory)) as engine, engine.session() as session:
        assert [path.name for path in place.iterdir()] == ["living"]
        session.run(text("SELECT 1"), 1)
        assert len(list(place.iterdir())) == 2, "that of the living and our own"
    assert [path.name for path in place.iterdir()] == ["living"]


# How a connection is told apart on the server, and ended there.
SERVERS = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    "mariadb": ("SELECT connection_id()", "KILL {}"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_as_many_sessions_as_the_configuration_allows_are_open_at_once(
    name: str, request: pytest.FixtureRequest
) -> None:
    with closing(connect("warehouse", request.getfixturevalue(name))) as engine, ExitStack() as stack:
        sessions = [stack.enter_context(engine.session()) for _ in range(8)]
        assert len({session.run(text(SERVERS[name][0]), 1)[0][0] for session in sessions}) == 8


@pytest.mark.parametrize("name", SERVERS)
def test_a_session_that_lost_its_connection_asks_no_more(name: str, request: pytest.FixtureRequest) -> None:
    """A new connection would have neither its time zone nor its limits."""
    asks, ends = SERVERS[name]
    with (
        closing(connect("warehouse", request.getfixturevalue(name))) as engine,
        engine.session() as session,
    ):
        mine = session.run(text(asks), 1)[0][0]
        with engine.session() as other:
            other._connection.exec_driver_sql(ends.format(mine))
        with pytest.raises(EngineError, match="engine warehouse"):
            session.run(text("SELECT 1"), 1)
        with pytest.raises(EngineError, match="the connection was lost") as found:
            session.run(text("SELECT 1"), 1)
        assert found.value.unreachable
