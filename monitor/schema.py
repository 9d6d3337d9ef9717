"""Tables of the state database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    select,
)
from sqlalchemy.engine import make_url

from monitor.errors import StateError

# Counted up by each change of the tables after which an older state cannot be read.
VERSION = 4

metadata = MetaData()

# Times are whole microseconds since the Unix epoch: exact, and the same on every database.
meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

_OF_CHECK = ("pipeline", "dataset", "check_id")


def _of_check() -> list[Column[str]]:
    return [Column(name, String(128), primary_key=True) for name in _OF_CHECK]


windows = Table(
    "windows",
    metadata,
    *_of_check(),
    # Ends first, in the key: every run of a check looks for the newest windows before its own.
    Column("end_us", BigInteger, primary_key=True),
    Column("start_us", BigInteger, primary_key=True),
    Column("version", Integer, nullable=False),
    # Accepted windows make up baselines: judged without a bad verdict, and not excluded by hand.
    Column("accepted", Boolean, nullable=False),
    Column("tally", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("increments", Text, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    *_of_check(),
    # In this order the key serves the newest verdicts, the history of a subject and replacing a window.
    Column("end_us", BigInteger, primary_key=True),
    Column("start_us", BigInteger, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("measure", String(64), nullable=False),
    Column("value", Double),
    Column("bound", Double),
    Column("good", BigInteger),
    Column("total", BigInteger),
    Column("reason", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("finished_us", BigInteger, nullable=False),
)

# Verdicts by hours and days: what a page shows of a long time must not cost reading all verdicts.
rollups = Table(
    "rollups",
    metadata,
    *_of_check(),
    Column("seconds", Integer, primary_key=True),
    Column("start_us", BigInteger, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("good", Integer, nullable=False),
    Column("bad", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("error", Integer, nullable=False),
    Column("measure", String(64), nullable=False),
    # Least and greatest value; and of the newest window its end, value, limit and usual band.
    Column("least", Double),
    Column("greatest", Double),
    Column("end_us", BigInteger, nullable=False),
    Column("value", Double),
    Column("bound", Double),
    Column("low", Double),
    Column("high", Double),
)

counters = Table(
    "counters",
    metadata,
    Column("pipeline", String(128), primary_key=True),
    Column("metric", String(128), primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    # What a series that is new to Prometheus holds back until its first value, 0, was exposed.
    Column("held", BigInteger, nullable=False),
)

gauges = Table(
    "gauges",
    metadata,
    *_of_check(),
    Column("metric", String(128), primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", Double, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    *_of_check(),
    # The end of the newest window that was judged; null until one was.
    Column("watermark_us", BigInteger),
    Column("finished_us", BigInteger, nullable=False),
    Column("succeeded_us", BigInteger),
    Column("duration_seconds", Double, nullable=False),
    Column("error", Text),
)

baselines = Table(
    "baselines",
    metadata,
    *_of_check(),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("built_us", BigInteger, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("frozen", Text, nullable=False),
    Column("reference", Text, nullable=False),
)

# What each run says about each objective, for as long as the longest window of a tier looks back.
slo_points = Table(
    "slo_points",
    metadata,
    # Grows with every row, so that a reader can ask for what is new.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String(128), nullable=False),
    Column("slo", String(128), nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("good", Double, nullable=False),
    Column("bad", Double, nullable=False),
    Column("live", Boolean, nullable=False),
    UniqueConstraint("pipeline", "slo", "end_us"),
)

# The newest of them.
slo_latest = Table(
    "slo_latest",
    metadata,
    Column("pipeline", String(128), primary_key=True),
    Column("slo", String(128), primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("judged_us", BigInteger),
    Column("since_us", BigInteger, nullable=False),
)

# The same by hours, for the budget of a whole period: events, or seconds.
slo_hours = Table(
    "slo_hours",
    metadata,
    Column("pipeline", String(128), primary_key=True),
    Column("slo", String(128), primary_key=True),
    Column("hour_us", BigInteger, primary_key=True),
    Column("good", Double, nullable=False),
    Column("bad", Double, nullable=False),
)

# Every message about an incident; incidents and their transitions are kept as history, too.
transitions = Table(
    "transitions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String(128), nullable=False),
    Column("incident", String(255), nullable=False),
    Column("number", Integer, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("alert", Text, nullable=False),
    UniqueConstraint("pipeline", "incident", "number"),
)

# What is still to be delivered to whom, and what became of it.
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String(128), nullable=False),
    Column("channel", String(128), nullable=False),
    Column("transition_id", BigInteger, nullable=False),
    Column("incident", String(255), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("error", Text),
    UniqueConstraint("channel", "transition_id"),
)

# What a channel remembers of an incident, such as the id of a message to edit.
memories = Table(
    "memories",
    metadata,
    Column("pipeline", String(128), primary_key=True),
    Column("channel", String(128), primary_key=True),
    Column("incident", String(255), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

silences = Table(
    "silences",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String(128), nullable=False),
    Column("pattern", String(128), nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", String(128), nullable=False),
)

# What an investigator needs of a bad verdict, as one JSON document each.
evidence = Table(
    "evidence",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("pipeline", String(128), nullable=False),
    Column("dataset", String(128), nullable=False),
    Column("check_id", String(128), nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("body", Text, nullable=False),
    # Asked for each verdict of each run.
    Index("evidence_about", "pipeline", "dataset", "check_id", "outcome", "at_us"),
)

# What was done on purpose, such as deploys.
happenings = Table(
    "happenings",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
)

# HTML reports about a piece of evidence, compressed.
reports = Table(
    "reports",
    metadata,
    Column("evidence", String(32), primary_key=True),
    Column("pipeline", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("html", LargeBinary, nullable=False),
)

# Who runs the checks and tells people, of several daemons on one state.
leases = Table(
    "leases",
    metadata,
    Column("pipeline", String(128), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until_us", BigInteger, nullable=False),
)


def connect(url: str) -> Engine:
    """Return the engine of a state database, set up so that a kill at any instant harms nothing."""
    if not url.startswith("sqlite"):
        # Its driver is loaded where there is use for it.
        from monitor import state_postgres

        return state_postgres.connect(url)
    engine = create_engine(url)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun below, by hand: the driver would begin them too late, after a read.
    connection.isolation_level = None
    # WAL lets scrapes read while a window is written, and survives a kill at any instant.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA busy_timeout={1000 * _LONGEST_WAIT_SECONDS:.0f}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once and waits for it; a later upgrade would fail without waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


_WRITERS: dict[str, threading.RLock] = {}
_LONGEST_WAIT_SECONDS = 10.0


@contextmanager
def writer(url: str) -> Iterator[None]:
    """Hold what whoever in this process writes to a state holds.

    SQLite lets one write at a time and has the others ask again and again; of many threads some would wait for
    seconds for what takes milliseconds. A server sees to that itself.

    Raises:
        StateError: Another one has been writing for too long.
    """
    if not url.startswith("sqlite"):
        yield
        return
    turn = _WRITERS.setdefault(url, threading.RLock())
    if not turn.acquire(timeout=_LONGEST_WAIT_SECONDS):
        where = make_url(url).render_as_string(hide_password=True)
        raise StateError(f"state {where}: cannot be written: another write has gone on for too long; look at the disk")
    try:
        yield
    finally:
        turn.release()


def exists(url: str) -> bool:
    """Return whether a state is there already; one on a server is taken to be there."""
    parsed = make_url(url)
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file()


def create(connection: Connection, where: str) -> None:
    """Create the tables where they are missing, in the caller's transaction; in any case something is written.

    Raises:
        StateError: The state was written by a recwatch whose tables were others.
    """
    metadata.create_all(connection)
    found = connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if found is None:
        connection.execute(meta.insert().values(key="schema_version", value=str(VERSION)))
        return
    if found != str(VERSION):
        todo = "upgrade recwatch" if int(found) > VERSION else "move it away, and a new one is begun"
        raise StateError(
            f"state {where}: is of schema {found}, this recwatch knows {VERSION}; {todo}, or point state at another"
            " database"
        )
    # Whoever may not write there hears of it now.
    connection.execute(meta.update().where(meta.c.key == "schema_version").values(value=found))
