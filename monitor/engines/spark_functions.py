"""The functions of ``checks/dialect.py`` on Spark, through its Thrift server or as Databricks SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.compiler import compiles

from checks.dialect import (
    ISO_TIME,
    LONGEST_NUMBER,
    LONGEST_VALUE,
    NUMBER,
    START,
    clipped,
    epoch_micros,
    is_not_finite,
    matches_whole,
    number_or_null,
    number_text,
    parsed_time,
    row_key,
)

NAMES = ("hive", "databricks")


def _text(pattern: str) -> str:
    """Return a pattern as a text in SQL, where a backslash is an escape."""
    return "'" + pattern.replace("\\", "\\\\") + "'"


@compiles(epoch_micros, *NAMES)
def _epoch_micros(element: Any, compiler: Any, **kw: Any) -> str:
    # The cast is for dates and for timestamps without a zone; the session is in UTC.
    return f"unix_micros(CAST({compiler.process(element.clauses, **kw)} AS TIMESTAMP))"


@compiles(parsed_time, *NAMES)
def _parsed_time(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    # A cast takes much more for a time: 2026, and words.
    return f"CASE WHEN {value} RLIKE {_text(ISO_TIME + chr(92) + 'z')} THEN try_cast({value} AS TIMESTAMP) END"


@compiles(is_not_finite, *NAMES)
def _is_not_finite(element: Any, compiler: Any, **kw: Any) -> str:
    # NaN is greater than any number.
    return f"(abs(CAST({compiler.process(element.clauses, **kw)} AS DOUBLE)) > 1.7976931348623157E308D)"


@compiles(number_or_null, *NAMES)
def _number_or_null(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    spells = f"length({value}) <= {LONGEST_NUMBER} AND {value} RLIKE {_text(NUMBER)}"
    return f"CASE WHEN {spells} THEN try_cast({value} AS DOUBLE) END"


@compiles(number_text, *NAMES)
def _number_text(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    double = f"CAST({value} AS DOUBLE)"
    # From 10 million on and below a thousandth a cast writes 1.25E7 and 1.0E-5: the first as a decimal without its
    # padding, the second as 1e-05, which is how the other engines write it. Both have 17 digits at most.
    plain = f"rtrim('0', CAST(CAST(CAST({double} AS STRING) AS DECIMAL(38, 22)) AS STRING))"
    short = f"regexp_replace(replace(lower(CAST({double} AS STRING)), 'infinity', 'inf'), '[.]0e', 'e')"
    spelt = f"regexp_replace(regexp_replace({short}, 'e([0-9])', 'e+$1'), 'e-([0-9])$', 'e-0$1')"
    # The size first: to round what is larger down is an error.
    return (
        f"CASE WHEN abs({value}) < 9e18D AND {value} = floor({value}) THEN CAST(CAST({value} AS BIGINT) AS STRING)"
        f" WHEN abs({double}) >= 1e-4D AND abs({double}) < 9e15D THEN {plain} ELSE {spelt} END"
    )


@compiles(matches_whole, *NAMES)
def _matches_whole(element: Any, compiler: Any, **kw: Any) -> str:
    value, pattern = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({value} RLIKE concat({_text('(?s)^(?:')}, {pattern}, {_text(')')}, {_text(chr(92) + 'z')}))"


@compiles(row_key, *NAMES)
def _row_key(element: Any, compiler: Any, **kw: Any) -> str:
    parts = [compiler.process(clause, **kw) for clause in element.clauses]
    # A null leaves the hash as it is, so where it stands is hashed too.
    return f"xxhash64({', '.join(f'{part} IS NULL, {part}' for part in parts)})"


@compiles(clipped, *NAMES)
def _clipped(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    cut = f"concat(substr({value}, 1, {START}), '~', sha2({value}, 256))"
    return f"CASE WHEN length({value}) > {LONGEST_VALUE} THEN {cut} ELSE {value} END"
