"""The few SQL functions that differ between engines, and nothing else.

Every construct here compiles for DuckDB, SQLite and PostgreSQL; the table of cases is in
``tests/engines/test_dialect.py``. All other SQL is plain SQLAlchemy Core.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Double, Text, case, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class epoch_micros(GenericFunction[int]):  # noqa: N801 - spelt as the SQL function it is
    """Microseconds since the Unix epoch of a timestamp or date; without a zone it is UTC.

    NULL where there is no such moment: for NULL, ``infinity``, and a text that spells no time.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(epoch_micros, "duckdb")
def _epoch_micros_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"epoch_us({compiler.process(element.clauses, **kw)})"


@compiles(epoch_micros, "postgresql")
def _epoch_micros_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CASE WHEN isfinite({value}) THEN CAST(extract(epoch FROM {value}) * 1000000 AS BIGINT) END"


_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DAY = (
    f"{_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29"
)
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?(Z| UTC|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?)?"
# Every engine reads more than this as a time, each something else: names of zones, 24:00, +16:00, years before Christ.
# The end of the text is left to say, as $ also stands before a last new line for some.
ISO_TIME = f"^ *({_DAY})([ T]{_CLOCK})? *"

_DIGITS = "[0-9][0-9]"
_PLAIN_DAY = f"{_DIGITS}{_DIGITS}-[01][0-9]-[0-3][0-9]"
_PLAIN_TIME = f"{_PLAIN_DAY}[ T]{_DIGITS}:{_DIGITS}:{_DIGITS}"


@compiles(epoch_micros, "sqlite")
def _epoch_micros_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    raw = compiler.process(element.clauses, **kw)
    # SQLite's own functions round to milliseconds, so they only read the seconds and the zone; and they take
    # 'now', a Julian day, the 30th of February and 24:00 for a time, so the form and the day are looked at first.
    day = (
        f"(substr({raw}, 9, 2) <= '28' OR date(substr({raw}, 1, 10), '+0 days') = substr({raw}, 1, 10))"
        f" AND substr({raw}, 12, 2) < '24' AND {raw} > '0001'"
    )
    seconds = f"CAST(strftime('%s', substr({raw}, 1, 19)) AS INTEGER) * 1000000"
    return (
        f"CASE WHEN {raw} GLOB '{_PLAIN_TIME}.{_DIGITS * 3}' AND {day} THEN {seconds} + substr({raw}, 21)"
        f" WHEN {raw} GLOB '{_PLAIN_TIME}' AND {day} THEN {seconds} ELSE {_any_time_sqlite(f'trim({raw})')} END"
    )


def _any_time_sqlite(value: str) -> str:
    """Return the microseconds of a text in any of the forms of ``ISO_TIME``, at six times the cost of the usual two."""
    rest = f"ltrim(substr({value}, 20 + (substr({value}, 20, 1) = '.')), '0123456789')"
    zone = (
        f"CASE WHEN {rest} IN ('', 'Z', ' UTC') THEN replace({rest}, ' UTC', 'Z')"
        f" WHEN {rest} GLOB '[+-]{_DIGITS}' THEN {rest} || ':00'"
        f" WHEN {rest} GLOB '[+-]{_DIGITS * 2}' THEN substr({rest}, 1, 3) || ':' || substr({rest}, 4)"
        f" WHEN {rest} GLOB '[+-]{_DIGITS}:{_DIGITS}' THEN {rest} END"
    )
    forms = (_PLAIN_TIME, _PLAIN_DAY, f"{_PLAIN_DAY}[ T]{_DIGITS}:{_DIGITS}")
    form = " OR ".join(f"substr({value}, 1, 19) GLOB '{form}'" for form in forms)
    fraction = f"CAST(round(CAST('0' || substr({value}, 20, 7) AS REAL) * 1000000) AS INTEGER)"
    return (
        f"CASE WHEN ({form}) AND substr({value}, 12, 2) < '24' AND {value} > '0001'"
        f" AND (substr({value}, 20, 1) NOT GLOB '[.0-9]' OR substr({value}, 20, 2) GLOB '.[0-9]')"
        f" AND date(substr({value}, 1, 10), '+0 days') = substr({value}, 1, 10)"
        f" THEN CAST(strftime('%s', substr({value}, 1, 19) || {zone}) AS INTEGER) * 1000000 + {fraction} END"
    )


class parsed_time(GenericFunction[datetime]):  # noqa: N801
    """The timestamp that an ISO 8601 text spells, NULL if it spells none.

    The text has a date, or a date with minutes, or with seconds and then perhaps a fraction and an
    offset; without an offset it is UTC. Digits beyond microseconds are cut off.
    """

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(parsed_time, "duckdb")
def _parsed_time_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    # With a zone, so that an offset in the text counts; a text without one is UTC, as the session.
    return f"CASE WHEN regexp_matches({value}, '{ISO_TIME}$') THEN try_cast({value} AS TIMESTAMPTZ) END"


