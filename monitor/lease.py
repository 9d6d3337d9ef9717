"""The lease: of several daemons on one state, one runs the checks and tells people."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection, select

from checks.window import MICROSECOND, micros
from monitor import schema
from monitor.clock import Clock
from monitor.errors import RecwatchError, StateError

if TYPE_CHECKING:
    from monitor.store import Store

# How long a leader that has fallen silent is waited for.
LASTS = timedelta(seconds=15)


class LeaseLostError(RecwatchError):
    """Another daemon leads now; what was about to be written is its business."""


class Lease:
    """Says which daemon leads.

    Whoever leads renews its lease more often than it lasts, and every transaction that counts or
    tells something holds the lease's row, so that of two that both believe to lead only one can write.

    Args:
        store: The state that the daemons share.
        clock: Tells the time where the database has no clock of its own.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self.holder = f"{socket.gethostname()[:16]}-{_machine()}:{os.getpid()}:{secrets.token_hex(6)}"
        self.is_held = False

    def renew(self) -> bool:
        """Take the lease if nobody else has it, or keep it; return whether this daemon leads."""
        table = schema.leases
        here = table.c.pipeline == self._store.pipeline
        with self._store.writing() as connection:
            now_us = self._now_us(connection)
            values = {"holder": self.holder, "until_us": now_us + LASTS // MICROSECOND}
            found = connection.execute(select(table).where(here).with_for_update()).first()
            if found is None:
                connection.execute(table.insert().values(pipeline=self._store.pipeline, **values))
                self.is_held = True
            else:
                free = found.until_us < now_us or self._is_gone(found.holder)
                self.is_held = found.holder == self.holder or free
                if self.is_held:
                    connection.execute(table.update().where(here).values(values))
        return self.is_held

    def guard(self, connection: Connection) -> None:
        """Keep the lease for as long as a transaction lasts.

        Raises:
            LeaseLostError: Another daemon leads.
        """
        table = schema.leases
        here = sa.and_(table.c.pipeline == self._store.pipeline, table.c.holder == self.holder)
        until_us = self._now_us(connection) + LASTS // MICROSECOND
        if connection.execute(table.update().where(here).values(until_us=until_us)).rowcount == 0:
            self.is_held = False
            raise LeaseLostError("another daemon leads now; this one stands by")

    def release(self) -> None:
        """Give the lease up, so that another daemon need not wait; it ends by itself where the state is away."""
        table = schema.leases
        with suppress(StateError), self._store.writing() as connection:
            connection.execute(
                table.delete().where(table.c.pipeline == self._store.pipeline, table.c.holder == self.holder)
            )
        self.is_held = False

    def _is_gone(self, holder: str) -> bool:
        """Return whether a holder on this machine has ended without giving its lease back."""
        host, pid, _mark = holder.rsplit(":", 2)
        if host != self.holder.rsplit(":", 2)[0]:
            return False
        # In a container every daemon has the same number: one with ours is the one before us.
        return int(pid) == os.getpid() or not _is_running(int(pid))

    def _now_us(self, connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            # The clocks of two machines differ; that of the database is one.
            return micros(connection.execute(select(sa.func.clock_timestamp())).scalar_one())
        return micros(self._clock.now())


def _machine() -> str:
    """Return what two daemons share just if each can tell whether the other still runs.

    Names of machines do not tell: those of two pods may be alike as far as they are kept, or be that of their node.
    """
    told = [socket.gethostname()]
    for read in (Path("/proc/sys/kernel/random/boot_id").read_text, partial(os.readlink, "/proc/self/ns/pid")):
        with suppress(OSError):
            told.append(read())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It runs as somebody else.
        return True
    return True
