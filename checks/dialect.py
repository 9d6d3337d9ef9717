"""The few SQL functions that differ between engines, and nothing else.

Every construct here compiles for DuckDB, SQLite and PostgreSQL; the table of cases is in
``tests/engines/test_dialect.py``. All other SQL is plain SQLAlchemy Core.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Double, case, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class epoch_micros(GenericFunction[int]):  # noqa: N801 - spelt as the SQL function it is
    """Microseconds since the Unix epoch of a timestamp or date; without a zone it is UTC."""

    type = BigInteger()
    inherit_cache = True


@compiles(epoch_micros, "duckdb")
def _epoch_micros_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"epoch_us({compiler.process(element.clauses, **kw)})"


@compiles(epoch_micros, "postgresql")
def _epoch_micros_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CAST(extract(epoch FROM {value}) * 1000000 AS BIGINT)"


@compiles(epoch_micros, "sqlite")
def _epoch_micros_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    # SQLite's own date functions stop at milliseconds; the usual text form carries six digits.
    return (
        f"(CAST(strftime('%s', {value}) AS INTEGER) * 1000000 + CASE WHEN length({value}) = 26"
        f" THEN CAST(substr({value}, 21, 6) AS INTEGER)"
        f" ELSE CAST(substr(strftime('%f', {value}), 4, 3) AS INTEGER) * 1000 END)"
    )


class parsed_time(GenericFunction[datetime]):  # noqa: N801
    """The timestamp that an ISO 8601 text spells, NULL if it spells none."""

    type = DateTime()
    inherit_cache = True


@compiles(parsed_time, "duckdb")
def _parsed_time_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    # With a zone, so that an offset in the text counts; a text without one is UTC, as the session.
    return f"try_cast({compiler.process(element.clauses, **kw)} AS TIMESTAMPTZ)"


_ISO_TIME = r"^\s*[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])([ T][0-2][0-9]:[0-5][0-9].*)?$"


@compiles(parsed_time, "postgresql")
def _parsed_time_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CASE WHEN {value} ~ '{_ISO_TIME}' THEN CAST({value} AS TIMESTAMPTZ) END"


@compiles(parsed_time, "sqlite")
def _parsed_time_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # SQLite has no time type: its date functions read the text, and give NULL for nonsense.
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


class number_or_null(GenericFunction[float]):  # noqa: N801
    """The number that a text spells, NULL if it spells none."""

    type = Double()
    inherit_cache = True


@compiles(number_or_null, "duckdb")
def _number_or_null_duckdb(element: Any, compiler: Any, **kw: Any) -> str:
    return f"try_cast({compiler.process(element.clauses, **kw)} AS DOUBLE)"


_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"


@compiles(number_or_null, "postgresql")
def _number_or_null_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CASE WHEN {value} ~ '{_NUMBER}' THEN CAST({value} AS DOUBLE PRECISION) END"


@compiles(number_or_null, "sqlite")
def _number_or_null_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    value = compiler.process(element.clauses, **kw)
    return f"CASE WHEN {value} REGEXP '{_NUMBER}' THEN CAST({value} AS REAL) END"


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


def count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the number of rows for which a condition holds, as an aggregate."""
    return func.count(case((condition, 1)))
