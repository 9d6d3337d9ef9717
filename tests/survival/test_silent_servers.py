"""A server that accepts and then says nothing, that never ends, or that changes meanwhile: bounded, told, healed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import NullPool, column, create_engine, func, select, text

from monitor.engine import Engine, Location
from monitor.engines import connect
from monitor.errors import EngineError

ROWS = {"postgresql": "generate_series(1, 10000000000) a", "mariadb": "seq_1_to_99999999 a, seq_1_to_99999999 b"}


def endless(server: str) -> Any:
    rows = ROWS[server.partition("+")[0].partition(":")[0]]
    return select(column("n")).select_from(text(f"(SELECT count(*) AS n FROM {rows}) AS x"))


@pytest.fixture
def engine(server: str, proxy: Any) -> Iterator[Engine]:
    """An engine behind the proxy, which has answered once."""
    port = server.rpartition(":")[2].partition("/")[0]
    engine = connect("warehouse", server.replace(port, str(proxy.port)), timeout_seconds=1)
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)]
    yield engine
    engine.close()


BOTH = pytest.mark.parametrize("server", ["postgresql", "mariadb"], indirect=True)


@BOTH
def test_a_server_that_falls_silent_between_runs_is_unreachable_within_seconds(proxy: Any, engine: Engine) -> None:
    proxy.swallows.set()
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"engine warehouse .* cannot be reached") as caught, engine.session():
        pass
    assert caught.value.unreachable
    assert time.monotonic() - started < 20
    proxy.swallows.clear()
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)], "it heals by itself"


@BOTH
def test_a_server_that_is_silent_from_the_start_is_unreachable_within_seconds(server: str, proxy: Any) -> None:
    proxy.swallows.set()
    port = server.rpartition(":")[2].partition("/")[0]
    started = time.monotonic()
    with (
        closing(connect("warehouse", server.replace(port, str(proxy.port)), timeout_seconds=1)) as engine,
        pytest.raises(EngineError, match=r"engine warehouse .* cannot be reached"),
        engine.session(),
    ):
        pass
    assert time.monotonic() - started < 20


def test_a_server_that_falls_silent_in_the_handshake_of_tls_is_unreachable_within_seconds() -> None:
    begun, abilities = [], 0x81FFFFFF
    greeting = b"".join(
        (
            b"\x0a8.0.30\0", struct.pack("<I", 7), b"abcdefgh\0", struct.pack("<H", abilities & 0xFFFF), b"\x2d\x02\0",
            struct.pack("<H", abilities >> 16), b"\x15", b"\0" * 10, b"abcdefghijkl\0mysql_native_password\0",
        )
    )  # fmt: skip

    def greet(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                begun.append(listening.accept()[0])
                begun[-1].sendall(struct.pack("<I", len(greeting))[:3] + b"\0" + greeting)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=greet, args=(listening,), daemon=True).start()
        url, started = f"mysql://u:p@127.0.0.1:{listening.getsockname()[1]}/shop", time.monotonic()
        with (
            closing(connect("shop", url, timeout_seconds=1)) as engine,
            pytest.raises(EngineError, match=r"engine shop .* cannot be reached"),
            engine.session(),
        ):
            pass
        assert time.monotonic() - started < 20
        assert begun
    for client in begun:
        client.close()


@BOTH
def test_a_server_that_falls_silent_after_the_last_statement_holds_up_no_run(
    proxy: Any, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)]
        proxy.swallows.set()
    assert time.monotonic() - started < 20
    assert caplog.records == [], "nothing was to be said any more"
    proxy.swallows.clear()
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)], "it heals by itself"


@BOTH
def test_a_server_that_falls_silent_during_a_statement_is_given_up(proxy: Any, engine: Engine) -> None:
    started = time.monotonic()
    with engine.session() as session:
        proxy.swallows.set()
        with pytest.raises(EngineError, match="engine warehouse timed out after 1 s: the silent one"):
            session.run(select(func.abs(-3)), 1, "the silent one")
        assert time.monotonic() - started < 20
    proxy.swallows.clear()
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)], "it heals by itself"


def running(server: str) -> int:
    """Return how many of our statements a server is still at work on."""
    query = (
        "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%%seq_1_to_9%%' AND id <> connection_id()"
    )
    if server.startswith("postgresql"):
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%generate_series(1, 1000%%'"
            " AND pid <> pg_backend_pid()"
        )
    engine = create_engine(server.replace("mariadb:", "mariadb+pymysql:"), poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(query, ()).scalar_one())


@BOTH
def test_a_statement_that_never_returns_ends_in_the_server_too(server: str) -> None:
    engine = connect("shop", server, timeout_seconds=1)
    seen: list[int] = []
    watching = threading.Timer(0.5, lambda: seen.append(running(server)))
    watching.start()
    with engine.session() as session, pytest.raises(EngineError, match="timed out after 1 s"):
        session.run(endless(server), 1)
    watching.join()
    assert seen == [1], "it was at work"
    assert running(server) == 0, "it is not any more"
    engine.close()


@BOTH
def test_the_server_ends_a_statement_that_our_word_does_not_reach(
    server: str, proxy: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order to cancel is swallowed, the connection is severed, and the server's own limit stops the statement."""
    for kind in ("postgres", "mysql"):
        monkeypatch.setattr(f"monitor.engines.{kind}.SPARE_SECONDS", 0.5)
    swallow = threading.Timer(0.5, proxy.swallows.set)
    # A connection of before has the limit of before.
    engine.close()
    with engine.session() as session:
        swallow.start()
        with pytest.raises(EngineError, match="timed out after 1 s"):
            session.run(endless(server), 1)
    ends = time.monotonic() + 20
    while running(server):
        assert time.monotonic() < ends, "the server still works on it"
        time.sleep(0.1)


