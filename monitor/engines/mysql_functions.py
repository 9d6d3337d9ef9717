"""The SQL of MariaDB and MySQL: the functions of ``checks/dialect.py``, texts told apart, and what SQLAlchemy lacks.

A backslash in a text of SQL is an escape there: ``monitor/engines/mysql.py`` sets the mode of its sessions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Text, TypeDecorator, type_coerce
from sqlalchemy.dialects.mysql.base import MySQLCompiler
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from checks.dialect import (
    ISO_TIME,
    LONGEST_NUMBER,
    LONGEST_VALUE,
    NUMBER,
    START,
    clipped,
    epoch_micros,
    is_not_finite,
    match_key,
    matches_whole,
    number_or_null,
    number_text,
    parsed_time,
    row_key,
)

NAMES = ("mysql", "mariadb")
_END = r"\z"


def _text(pattern: str) -> str:
    """Return a pattern as a text in SQL."""
    return "'" + pattern.replace("\\", "\\\\") + "'"


class exact(GenericFunction[str]):  # noqa: N801 - spelt as an SQL function
    """A text equal to another only if every character is; by default ``ios`` equals ``iOS``, and ``a`` ``a `` there."""

    type = Text()
    inherit_cache = True


@compiles(exact, *NAMES)
def _exact(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CONVERT({value} USING utf8mb4) COLLATE {exact_collation(compiler.dialect)}"


def exact_collation(dialect: Any) -> str:
    """Return the collation that compares code points and ignores no space at the end."""
    return "utf8mb4_nopad_bin" if dialect.is_mariadb else "utf8mb4_0900_bin"


# -- times -----------------------------------------------------------------------------------------


@compiles(epoch_micros, *NAMES)
def _epoch_micros(element: Any, compiler: Any, **kw: Any) -> str:
    (time,) = element.clauses
    if isinstance(time, parsed_time):
        return _micros_of_text(compiler.process(time.clauses, **kw))
    return f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {compiler.process(time, **kw)})"


@compiles(parsed_time, *NAMES)
def _parsed_time(element: Any, compiler: Any, **kw: Any) -> str:
    micros = _micros_of_text(compiler.process(element.clauses, **kw))
    return f"(CAST('1970-01-01' AS DATETIME(6)) + INTERVAL {micros} MICROSECOND)"


def _micros_of_text(value: str) -> str:
    """Return the microseconds of a text, in numbers: a time less its offset may lie outside of the years 1 to 9999."""
    rest = f"SUBSTR(TRIM({value}), 20)"
    zone = f"SUBSTR({rest}, LOCATE('+', {rest}) + LOCATE('-', {rest}))"
    clock = f"CAST(RPAD(REPLACE(SUBSTR({zone}, 2), ':', ''), 4, '0') AS SIGNED)"
    offset = f"({clock} DIV 100 * 60 + MOD({clock}, 100)) * 60000000"
    seconds = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', LEFT(TRIM({value}), 19))"
    # Of what follows the digits nothing is read.
    fraction = f"CAST(CAST(CONCAT('0', LEFT({rest}, 7)) AS DECIMAL(7, 6)) * 1000000 AS SIGNED)"
    ahead, behind = (f"CASE WHEN LOCATE('{sign}', {rest}) > 0 THEN {offset} ELSE 0 END" for sign in "+-")
    micros = f"{seconds} + {fraction} - {ahead} + {behind}"
    return f"CASE WHEN {value} RLIKE {_text(ISO_TIME + _END)} THEN {micros} END"


# -- numbers ---------------------------------------------------------------------------------------


@compiles(is_not_finite, *NAMES)
def _is_not_finite(element: Any, compiler: Any, **kw: Any) -> str:
    # No number there is anything else.
    return f"(ABS({compiler.process(element.clauses, **kw)}) > 1.7976931348623157e308)"


@compiles(number_or_null, *NAMES)
def _number_or_null(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    spells = f"CHAR_LENGTH({value}) <= {LONGEST_NUMBER} AND {value} RLIKE {_text(NUMBER)}"
    return f"CASE WHEN {spells} THEN CAST({value} AS DOUBLE) END"


@compiles(number_text, *NAMES)
def _number_text(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    is_whole = f"{value} = FLOOR({value})"
    spelt = f"CAST(CASE WHEN NOT {is_whole} THEN CAST({value} AS DOUBLE) ELSE {value} END AS CHAR)"
    return (
        f"CASE WHEN ABS({value}) < 9e18 AND {is_whole} THEN CAST(CAST({value} AS SIGNED) AS CHAR)"
        f" WHEN LOCATE('e', {spelt}) > 0 THEN {_exponent(spelt)}"
        f" WHEN ABS({value}) < 1e-4 THEN {_small(value, spelt)} ELSE {spelt} END"
    )


def _exponent(spelt: str) -> str:
    """Return 1e-30 and 9e18 as the other engines spell them: 1e-30 and 9e+18."""
    digits, exponent = (f"SUBSTRING_INDEX({spelt}, 'e', {part})" for part in (1, -1))
    return f"CONCAT({digits}, CASE WHEN LOCATE('-', {exponent}) > 0 THEN 'e' ELSE 'e+' END, {exponent})"


def _small(value: str, spelt: str) -> str:
    """Return 0.0000125, which is spelt so down to fifteen places, as 1.25e-05."""
    places = f"SUBSTRING_INDEX({spelt}, '.', -1)"
    digits = f"TRIM(LEADING '0' FROM {places})"
    exponent = f"LPAD(CHAR_LENGTH({places}) - CHAR_LENGTH({digits}) + 1, 2, '0')"
    point = f"CASE WHEN CHAR_LENGTH({digits}) > 1 THEN '.' ELSE '' END"
    sign = f"CASE WHEN {value} < 0 THEN '-' ELSE '' END"
    return f"CONCAT({sign}, LEFT({digits}, 1), {point}, SUBSTR({digits}, 2), 'e-', {exponent})"


# -- texts -----------------------------------------------------------------------------------------

# What a class of ours stands for, inside of brackets; to the engines these are letters and digits of all languages.
_ASCII = {"w": "0-9A-Za-z_", "d": "0-9", "s": r" \t-\r"}
_OTHERS = {
    "W": r"\x{0}-/:-@\[-\^`{-\x{10FFFF}",
    "D": r"\x{0}-/:-\x{10FFFF}",
    "S": r"\x{0}-\x{8}\x{E}-\x{1F}!-\x{10FFFF}",
}
_PIECE = re.compile(r"\[:\^?\w+:\]|\\(?P<letter>.)|(?P<begin>\[\^?\]?)|(?P<end>\])", re.DOTALL)


def ascii_classes(pattern: str) -> str:
    r"""Return a regular expression whose classes are those of ASCII.

    Examples:
        >>> print(ascii_classes(r"\w+-[^\d,]\\d"), ascii_classes(r"[]\D[:alpha:]\s]"))
        [0-9A-Za-z_]+-[^0-9,]\\d []\x{0}-/:-\x{10FFFF}[:alpha:] \t-\r]
    """
    is_within = False

    def one(match: re.Match[str]) -> str:
        nonlocal is_within
        if match["begin"] or match["end"]:
            # A bracket that comes first is one like any other letter.
            is_within = bool(match["begin"]) and not (is_within and "]" in match["begin"])
        inside = {**_ASCII, **_OTHERS}.get(match["letter"])
        if inside is None:
            return match[0]
        return inside if is_within else f"[{inside}]"

    return _PIECE.sub(one, pattern)


class _Pattern(TypeDecorator[str]):
    """A regular expression on its way to the engine."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str:
        return f"(?s)^(?:{ascii_classes(value)})\\z"

    process_literal_param = process_bind_param


