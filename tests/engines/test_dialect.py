"""Every construct of checks/dialect.py and every expression of rows, on each kind of engine: the same value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Boolean, ColumnElement, Date, DateTime, Double, Text, cast, column, literal, select

from checks.clipped import clip
from checks.dialect import (
    clipped,
    count_if,
    epoch_micros,
    folded,
    is_not_finite,
    matches_whole,
    number_or_null,
    number_text,
    parsed_time,
    row_key,
)
from monitor.engine import Session
from monitor.engines import connect

Ask = Callable[[ColumnElement[Any]], Any]
ZERO = datetime(1970, 1, 1)


ON_SPARK = pytest.param("hive", marks=[pytest.mark.slow])


@pytest.fixture(params=["duckdb", "sqlite", "postgresql", "mariadb", ON_SPARK], scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    urls = {"duckdb": "duckdb:///:memory:", "sqlite": "sqlite://"}
    server = {"hive": "spark"}.get(request.param, request.param)
    url = urls.get(request.param) or request.getfixturevalue(server)
    with closing(connect("shop", url, timeout_seconds=300)) as engine, engine.session() as session:
        yield session


@pytest.fixture
def ask(session: Session) -> Ask:
    """Evaluates one expression."""
    return lambda expression: session.run(select(expression), 1)[0][0]


def at(moment: datetime) -> int:
    return (moment - ZERO) // timedelta(microseconds=1)


NOON = datetime(2026, 3, 3, 12)
# Each text with the moment that it spells, in UTC; None if it spells none.
TEXTS: dict[str, datetime | None] = {
    "2026-03-03": datetime(2026, 3, 3),
    "2026-03-03 12:00": NOON,
    "2026-03-03T12:00:00": NOON,
    "2026-03-03T12:00:00Z": NOON,
    "2026-03-03 12:00:00 UTC": NOON,
    " 2026-03-03 12:00:00 ": NOON,
    "2026-03-03 14:00:00+02:00": NOON,
    "2026-03-03 14:00:00+02": NOON,
    "2026-03-03T14:00:00+0200": NOON,
    "2026-03-03T06:30:00-05:30": NOON,
    "2026-03-03 12:00:00.5": NOON + timedelta(milliseconds=500),
    "2026-03-03 12:00:00.123456": NOON + timedelta(microseconds=123_456),
    "2026-03-03T12:00:00.123456Z": NOON + timedelta(microseconds=123_456),
    "2026-03-03T14:00:00.123456+02:00": NOON + timedelta(microseconds=123_456),
    # The nanoseconds are cut off, not rounded.
    "2026-03-03T12:00:00.123456789Z": NOON + timedelta(microseconds=123_456),
    # SQLite's own functions round to milliseconds, and so into the next second.
    "2026-03-03 12:00:59.999600": NOON + timedelta(seconds=59, microseconds=999_600),
    "2026-03-03 12:00:59.999999": NOON + timedelta(seconds=59, microseconds=999_999),
    "1969-12-31 23:59:59.500000": datetime(1969, 12, 31, 23, 59, 59, 500_000),
    "2024-02-29 00:00:00": datetime(2024, 2, 29),
    "2026-02-29 00:00:00": None,
    "2026-02-30": None,
    "2026-04-31 10:00:00": None,
    "2026-13-01": None,
    "2026-00-10": None,
    "2026-03-03 25:00:00": None,
    "2026-03-03 12:61:00": None,
    "2026-03-03 12:00:00 and more": None,
    "2026-03-03 12:00:00.1.2": None,
    "now": None,
    "epoch": None,
    "infinity": None,
    # What only some engines would take for a time.
    "2026-03-03 24:00:00": None,
    "2026-03-03 1:10:00": None,
    "2026-03-03  12:00:00": None,
    "2026-03-03T12:00Z": None,
    "2026-03-03T12:00:00z": None,
    "2026-03-03T12:00:00.Z": None,
    "2026-03-03 12:00:00 +02:00": None,
    "2026-03-03 12:00:00+16:00": None,
    "2026-03-03 12:00:00+02:00:30": None,
    "2026-03-03 12:00:00 Europe/Berlin": None,
    "2026-03-03 (BC) 12:00:00": None,
    "2026-03-03T": None,
    "2026-03-03 12:00:0055": None,
    "2026-03-03 12:00:00+0230Z": None,
    "2026-03-03\n": None,
    "2026-03-03 12:00:00\t": None,
    "0000-01-01": None,
    "0000-01-01 00:00:00": None,
    "2000-02-29": datetime(2000, 2, 29),
    "1900-02-29": None,
    "2460000.5": None,
    "1772539200": None,
    "12:00": None,
    "soon": None,
    "": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_times_spelt_as_text(ask: Ask, text: str) -> None:
    moment = TEXTS[text]
    expected = None if moment is None else at(moment)
    assert ask(epoch_micros(parsed_time(literal(text, Text)))) == expected


def test_no_text_is_no_time(ask: Ask) -> None:
    assert ask(epoch_micros(parsed_time(cast(None, Text)))) is None


@pytest.mark.parametrize(
    "moment",
    [NOON, NOON.replace(microsecond=1), datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(9999, 12, 31)],
)
def test_timestamps(ask: Ask, session: Session, moment: datetime) -> None:
    if session.engine.dialect.has_native_time:
        assert ask(epoch_micros(literal(moment, DateTime))) == at(moment)
        zoned = moment.replace(tzinfo=UTC)
        assert ask(epoch_micros(literal(zoned, DateTime(timezone=True)))) == at(moment)
        elsewhere = zoned.astimezone(timezone(timedelta(hours=-5)))
        assert ask(epoch_micros(literal(elsewhere, DateTime(timezone=True)))) == at(moment)
    else:
        assert ask(epoch_micros(parsed_time(literal(str(moment), Text)))) == at(moment)


def test_dates(ask: Ask, session: Session) -> None:
    if session.engine.dialect.has_native_time:
        assert ask(epoch_micros(literal(date(2026, 3, 3), Date))) == at(datetime(2026, 3, 3))


@pytest.mark.parametrize("text", ["infinity", "-infinity"])
@pytest.mark.parametrize("kind", [DateTime(), DateTime(timezone=True), Date()])
def test_a_time_without_end_is_no_moment(ask: Ask, session: Session, text: str, kind: Any) -> None:
    # SQLite has no type for times, MariaDB and Spark none without end.
    if session.engine.dialect.name in ("duckdb", "postgresql"):
        assert ask(epoch_micros(cast(literal(text, Text), kind))) is None


NUMBERS: dict[str, float | None] = {
    "5": 5.0,
    " -5.25 ": -5.25,
    "+.5": 0.5,
    "5.": 5.0,
    "1e3": 1000.0,
    "1E+005": 100_000.0,
    "-2.5e-3": -0.0025,
    "\t5\r\n": 5.0,
    "1e-300": 1e-300,
    "-1.5E+0300": -1.5e300,
    "0." + "1" * 198: 1 / 9,
    "0." + "1" * 199: None,
    # Of an endless number and of nothing some engines make an error, of blanks and signs others a number.
    "1e-400": None,
    "15e300": None,
    "5\u2003": None,
    "\u00a05": None,
    "+-1": None,
    "\u0663": None,
    "": None,
    " ": None,
    "nan": None,
    "NaN": None,
    "inf": None,
    "-Infinity": None,
    "1e400": None,
    "1_000": None,
    "1,5": None,
    "0x1F": None,
    "5 EUR": None,
    "true": None,
    "--5": None,
    "e5": None,
    ".": None,
    "9" * 400: None,
}


@pytest.mark.parametrize("text", NUMBERS, ids=lambda text: text[:12] or "empty")
def test_numbers_spelt_as_text(ask: Ask, text: str) -> None:
    assert ask(number_or_null(literal(text, Text))) == NUMBERS[text]


def test_no_text_is_no_number(ask: Ask) -> None:
    assert ask(number_or_null(cast(None, Text))) is None


@pytest.mark.parametrize(
    ("number", "expected"), [(0.0, False), (-1e308, False), (math.inf, True), (-math.inf, True), (None, None)]
)
def test_finite_numbers(ask: Ask, session: Session, number: float | None, expected: bool | None) -> None:
    if number is not None and not session.engine.dialect.has_infinity and math.isinf(number):
        pytest.skip("no number is infinite there")
    found = ask(is_not_finite(cast(literal(number, Double), Double)))
    assert (None if found is None else bool(found)) == expected


def test_not_a_number(ask: Ask, session: Session) -> None:
    if not session.engine.dialect.has_infinity:
        pytest.skip("every number is one there")
    found = ask(is_not_finite(cast(literal(math.nan, Double), Double)))
    # SQLite keeps NaN as NULL.
    assert found in ((None,) if session.engine.dialect.name == "sqlite" else (True,))


@pytest.mark.parametrize(
    ("number", "expected"),
    [(7.0, "7"), (-7.0, "-7"), (0.0, "0"), (-0.0, "0"), (9007199254740991.0, "9007199254740991"), (0.5, "0.5"),
     (-12.25, "-12.25"), (1 / 3, "0.3333333333333333"), (0.1 + 0.2, "0.30000000000000004"), (1e-7, "1e-07"),
     (9e18, "9e+18"), (-1e20, "-1e+20"), (1.25e-5, "1.25e-05"), (-3e-14, "-3e-14"), (-1.5e-300, "-1.5e-300"),
     (0.0001, "0.0001"), (12345678.25, "12345678.25"), (1.2345678901234567e19, "1.2345678901234567e+19"),
     (math.inf, "inf"), (-math.inf, "-inf"), (None, None)],
)  # fmt: skip
def test_a_number_is_spelt_alike_everywhere(
    ask: Ask, session: Session, number: float | None, expected: str | None
) -> None:
    if number is not None and not session.engine.dialect.has_infinity and math.isinf(number):
        pytest.skip("no number is infinite there")
    assert ask(number_text(cast(literal(number, Double), Double))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("NULL", "null"), ("  None ", "none"), ("\u00a0", "\u00a0"), ("\tnull", "\tnull"), ("", "")],
)
def test_case_and_spaces_do_not_count(ask: Ask, text: str, expected: str) -> None:
    assert ask(folded(literal(text, Text))) == expected


PATTERNS = [
    ("[a-z]+", "abc", True),
    ("[a-z]+", "abc1", False),
    ("[a-z]+", "1abc", False),
    ("[a-z]+", "abc\n", False),
    ("[a-z]+", "abc\nabc", False),
    ("a|bc", "bc", True),
    ("a|bc", "abc", False),
    (".+", "a\nb", True),
    ("u-[0-9]{3}", "u-007", True),
    (r"\d+", "123", True),
    ("it's 100% :ok", "it's 100% :ok", True),
    ("ü+", "üü", True),
    # Letters and digits are those of ASCII.
    (r"\w+", "ü", False),
    (r"\d+", "\u0663", False),
    (r"\s*", "\u00a0", False),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), PATTERNS)
def test_patterns_match_the_whole_text(ask: Ask, pattern: str, text: str, expected: bool) -> None:
    assert bool(ask(matches_whole(literal(text, Text), pattern))) is expected


def test_a_key_tells_rows_apart(ask: Ask) -> None:
    def key(*parts: str | None) -> Any:
        return ask(row_key(*(cast(literal(part, Text), Text) for part in parts)))

    assert key("a", "b") == key("a", "b")
    assert key("a") == key("a")
    apart = [key("a", "b|c"), key("a|b", "c"), key("ab", "c"), key("a", "bc"), key(None, "a"), key("a", None)]
    apart += [key("", "a"), key("a", ""), key("1:a", "b"), key("ü", "b"), key("a;'\"\n", "b")]
    assert len(set(apart)) == len(apart)


def test_a_long_text_is_cut_alike_everywhere(ask: Ask) -> None:
    short = ["", "web", "it's", "ü" * 1_000, "\U0001f600" * 1_000]
    long = ["x" * 1_001, "ü" * 1_001, "\U0001f600" * 1_001, "a\nb'\\" * 2_000, "x" * 1_000_000, " " * 1_001]
    for text in (*short, *long):
        assert ask(clipped(cast(literal(text, Text), Text))) == clip(text)
    assert [clip(text) for text in short] == short
    assert {len(clip(text)) for text in long} == {1_000}
    assert ask(clipped(cast(None, Text))) is None


def test_only_what_holds_is_counted(session: Session) -> None:
    numbers = select(literal(1).label("n")).union_all(select(literal(2)), select(cast(None, Double))).subquery()
    n: Any = column("n")
    counted = select(count_if(n > 1), count_if(n.is_(None)), count_if(cast(None, Boolean))).select_from(numbers)
    assert session.run(counted, 1) == [(1, 1, 0)]