@pytest.fixture
def reader(postgresql: str) -> Iterator[str]:
    """The URL of a role that the server asks for its password, and without it."""
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(b"CREATE ROLE reader LOGIN PASSWORD 'right'")
        (shown,) = owner.execute(b"SHOW hba_file").fetchone() or ("",)
        path = Path(shown)
        rules = path.read_text()
        path.write_text(f"host all reader 127.0.0.1/32 scram-sha-256\n{rules}")
        owner.execute(b"SELECT pg_reload_conf()")
        yield postgresql.replace("watch@", "reader:PASSWORD@")
        path.write_text(rules)
        owner.execute(b"SELECT pg_reload_conf()")
        owner.execute(b"DROP ROLE reader")


def test_a_wrong_password_is_said_without_it(reader: str) -> None:
    engine = connect("shop", reader.replace("PASSWORD", "wr0ng"))
    refused = r"engine shop .* cannot be reached: .*password authentication failed"
    with pytest.raises(EngineError, match=refused) as caught, engine.session():
        pass
    assert caught.value.unreachable
    assert "wr0ng" not in str(caught.value)
    engine.close()
    engine = connect("shop", reader.replace("PASSWORD", "right"))
    with engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)]
    engine.close()


def test_a_table_that_is_dropped_and_made_anew_with_another_type_is_told_and_healed(postgresql: str) -> None:
    engine = connect("shop", postgresql)
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(b"CREATE TABLE things (n INTEGER)")
        with engine.session() as session:
            assert session.open(Location("things", table="things"))["n"].declared == "INTEGER"
        owner.execute(b"DROP TABLE things")
        with engine.session() as session, pytest.raises(EngineError, match="things does not exist"):
            session.open(Location("things", table="things"))
        owner.execute(b"CREATE TABLE things (n TEXT)")
        with engine.session() as session:
            assert session.open(Location("things", table="things"))["n"].declared == "TEXT"
        owner.execute(b"DROP TABLE things")
    engine.close()
