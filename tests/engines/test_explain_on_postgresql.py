"""The SQL that ``explain`` shows for PostgreSQL is what PostgreSQL runs."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from checks import CATALOGUE
from checks.check import Check
from monitor.config import Config
from monitor.explain import statements
from monitor.resolve import build

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROLES = {"event_id": "id", "user": "u", "item": "i", "event_time": "at", "source": "app", "value": "price"}
ROLES |= {"event_type": "app", "cohort": "app"}
# These run only where they are named.
NAMED = {
    "signal": {"max_value": 100},
    "click_through": {"shown_types": ["ios"], "hit_types": ["web"], "exposed": ["ios"], "control": ["web"]},
    "feedback_loop": {"exposed": ["ios"], "control": ["web"]},
}
TABLE = """
CREATE TABLE IF NOT EXISTS explained (id TEXT, u TEXT, i TEXT, at TIMESTAMPTZ, app TEXT, price DOUBLE PRECISION);
INSERT INTO explained VALUES ('1', 'ann', '100%', '2026-03-01 11:58:30Z', '5% off', 1.5)
"""


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.id)
def test_the_sql_on_postgresql_can_be_copied_and_run(kind: type[Check[Any]], postgresql: str) -> None:
    with closing(psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True)) as connection:
        connection.execute(TABLE)
        events = {"table": "explained", "roles": ROLES, "features": ["price"]}
        whole = {"engines": {"shop": {"url": postgresql}}, "datasets": {"events": events}}
        config = Config.model_validate({**whole, "checks": NAMED})
        with closing(build(config)) as pipeline:
            check = next(check for check in pipeline.checks["events"] if check.id == kind.id)
            _remarks, found = statements(pipeline, "events", check, AT, None)
        assert found
        assert "%%" not in "".join(statement.sql for statement in found)
        for statement in found:
            connection.execute(statement.sql).fetchall()  # type: ignore[arg-type]


def test_an_hour_is_found_by_the_index_of_its_time_column(postgresql: str) -> None:
    with closing(psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True)) as connection:
        connection.execute(
            "CREATE TABLE indexed AS SELECT n::text AS id, 'u' AS u, 'i' AS i, '' AS app, 1.5::float8 AS price,"
            " TIMESTAMPTZ '2026-01-01' + n * INTERVAL '1 minute' AS at FROM generate_series(1, 100000) n"
        )
        connection.execute("CREATE INDEX indexed_at ON indexed (at)")
        connection.execute("ANALYZE indexed")
        events = {"table": "indexed", "roles": ROLES}
        config = Config.model_validate({"engines": {"shop": {"url": postgresql}}, "datasets": {"events": events}})
        with closing(build(config)) as pipeline:
            for check in pipeline.checks["events"]:
                _remarks, found = statements(pipeline, "events", check, AT, None)
                for statement in found:
                    if statement.title.startswith("older"):
                        # The one search through everything, for a feed that is silent since long.
                        continue
                    plan = connection.execute(f"EXPLAIN {statement.sql}").fetchall()  # type: ignore[arg-type]
                    words = "\n".join(line for (line,) in plan)
                    assert "Seq Scan on indexed" not in words, f"{check.id}: {statement.title}\n{words}"
                    assert "indexed_at" in words
