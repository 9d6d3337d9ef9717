"""Spark through its Thrift server: values that would be dangerous elsewhere, limits, and files that come later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import cast, func, literal, select, text
from sqlalchemy.types import Double, Text

from checks.dataset import dataset_table
from monitor.engine import Location, Session
from monitor.engines import connect
from monitor.engines.spark_sql import spelt
from monitor.errors import EngineError
from monitor.targets import tables

pytestmark = [pytest.mark.slow]
ODD = (
    "it's",
    "\\",
    "\\'",
    "'; DROP TABLE events; --",
    '"quoted" `name`',
    "${spark.app.name} ${env:PATH}",
    "100% %(id)s %s",
    "new\nline\ttab\r",
    "\\u0041 \\% \\_",
    "ü 漢 🙂",
)


@pytest.fixture(scope="module")
def session(spark: str) -> Iterator[Session]:
    with closing(connect("lake", spark, timeout_seconds=300)) as engine, engine.session() as session:
        yield session


def test_odd_ids_come_back_as_they_are_bound_or_written_in(session: Session) -> None:
    statement = select(*(literal(value, Text) for value in ODD))
    assert session.run(statement, 1) == [ODD]
    written = session.engine.compile(statement)
    assert tuple(session._connection.exec_driver_sql(written.replace("%", "%%")).fetchone() or ()) == ODD


def test_every_kind_of_value_is_spelt(session: Session) -> None:
    values = (True, 2**62, -0.5, 1e-300, Decimal("1.50"), date(2026, 3, 3), datetime(2026, 3, 3, 12, 0, 0, 5), None)
    assert session.run(select(*map(literal, values)), 1) == [(*values[:5], "2026-03-03", *values[6:])]
    assert spelt(datetime(2026, 3, 3, 12, tzinfo=UTC)) == "TIMESTAMP '2026-03-03 12:00:00+00:00'"
    with pytest.raises(TypeError, match="of type bytes cannot be spelt"):
        spelt(b"")


def test_a_statement_that_takes_too_long_is_cancelled_in_the_engine(spark: str) -> None:
    many = "(SELECT sum((a.id + b.id) % 7) AS n FROM range(100000000) a CROSS JOIN range(1000000) b) AS x"
    endless = select(text("n")).select_from(text(many))
    too_long = pytest.raises(EngineError, match=r"engine lake timed out after 3 s: the endless one")
    with closing(connect("lake", spark, timeout_seconds=3)) as engine, engine.session() as session, too_long:
        session.run(endless, 1, "the endless one")
    # Both executors are free again.
    with closing(connect("lake", spark, timeout_seconds=300)) as engine, engine.session() as session:
        assert session.run(select(func.sum(text("id"))).select_from(text("range(10)")), 1) == [(45,)]


def test_errors_say_what_is_wrong_without_values(session: Session) -> None:
    with pytest.raises(EngineError, match=r"CAST_INVALID_INPUT") as caught:
        session.run(select(cast(literal("canary"), Double)), 1)
    assert "canary" not in str(caught.value)
    with pytest.raises(EngineError, match=r"table nowhere\.events does not exist"):
        session.open(Location("events", table="events", schema="nowhere"))


def test_files_that_come_later_are_seen_and_types_are_known(session: Session, tmp_path: Path) -> None:
    made = (
        'SELECT \'a\' AS "Id\'s", 1::BIGINT AS n, 0.5::DOUBLE AS "a.b", 1.5::DECIMAL(9, 2) AS price, [1] AS l, '
        "TIMESTAMP '2026-03-03 12:00:00' AS at, TIMESTAMPTZ '2026-03-03 12:00:00+00' AS zoned, true AS flag"
    )
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({made}) TO '{tmp_path}/1.parquet'")
        session._connection.exec_driver_sql(f"CREATE TABLE later USING parquet LOCATION '{tmp_path}'")
        columns = session.open(Location("later", table="later"))
        table: Any = dataset_table("later", columns)
        assert [column.kind.value for column in columns.values()] == [
            "text", "integer", "number", "number", "other", "timestamp", "timestamp", "boolean",
        ]  # fmt: skip
        counted = select(func.count(table.c["Id's"]), func.sum(table.c["a.b"])).select_from(table)
        assert session.run(counted, 1) == [(1, 0.5)]
        connection.execute(f"COPY ({made}) TO '{tmp_path}/2.parquet'")
    session.open(Location("later", table="later"))
    assert session.run(counted, 1) == [(2, 1.0)]
    found, _notes = tables(session.engine)
    assert ("later", None) in {(location.table, location.schema) for location in found}
