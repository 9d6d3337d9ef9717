"""The state on PostgreSQL: no wait is endless, though the server or the network between goes silent without a word."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

# How long the server may take to answer what takes it no time: a greeting, a ping.
ANSWERS_WITHIN_SECONDS = 10
# How much longer than the server's own limit on a statement we wait for it to say that it has ended it.
SPARE_SECONDS = 5.0
# What a network that drops packets is noticed by, within half a minute, as soon as anything was sent.
_NETWORK = {
    "connect_timeout": ANSWERS_WITHIN_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# The state's statements take milliseconds. The server must notice, too, that we are gone: it would keep the lease's row
# locked for us, and neither we nor another daemon could go on.
_LIMITS = {
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "20s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# What the URL, the role, the database or the server's configuration says stays.
_LIMIT = "SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s AND source = 'default'"
_LIMITED_TO = "SELECT setting::float / 1000 FROM pg_settings WHERE name = 'statement_timeout'"


class Patient(psycopg.Connection[Any]):
    """A connection that is given up when an answer does not come, even where the other side stays there, silent.

    The kernel's own limits end only what nobody acknowledges; a proxy or a stuck server acknowledges everything.
    """

    # Longest wait for one answer, in seconds; None for no end, where somebody has switched the server's limit off.
    patience: float | None = ANSWERS_WITHIN_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        """Wait for an answer of the server; part of psycopg.

        Raises:
            psycopg.OperationalError: It has not come in time; the connection is closed.
        """
        return super().wait(self._bounded(gen), *args, **more)

    def _bounded(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Go on with what psycopg waits for, and end it where nothing has come for too long."""
        patience, began = self.patience, time.monotonic()
        ready: Any = None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as done:
                return done.value
            ready = yield wanted
            # psycopg comes back ten times a second where there is nothing.
            if not ready and patience is not None and time.monotonic() - began > patience:
                self.close()
                raise psycopg.OperationalError(f"no answer within {patience:g} s, the connection was given up")


def connect(url: str) -> sa.Engine:
    """Return the engine of a state on PostgreSQL; what its URL says of timeouts counts before what stands here."""
    parsed = make_url(url)
    network = {name: value for name, value in _NETWORK.items() if name not in parsed.query}
    engine = sa.create_engine(parsed, pool_pre_ping=True, connect_args=network)
    ping = engine.dialect.do_ping

    def ping_soon(connection: Any) -> bool:
        patience, connection.patience = connection.patience, ANSWERS_WITHIN_SECONDS
        try:
            return ping(connection)
        finally:
            connection.patience = patience

    engine.dialect.do_ping = ping_soon  # type: ignore[assignment,method-assign]
    event.listen(engine, "do_connect", lambda _dialect, _record, args, named: Patient.connect(*args, **named))
    event.listen(engine, "connect", _limit)
    return engine


def _limit(connection: Patient, _record: Any) -> None:
    with connection.cursor() as cursor:
        for name, value in _LIMITS.items():
            cursor.execute(_LIMIT, (value, name))
        (seconds,) = cursor.execute(_LIMITED_TO).fetchone() or (0,)
    connection.commit()
    connection.patience = seconds + SPARE_SECONDS if seconds else None