@compiles(matches_whole, *NAMES)
def _matches_whole(element: Any, compiler: Any, **kw: Any) -> str:
    value, pattern = element.clauses
    return f"({compiler.process(value, **kw)} RLIKE {compiler.process(type_coerce(pattern, _Pattern()), **kw)})"


# MariaDB joins texts of unbounded length by comparing each with each.
@compiles(match_key, *NAMES)
@compiles(row_key, *NAMES)
def _row_key(element: Any, compiler: Any, **kw: Any) -> str:
    parts = [compiler.process(clause, **kw) for clause in element.clauses]
    joined = ", '|', ".join(f"COALESCE(CONCAT(LENGTH({part}), ':', {part}), '')" for part in parts)
    # MD5 and SHA1 are gone from MySQL 9.6 on. A base below zero makes the number one with a sign.
    return f"CAST(CONV(LEFT(SHA2({parts[0] if len(parts) == 1 else f'CONCAT({joined})'}, 256), 16), 16, -10) AS SIGNED)"


@compiles(clipped, *NAMES)
def _clipped(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    cut = f"CONCAT(SUBSTR({value}, 1, {START}), '~', SHA2({value}, 256))"
    return f"CASE WHEN CHAR_LENGTH({value}) > {LONGEST_VALUE} THEN {cut} ELSE {value} END"


# -- what SQLAlchemy makes of the rest -------------------------------------------------------------


class Statements(MySQLCompiler):
    """Counts characters, not bytes, and keeps whole division whole."""

    def visit_length_func(self, fn: Any, **kw: Any) -> str:
        """Return the number of characters of a text."""
        return f"CHAR_LENGTH{self.function_argspec(fn, **kw)}"

    def visit_floordiv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Return a division of whole numbers, cut towards zero as on the other engines."""
        return f"{self.process(binary.left, **kw)} DIV {self.process(binary.right, **kw)}"

    def visit_typeclause(self, typeclause: Any, type_: Any = None, **kw: Any) -> str | None:
        """Return a type as a cast names it; booleans are integers."""
        is_truth = isinstance(typeclause.type, Boolean)
        return "SIGNED INTEGER" if is_truth else super().visit_typeclause(typeclause, type_, **kw)


class Moment(DateTime):
    """A time as it is sent: the driver leaves its zone out."""

    def bind_processor(self, dialect: Any) -> Any:
        """Return what makes a time one of UTC without a zone."""
        return _in_utc

    def literal_processor(self, dialect: Any) -> Any:
        """Return what writes a time into SQL."""
        return lambda value: f"'{_in_utc(value)}'"


def _in_utc(value: datetime | None) -> datetime | None:
    return value if value is None or value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