@compiles(parsed_time, "postgresql")
def _parsed_time_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    # It has no cast that gives NULL, and would round what is finer than microseconds.
    cut = f"regexp_replace({value}, '([.][0-9]{{6}})[0-9]+', '\\1')"
    return f"CASE WHEN {value} ~ '{ISO_TIME}$' THEN CAST({cut} AS TIMESTAMPTZ) END"


@compiles(parsed_time, "sqlite")
def _parsed_time_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # SQLite has no time type: epoch_micros reads the text.
    return compiler.process(element.clauses, **kw)  # type: ignore[no-any-return]


class is_not_finite(GenericFunction[bool]):  # noqa: N801
    """True where a floating point value is NaN or infinite; NULL stays NULL."""

    type = Boolean()
    inherit_cache = True


@compiles(is_not_finite, "duckdb")
def _is_not_finite_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"(NOT isfinite({compiler.process(element.clauses, **kw)}))"


@compiles(is_not_finite, "postgresql")
def _is_not_finite_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"(CAST({value} AS DOUBLE PRECISION) IN ('NaN', 'Infinity', '-Infinity'))"


@compiles(is_not_finite, "sqlite")
def _is_not_finite_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # SQLite stores NaN as NULL, so only the infinities are left.
    return f"(abs({compiler.process(element.clauses, **kw)}) > 1.7976931348623157e308)"


# No double overflows or becomes 0: PostgreSQL has no cast that gives NULL. Longer texts than this spell none.
LONGEST_NUMBER = 200
_BLANK = r"[ \t-\r]*"
NUMBER = (
    f"^{_BLANK}[-+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][-+]?0*[0-9]{{1,2}})?"
    f"|[1-9]([.][0-9]*)?[eE][-+]?0*([12][0-9]{{2}}|30[0-7])){_BLANK}$"
)


class number_or_null(GenericFunction[float]):  # noqa: N801
    """The finite number that a text spells, NULL if it spells none.

    The text has at most 200 characters, and an exponent of three digits only after a single digit before the point.
    """

    type = Double()
    inherit_cache = True


@compiles(number_or_null, "duckdb")
def _number_or_null_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    spells = f"length({value}) <= {LONGEST_NUMBER} AND regexp_matches({value}, '{NUMBER}')"
    return f"CASE WHEN {spells} THEN try_cast({value} AS DOUBLE) END"


@compiles(number_or_null, "postgresql")
def _number_or_null_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    spells = f"length({value}) <= {LONGEST_NUMBER} AND {value} ~ '{NUMBER}'"
    return f"CASE WHEN {spells} THEN CAST({value} AS DOUBLE PRECISION) END"


@compiles(number_or_null, "sqlite")
def _number_or_null_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    spells = f"length({value}) <= {LONGEST_NUMBER} AND {value} REGEXP '{NUMBER}'"
    return f"CASE WHEN {spells} THEN CAST(trim({value}) AS REAL) END"


class number_text(GenericFunction[str]):  # noqa: N801
    """A number as text, whole ones without a point: 7.0 is ``7``, as it is where the column holds integers."""

    type = Text()
    inherit_cache = True


