"""What an engine must be able to do: small statements with known answers, and how an engine does on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, ColumnElement, Date, DateTime, Double, Integer, Text, cast, func, literal, select

from checks.clipped import clip
from checks.dialect import (
    LONGEST_VALUE,
    clipped,
    count_if,
    epoch_micros,
    is_not_finite,
    matches_whole,
    number_or_null,
    number_text,
    parsed_time,
    row_key,
)
from monitor.engine import Engine, Session, first_line
from monitor.engines import connect
from monitor.errors import EngineError

ODD_TEXT = "it's; \"a\" \\ `b` \\' 100% %s :x ${y} -- \t\nü 漢 🙂"
NOON = datetime(2026, 3, 3, 12, 0, 0, 123_456)
NOON_MICROS = (NOON - datetime(1970, 1, 1)) // (datetime.resolution)
LIMIT_SECONDS, PATIENCE_SECONDS = 2.0, 30.0


@dataclass(frozen=True)
class Probe:
    """A statement of one row, and the row that it must return.

    Args:
        what: What is tried, in a few words.
        statement: A SELECT.
        expected: The values that must come back.
        is_needed: Whether some check fails without it.
    """

    what: str
    statement: Any
    expected: tuple[Any, ...]
    is_needed: bool = True


@dataclass(frozen=True)
class Finding:
    """How an engine did on one probe: ``ok``, ``wrong`` or ``failed``."""

    what: str
    result: str
    said: str = ""
    is_needed: bool = True


def _rows() -> Any:
    """Return four rows: (a, 1), (a, 2), (b, 3) and (null, null)."""
    pairs: tuple[tuple[str | None, int | None], ...] = (("a", 1), ("a", 2), ("b", 3), (None, None))
    parts = [select(cast(literal(k, Text), Text).label("k"), cast(literal(n), BigInteger).label("n")) for k, n in pairs]
    return sa.union_all(*parts).cte("four")


def _features() -> Iterator[Probe]:
    """Yield what SQL must have, whatever the dialect calls it."""
    rows = _rows()
    k, n = rows.c.k, rows.c.n
    yield Probe("values round trip", select(literal(ODD_TEXT, Text)), (ODD_TEXT,))
    yield Probe("integers of 64 bits", select(literal(2**62, BigInteger)), (2**62,))
    yield Probe("floating point", select(cast(literal(0.1, Double), Double) * 3), (0.30000000000000004,))
    yield Probe("NULL", select(cast(None, Text), func.coalesce(cast(None, Text), "x")), (None, "x"))
    yield Probe("integers as text", select(cast(cast(literal(7), BigInteger), Text)), ("7",))
    yield Probe("whole division", select(cast(literal(7), BigInteger) // cast(literal(2), BigInteger)), (3,))
    known = sa.case({"a": 1, "b": 2}, value=cast(literal("b", Text), Text), else_=0)
    yield Probe("CASE", select(known), (2,))
    x = cast(literal(2.25, Double), Double)
    rounded = select(func.floor(x), func.ceil(x), func.abs(-x), func.sqrt(x))
    yield Probe("floor, ceil, abs, sqrt", rounded, (2, 3, 2.25, 1.5))
    yield Probe("ln", select(func.ln(cast(literal(1.0, Double), Double))), (0.0,))
    word = cast(literal(" Ab ü ", Text), Text)
    yield Probe("lower, trim, length", select(func.lower(func.trim(word)), func.length(word)), ("ab ü", 6))
    pairs = (("a", "A"), ("a", "a "), ("a", "ä"), ("a", "a"))
    equal: list[Any] = [cast(literal(left, Text), Text) == cast(literal(right, Text), Text) for left, right in pairs]
    yield Probe("texts equal by every letter", select(*equal), (False, False, False, True))
    yield Probe("WITH and aggregates", select(func.count(), func.count(n), func.sum(n), func.max(k)), (4, 3, 6, "b"))
    yield Probe("exact distinct counts", select(func.count(k.distinct())), (2,))
    yield Probe("counting by condition", select(count_if(n > 1), count_if(k == "a")), (2, 2))
    grouped = select(k, func.sum(n).label("s")).where(k.is_not(None)).group_by(k).subquery()
    yield Probe("GROUP BY", select(func.max(grouped.c.s)), (3,))
    place = func.row_number().over(partition_by=k, order_by=n.desc()).label("place")
    before = func.lag(n).over(partition_by=k, order_by=n).label("before")
    upto = func.sum(n).over(order_by=n).label("upto")
    windowed = select(k, n, place, before, upto).where(k.is_not(None)).subquery()
    w = windowed.c
    yield Probe("windows", select(w.place, w.before, w.upto).where(w.n == 2), (1, 1, 3))
    other = rows.alias("other")
    absent = select(func.count()).select_from(rows.outerjoin(other, sa.and_(k == other.c.k, other.c.n == 3)))
    yield Probe("outer joins", absent.where(other.c.k.is_(None)), (3,))


def _functions() -> Iterator[Probe]:
    """Yield each function of ``checks/dialect.py``."""

    def text(value: str | None) -> ColumnElement[str]:
        return cast(literal(value, Text), Text)

    def number(value: float | None) -> ColumnElement[float]:
        return cast(literal(value, Double), Double)

    def key(*parts: str | None) -> ColumnElement[int]:
        return row_key(*(text(part) for part in parts))

    plain, zoned = literal(NOON, DateTime), literal(NOON.replace(tzinfo=UTC), DateTime(timezone=True))
    yield Probe("epoch_micros of timestamps", select(epoch_micros(plain), epoch_micros(zoned)), (NOON_MICROS,) * 2)
    day = datetime(2026, 3, 3)
    micros = (day - datetime(1970, 1, 1)) // datetime.resolution
    yield Probe("epoch_micros of dates", select(epoch_micros(literal(date(2026, 3, 3), Date))), (micros,))
    times = ("2026-03-03T12:00:00.123456", "2026-03-03 14:00:00.123456+02:00", "2026-02-30", "now")
    parsed: list[Any] = [epoch_micros(parsed_time(text(time))) for time in times]
    yield Probe("parsed_time, in UTC", select(*parsed), (NOON_MICROS, NOON_MICROS, None, None))
    yield Probe("is_not_finite", select(is_not_finite(number(1.5)), is_not_finite(number(None))), (False, None))
    yield Probe("infinity", select(is_not_finite(number(float("inf")))), (True,))
    yield Probe("NaN", select(is_not_finite(number(float("nan")))), (True,), is_needed=False)
    numbers: list[Any] = [number_or_null(text(value)) for value in (" -5.25 ", "1e3", "nan", "5 EUR", "")]
    yield Probe("number_or_null", select(*numbers), (-5.25, 1000.0, None, None, None))
    texts: list[Any] = [number_text(number(value)) for value in (7.0, -0.0, -12.25, 12345678.5, None)]
    yield Probe("number_text", select(*texts), ("7", "0", "-12.25", "12345678.5", None))
    patterns = (("a|bc", "abc"), ("a|bc", "bc"), (".+", "a\nb"), (r"\d+", "12"), (r"it's 100% \\", "it's 100% \\"))
    matches: list[Any] = [matches_whole(text(value), pattern) for pattern, value in patterns]
    yield Probe("matches_whole", select(*matches), (False, True, True, True, True))
    same: list[Any] = [key("a", "b") == key("a", "b"), key("ü") == key("ü")]
    apart = [("a", "bc"), ("", "abc"), (None, "ab"), ("ab", None)]
    told: list[Any] = [key("ab", "c") != key(*parts) for parts in apart]
    yield Probe("row_key", select(*same, *told), (True,) * 6)
    long = "ü" * LONGEST_VALUE + "'"
    yield Probe("clipped", select(clipped(text("ü")), clipped(text(long))), ("ü", clip(long)), is_needed=False)


def _probes(engine: Engine) -> Iterator[Probe]:
    yield from _features()
    times = {"epoch_micros of timestamps", "epoch_micros of dates"}
    lacking = set() if engine.dialect.has_native_time else times
    lacking |= set() if engine.dialect.has_infinity else {"infinity", "NaN"}
    yield from (probe for probe in _functions() if probe.what not in lacking)


# Where an engine can be asked whether it would write.
_READ_ONLY: Mapping[str, tuple[str, Any]] = {
    "postgresql": ("SHOW default_transaction_read_only", "on"),
    "sqlite": ("PRAGMA query_only", 1),
    # Each server reads the one remark that is for it.
    **dict.fromkeys(("mariadb", "mysql"), ("SELECT /*M! @@tx_read_only */ /*!80000 @@transaction_read_only */", 1)),
}


def findings(url: str) -> Iterator[Finding]:
    """Yield how an engine does, probe by probe. Nothing is written to it, and no table of its own is read.

    Raises:
        EngineError: It cannot be reached.
        ValueError: There is no support for it at all.
    """
    engine = connect("tried", url)
    try:
        with engine.session() as session:
            for probe in _probes(engine):
                yield _finding(session, probe)
            yield _tables(session)
            yield _read_only(session)
        yield _cancelled(url)
    finally:
        engine.close()


def _finding(session: Session, probe: Probe) -> Finding:
    try:
        found = session.run(probe.statement, 1, probe.what)[0]
    except EngineError as error:
        return Finding(probe.what, "failed", str(error).partition(f"{probe.what}: ")[2] or str(error), probe.is_needed)
    if all(_is_same(left, right) for left, right in zip(found, probe.expected, strict=True)):
        return Finding(probe.what, "ok", is_needed=probe.is_needed)
    shown = [", ".join(map(repr, row)) for row in (found, probe.expected)]
    return Finding(probe.what, "wrong", f"got {shown[0]}; expected {shown[1]}", probe.is_needed)


def _is_same(found: Any, expected: Any) -> bool:
    if found is None or expected is None or isinstance(expected, str):
        return bool(found == expected and type(found) is type(expected))
    # A boolean may come back as 1, a whole number as a decimal.
    if isinstance(expected, int):
        return bool(int(found) == expected)
    return bool(abs(float(found) - expected) <= 1e-12 * abs(expected))


def _tables(session: Session) -> Finding:
    what = "names of tables"
    try:
        inspector = sa.inspect(session.engine.sqlalchemy_engine)
        # Where a database is what others call a schema, a URL may name none.
        inspector.get_table_names(inspector.default_schema_name or inspector.get_schema_names()[0])
    except Exception as error:
        return Finding(what, "failed", first_line(error))
    return Finding(what, "ok")


def _read_only(session: Session) -> Finding:
    what, name = "reading only", session.engine.dialect.name
    if name not in _READ_ONLY:
        return Finding(
            what, "unknown", "the engine cannot be asked; use an account that may only read", is_needed=False
        )
    ask, expected = _READ_ONLY[name]
    with session.engine.sqlalchemy_engine.connect() as connection:
        session.engine.dialect.prepare(connection, {})
        found = connection.exec_driver_sql(ask).scalar_one()
    return Finding(what, "ok" if found == expected else "wrong", f"{ask} is {found}", is_needed=False)


def _cancelled(url: str) -> Finding:
    """Ask for something endless under a short limit; it must be stopped in the engine."""
    what, ended = "stopping a long statement", threading.Event()
    said: list[str] = []

    def ask() -> None:
        engine = connect("tried", url, timeout_seconds=LIMIT_SECONDS)
        endless = _endless(engine.dialect.name)
        try:
            with engine.session() as session:
                session.run(endless, 1, what)
        except EngineError as error:
            said.append(str(error))
        finally:
            engine.close()
        ended.set()

    # A daemon, so that a statement which nobody can stop does not keep the command from ending.
    threading.Thread(target=ask, daemon=True).start()
    if not ended.wait(PATIENCE_SECONDS):
        return Finding(
            what, "failed", f"it still ran after {PATIENCE_SECONDS:g} s; the engine needs a limit of its own"
        )
    is_stopped = bool(said) and "timed out" in said[0]
    return Finding(what, "ok" if is_stopped else "failed", "" if is_stopped else "".join(said))


def _endless(dialect: str) -> sa.Select[Any]:
    if dialect == "hive":
        # Spark gives a statement up at once, but its tasks look whether they are to stop only where they read: one that
        # joins what stands in the statement would hold its executor for days.
        numbers: Any = func.range(10**14).table_valued("id")
        return select(func.sum(numbers.c.id % 7))
    ten = sa.union_all(*(select(cast(literal(n), Integer).label("n")) for n in range(10))).cte("ten")
    first, *others = [ten.alias(f"t{number}") for number in range(14)]
    joined: Any = first
    total: Any = first.c.n
    for other in others:
        joined, total = joined.join(other, sa.true()), total + other.c.n
    return select(func.sum(total)).select_from(joined)
