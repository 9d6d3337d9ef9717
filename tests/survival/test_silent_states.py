"""A state on PostgreSQL whose server, or the network to it, goes silent: bounded, told, and healed by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa

from monitor import state_postgres
from monitor.database import Database
from monitor.errors import StateError

# Told so that a test need not wait for half a minute; nothing depends on how fast the machine is.
SOON = "-c statement_timeout=3000 -c idle_in_transaction_session_timeout=3000"
LONGEST_SECONDS = 120


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_postgres, "SPARE_SECONDS", 1.0)
    monkeypatch.setattr(state_postgres, "ANSWERS_WITHIN_SECONDS", 3)


@pytest.fixture
def state(postgresql: str) -> Iterator[str]:
    """The URL of an empty database for the state."""
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(b"CREATE DATABASE silent")
        yield postgresql.rpartition("/")[0] + "/silent"
        owner.execute(b"DROP DATABASE silent WITH (FORCE)")


def behind(proxy: Any, url: str, options: str = SOON) -> str:
    """Return the URL of the same database by way of the proxy, with limits of the user's own."""
    port = url.rpartition(":")[2].partition("/")[0]
    return f"{url.replace(port, str(proxy.port))}?connect_timeout=3&options={quote(options)}"


def test_a_state_that_falls_silent_between_two_uses_is_told_and_heals(proxy: Any, state: str, impatient: None) -> None:
    database = Database(behind(proxy, state))
    proxy.swallows.set()
    with pytest.raises(StateError, match=r"state .*/silent.*: cannot be read: .*timeout"), database.reading():
        pytest.fail("nothing answers")
    proxy.swallows.clear()
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    database.close()


def write(database: Database, proxy: Any, *, is_at_commit: bool) -> None:
    """Write two rows in a transaction, during which, or at whose end, the server falls silent."""
    with database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', '1')")
        if is_at_commit:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('b', '2')")
        proxy.swallows.set()
        if not is_at_commit:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('b', '2')")


@pytest.mark.parametrize("is_at_commit", [False, True])
def test_a_state_that_falls_silent_during_a_transaction_is_given_up(
    proxy: Any, state: str, impatient: None, is_at_commit: bool
) -> None:
    database = Database(behind(proxy, state))
    with pytest.raises(StateError, match="cannot be written: no answer within 4 s, the connection was given up"):
        write(database, proxy, is_at_commit=is_at_commit)
    proxy.swallows.clear()
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta WHERE key IN ('a', 'b')").scalar() == 0
    database.close()


def test_the_daemon_says_that_its_state_is_silent_and_goes_on_when_the_path_is_back(
    shop: Any, proxy: Any, state: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The path goes while the daemon holds the lease's row; nobody but the server can set that free."""
    text = (shop.folder / "recwatch.yml").read_text()
    shop.configure(text.replace(f"sqlite:///{shop.folder}/state.db", behind(proxy, state)))
    shop.write(range(12))
    daemon = shop.daemon(4)
    shop.tick()
    before = shop.counted

    def lose_the_path() -> None:
        with daemon.store.writing() as connection:
            daemon.lease.guard(connection)
            proxy.swallows.set()
            daemon.lease.guard(connection)

    with pytest.raises(StateError, match="no answer within 4 s"):
        lose_the_path()
    shop.tick(8)
    assert "cannot be written: " in str(daemon._state_problem)
    assert "lease_failed" in caplog.text
    proxy.swallows.clear()
    ends = time.monotonic() + LONGEST_SECONDS
    shop.tick()
    while daemon._state_problem is not None or shop.counted < before + 40:
        assert time.monotonic() < ends, daemon._state_problem
        shop.tick()
    assert daemon.lease.is_held
    assert shop.counted == before + 40, "every window once"


def test_a_daemon_that_starts_before_a_silent_state_says_so(proxy: Any, state: str, impatient: None) -> None:
    proxy.swallows.set()
    with pytest.raises(StateError, match=r"state .*/silent.*: cannot be opened: .*timeout"):
        Database(behind(proxy, state))


# -- what is set, and what is left as it is --------------------------------------------------------


def settings(url: str) -> tuple[dict[str, str], dict[str, str], float | None]:
    """Return the limits of the server, those of the network, and how long we wait."""
    engine = state_postgres.connect(url)
    with engine.connect() as connection:
        names = ", ".join(f"'{name}'" for name in state_postgres._LIMITS)
        said = f"SELECT name, current_setting(name) FROM pg_settings WHERE name IN ({names})"
        limits: dict[str, str] = {row[0]: row[1] for row in connection.execute(sa.text(said))}
        driver: Any = connection.connection.dbapi_connection
        found = limits, driver.info.get_parameters(), driver.patience
    engine.dispose()
    return found


def test_limits_are_set_where_nobody_says_otherwise(state: str) -> None:
    limits, network, patience = settings(state)
    assert limits == state_postgres._LIMITS
    assert {name: network[name] for name in state_postgres._NETWORK} == {
        name: str(value) for name, value in state_postgres._NETWORK.items()
    }
    assert patience == 35


def test_what_the_url_says_stays(state: str) -> None:
    url = f"{state}?connect_timeout=3&tcp_user_timeout=7000&options={quote('-c statement_timeout=90s')}"
    limits, network, patience = settings(url)
    assert (limits["statement_timeout"], limits["tcp_keepalives_idle"]) == ("90s", "10")
    assert (network["connect_timeout"], network["tcp_user_timeout"], network["keepalives_idle"]) == ("3", "7000", "10")
    assert patience == 95
    assert settings(f"{state}?options={quote('-c statement_timeout=0')}")[2] is None, "somebody wants no end"


def test_what_the_role_or_the_database_says_stays(state: str) -> None:
    with psycopg.connect(state.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(b"ALTER DATABASE silent SET statement_timeout = '3s'")
    limits, _network, patience = settings(state)
    assert (limits["statement_timeout"], limits["idle_in_transaction_session_timeout"]) == ("3s", "20s")
    assert patience == 8


def test_a_statement_without_end_is_ended_by_the_server(state: str) -> None:
    database = Database(f"{state}?options={quote('-c statement_timeout=100')}")
    with pytest.raises(StateError, match="canceling statement due to statement timeout"), database.reading() as found:
        found.exec_driver_sql("SELECT pg_sleep(600)")
    database.close()