@compiles(number_text, "duckdb")
def _number_text(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    # Decimals may have more digits than a double, but theirs are padded with zeros.
    return (
        f"CASE WHEN {value} = floor({value}) AND abs({value}) < 9e18 THEN CAST(CAST({value} AS BIGINT) AS TEXT)"
        f" WHEN {value} = floor({value}) THEN CAST({value} AS TEXT)"
        f" ELSE CAST(CAST({value} AS DOUBLE PRECISION) AS TEXT) END"
    )


@compiles(number_text, "postgresql")
def _number_text_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # It writes Infinity and NaN where the others write inf and nan.
    return f"replace(lower({_number_text(element, compiler, **kw)}), 'infinity', 'inf')"


@compiles(number_text, "sqlite")
def _number_text_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    whole = f"CAST({value} AS INTEGER)"
    # A cast writes 15 digits, the same ones for two numbers that differ beyond them, and 1.0e-05 for 1e-05.
    spelt = [f"printf('%!.{digits}g', {value})" for digits in (15, 16, 17)]
    short = " ".join(f"WHEN CAST({text} AS REAL) = {value} THEN {text}" for text in spelt[:-1])
    return (
        f"CASE WHEN {value} = {whole} AND abs({value}) < 9e18 THEN CAST({whole} AS TEXT)"
        f" WHEN typeof({value}) <> 'real' THEN CAST({value} AS TEXT)"
        f" ELSE lower(replace(CASE {short} ELSE {spelt[-1]} END, '.0e', 'e')) END"
    )


class folded(GenericFunction[str]):  # noqa: N801
    """A text in lower case, without the spaces at its ends. Other blanks than the plain space belong to it.

    SQLite knows the case of ASCII letters alone, as PostgreSQL does in a database of the locale C.
    """

    type = Text()
    inherit_cache = True


@compiles(folded)
def _folded(element: Any, compiler: Any, **kw: Any) -> str:
    return f"lower(trim({compiler.process(element.clauses, **kw)}))"


@compiles(folded, "duckdb")
def _folded_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"lower(trim({compiler.process(element.clauses, **kw)}, ' '))"


class matches_whole(GenericFunction[bool]):  # noqa: N801
    r"""True where a text as a whole, new lines included, matches a regular expression.

    A point stands for every character; a class such as ``\w`` or ``\d`` has those of ASCII alone. What the
    engines' kinds of expressions do not share (look-behind, back references) is refused by the engine that lacks it.
    """

    type = Boolean()
    inherit_cache = True


@compiles(matches_whole, "duckdb")
def _matches_whole_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"regexp_full_match({compiler.process(element.clauses, **kw)}, 's')"


@compiles(matches_whole, "postgresql")
def _matches_whole_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    # Otherwise what a letter is depends on the database.
    return f"(({value}) COLLATE \"C\" ~ ('^(?:' || {pattern} || ')$'))"


@compiles(matches_whole, "sqlite")
def _matches_whole_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({value} REGEXP ('(?sa)^(?:' || {pattern} || ')\\Z'))"


class binary_order(GenericFunction[str]):  # noqa: N801
    """A text to sort by, in the order of its code points, whatever the language of the database."""

    type = Text()
    inherit_cache = True


@compiles(binary_order, "postgresql")
def _binary_order_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return f'({compiler.process(element.clauses, **kw)}) COLLATE "C"'


class row_key(GenericFunction[int]):  # noqa: N801
    """A key of several columns: equal rows have equal keys, unequal rows all but never do.

    64 bits on DuckDB and PostgreSQL: among n different rows two keys are equal by chance with a
    probability of about n^2 / 2^65, 3e-6 for 10 million. On SQLite a text that tells all rows apart.
    Grouping 10 million 64-bit integers takes two thirds of the time and memory of grouping short texts.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(row_key, "duckdb")
def _row_key_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"hash({compiler.process(element.clauses, **kw)})"


@compiles(row_key, "postgresql")
def _row_key_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    parts = [f"CAST({compiler.process(clause, **kw)} AS TEXT)" for clause in element.clauses]
    # With its length before each part, ("a", "b|c") and ("a|b", "c") are not the same.
    joined = ", '|', ".join(f"length({part}), ':', {part}" for part in parts)
    return f"hashtextextended({parts[0] if len(parts) == 1 else f'concat({joined})'}, 0)"


@compiles(row_key, "sqlite")
def _row_key_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    parts = [compiler.process(clause, **kw) for clause in element.clauses]
    joined = " || '|' || ".join(f"coalesce(length({part}) || ':' || {part}, '')" for part in parts)
    return parts[0] if len(parts) == 1 else f"({joined})"


class match_key(GenericFunction[Any]):  # noqa: N801
    """What a text is looked up by among many others: the text, or a ``row_key`` where texts are no keys of joins."""

    inherit_cache = True


# Of a longer text this many characters are kept, and a hash in place of the rest.
LONGEST_VALUE, START = 1_000, 935


class clipped(GenericFunction[str]):  # noqa: N801
    """A text as it is kept, equal to ``clip`` of ``checks/clipped.py``.

    A dialect that does not say how leaves it as it is: long values are then cut when they have come, and found by none.
    """

    type = Text()
    inherit_cache = True


@compiles(binary_order)
@compiles(clipped)
@compiles(match_key)
def _as_it_is(element: Any, compiler: Any, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)  # type: ignore[no-any-return]


@compiles(clipped, "duckdb")
def _clipped_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return _cut(compiler.process(element.clauses, **kw), "sha256({})")


@compiles(clipped, "postgresql")
def _clipped_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return _cut(compiler.process(element.clauses, **kw), "encode(sha256(convert_to({}, 'UTF8')), 'hex')")


@compiles(clipped, "sqlite")
def _clipped_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # It has no hash; the engine brings this function.
    return f"clipped({compiler.process(element.clauses, **kw)})"


def _cut(value: str, digest: str) -> str:
    cut = f"substr({value}, 1, {START}) || '~' || {digest.format(value)}"
    return f"CASE WHEN length({value}) > {LONGEST_VALUE} THEN {cut} ELSE {value} END"


def count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the number of rows for which a condition holds, as an aggregate."""
    return func.count(case((condition, 1)))
