"""MariaDB: what its types are, texts that its collation takes for equal, its indexes, and what its sessions may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, literal, select, text

from checks import CATALOGUE
from checks.check import Check
from checks.dialect import matches_whole
from checks.window import Window
from monitor.config import Config
from monitor.engine import Location, Session
from monitor.engines import connect
from monitor.engines.mysql_functions import ascii_classes
from monitor.errors import EngineError
from monitor.explain import statements
from monitor.resolve import build

NOON = datetime(2026, 3, 3, 12)
HOUR = Window(NOON.replace(tzinfo=UTC), (NOON + timedelta(hours=1)).replace(tzinfo=UTC))
ROLES = {"event_id": "id", "user": "u", "item": "i", "event_time": "at", "source": "app", "value": "price"}
ROLES |= {"event_type": "app", "cohort": "app"}
# These run only where they are named.
NAMED = {
    "signal": {"max_value": 100},
    "click_through": {"shown_types": ["ios"], "hit_types": ["web"], "exposed": ["ios"], "control": ["web"]},
    "feedback_loop": {"exposed": ["ios"], "control": ["web"]},
}


@pytest.fixture
def owner(mariadb: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(mariadb.replace("mariadb:", "mariadb+pymysql:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def session(mariadb: str) -> Iterator[Session]:
    with closing(connect("shop", mariadb)) as engine, engine.session() as session:
        yield session


TYPES = {
    "TINYINT(1)": "boolean", "TINYINT": "integer", "BIGINT UNSIGNED": "integer", "YEAR": "integer",
    "DECIMAL(20, 4)": "number", "FLOAT": "number", "DOUBLE": "number", "CHAR(3)": "text", "VARCHAR(20)": "text",
    "LONGTEXT": "text", "ENUM('a', 'int')": "text", "SET('a', 'b')": "text", "UUID": "text", "BINARY(16)": "text",
    "VARBINARY(16)": "text", "BLOB": "other", "BIT(3)": "other", "POINT": "other", "MULTIPOINT": "other",
    "TIME": "other", "DATE": "date", "DATETIME(6)": "timestamp", "TIMESTAMP": "timestamp", "INET6": "other",
}  # fmt: skip


def test_every_type_is_of_a_kind(owner: sa.Connection, session: Session) -> None:
    columns = ", ".join(f"c{at} {declared}" for at, declared in enumerate(TYPES))
    owner.exec_driver_sql(f"CREATE OR REPLACE TABLE typed ({columns})")
    found = session.open(Location("typed", table="typed"))
    assert dict(zip(TYPES, [column.kind.value for column in found.values()], strict=True)) == TYPES
    assert found["c10"].declared == "enum('a','int')"


def test_bytes_are_read_in_hexadecimal_and_no_text_loses_its_letters(owner: sa.Connection, session: Session) -> None:
    owner.exec_driver_sql(
        "CREATE OR REPLACE TABLE odd (id BINARY(3), name VARCHAR(9) CHARACTER SET latin1, kind ENUM('View', 'click'))"
    )
    owner.exec_driver_sql("INSERT INTO odd VALUES (x'00ffa1', 'Zoë', 'View')")
    location = Location("seen", table="odd", schema="test")
    table: Any = session.engine.dialect.table(location, session.open(location))
    assert session.run(select(*table.c), 1) == [("00ffa1", "Zoë", "View")]
    assert session.run(select(table.c.name == "zoë", table.c.kind == "view"), 1) == [(0, 0)]


@pytest.mark.parametrize("kind", ["VARCHAR(20)", "CHAR(20)", "LONGTEXT", "VARCHAR(20) COLLATE latin1_german2_ci"])
def test_texts_that_the_collation_takes_for_equal_are_told_apart(kind: str, benches: Any, table: Any) -> None:
    ids = ["ios", "iOS", "a", "ä", "straße", "strasse"]
    ids += [] if kind.startswith("CHAR") else ["a ", " a"]  # CHAR keeps no spaces at the end
    found = {}
    for name, declared in (("duckdb", "text"), ("mariadb", kind)):
        columns = {"id": declared, "u": declared, "i": declared, "app": declared, "at": "timestamp", "price": "number"}
        bench = benches(name)
        events = table(columns, [(one, one, one, one, NOON, 1.0) for one in ids])
        users = table({"u": declared}, [("IOS",), ("ios",), ("A",), ("ä",)])
        bench.place.fill({"events": events, "users": users})
        datasets = {"events": {"roles": ROLES, "users": "users"}, "users": {"roles": {"user": "u"}}}
        only = ("duplicates", "unknown_ids", "density", "popularity", "contract")
        checks = {check: {"min_rows": 1} for check in only}
        found[name] = {
            (one.check, str(one.subject)): (one.outcome, one.value, one.details)
            for one in bench.verdicts(datasets, HOUR, checks=checks, only=only)
        }
    assert found["mariadb"] == found["duckdb"]
    assert found["mariadb"]["duplicates", "{}"][1] == 0
    assert found["mariadb"]["unknown_ids", "{'entity': 'user'}"][2]["causes"]["unknown"] == len(ids) - 2


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.id)
def test_the_sql_that_is_explained_runs_and_finds_an_hour_by_the_index(
    kind: type[Check[Any]], mariadb: str, owner: sa.Connection
) -> None:
    owner.exec_driver_sql(
        "CREATE TABLE IF NOT EXISTS indexed (id VARCHAR(20), u VARCHAR(20), i VARCHAR(20), app VARCHAR(20),"
        " price DOUBLE, at DATETIME(6), KEY clock (at)) SELECT seq AS id, 'u' AS u, '100%%' AS i, '5%% \\\\off' AS app,"
        " 1.5 AS price, TIMESTAMP '2026-01-01 00:00:00' + INTERVAL seq MINUTE AS at FROM seq_1_to_86400"
    )
    owner.exec_driver_sql("ANALYZE TABLE indexed").all()
    events = {"table": "indexed", "roles": ROLES, "features": ["price"]}
    whole = {"engines": {"shop": {"url": mariadb}}, "datasets": {"events": events}}
    config = Config.model_validate({**whole, "checks": NAMED})
    with closing(build(config)) as pipeline, pipeline.engines["shop"].session() as session:
        check = next(check for check in pipeline.checks["events"] if check.id == kind.id)
        _remarks, found = statements(pipeline, "events", check, datetime(2026, 3, 1, 12, tzinfo=UTC), None)
        for statement in found:
            asked = statement.sql.replace("%", "%%")
            session._connection.exec_driver_sql(asked).all()
            if statement.title.startswith("older"):
                # The one search through everything, for a feed that is silent since long.
                continue
            plan = [row._mapping for row in session._connection.exec_driver_sql(f"EXPLAIN {asked}").all()]
            reads = [row for row in plan if row["table"] == "indexed" or row["key"] == "clock"]
            assert reads
            assert {row["key"] for row in reads} == {"clock"}, f"{statement.title}: {plan}"


def test_a_session_only_reads_and_its_server_has_a_limit_too(owner: sa.Connection, session: Session) -> None:
    owner.exec_driver_sql("CREATE TABLE IF NOT EXISTS kept (n INT)")
    with pytest.raises(EngineError, match="READ ONLY"):
        session.run(text("INSERT INTO kept VALUES (1) RETURNING n"), 1)
    asked = text("SELECT @@max_statement_time, @@time_zone, @@sql_mode")
    assert session.run(asked, 1) == [(65.0, "+00:00", "NO_UNSIGNED_SUBTRACTION")]


def test_a_statement_is_ended_in_the_server(mariadb: str, owner: sa.Connection) -> None:
    others = "info LIKE '%%seq_1_to_9999999%%' AND id <> connection_id()"
    running = f"SELECT count(*) FROM information_schema.processlist WHERE {others}"
    endless = select(func.sum(text("a.seq + b.seq"))).select_from(text("seq_1_to_99999999 a, seq_1_to_99999999 b"))
    with closing(connect("shop", mariadb, timeout_seconds=0.5)) as engine, engine.session() as session:
        with pytest.raises(EngineError, match=r"timed out after 0\.5 s"):
            session.run(endless, 1)
        assert owner.exec_driver_sql(running).scalar_one() == 0
        assert session.run(select(func.abs(-3)), 1) == [(3,)], "the session goes on"


def test_a_wrong_password_is_said_without_it(mariadb: str, owner: sa.Connection) -> None:
    owner.exec_driver_sql("CREATE OR REPLACE USER asked@localhost IDENTIFIED BY 'right'")
    owner.exec_driver_sql("GRANT SELECT ON test.* TO asked@localhost")
    url = mariadb.replace("root@", "asked:PASSWORD@")
    refused = r"engine shop .* cannot be reached: Access denied for user 'asked'"
    with (
        closing(connect("shop", url.replace("PASSWORD", "wr0ng"))) as engine,
        pytest.raises(EngineError, match=refused) as caught,
        engine.session(),
    ):
        pass
    assert caught.value.unreachable
    assert "wr0ng" not in str(caught.value)
    with closing(connect("shop", url.replace("PASSWORD", "right"))) as engine, engine.session() as session:
        assert session.run(select(func.abs(-3)), 1) == [(3,)]


def test_errors_are_words_without_values(session: Session) -> None:
    with pytest.raises(EngineError, match=r"what: You have an error in your SQL syntax; .* near \*\*\*$"):
        session.run(text("SELECT 1 FROM FROM 'canary'"), 1, "what")
    with pytest.raises(EngineError, match=r"table nowhere\.events does not exist"):
        session.open(Location("events", table="events", schema="nowhere"))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [(r"[\W]+", "ü-", True), (r"[^\W]+", "ü", False), (r"[[:alpha:]\d]+", "a7", True), (r"[a[]\w\]", "[x]", True),
     (r"[]\d]+", "7]", True), (r"\\d", r"\d", True), (r"\D\S", "ü\u0663", True), (r"[\S]", " ", False)],
)  # fmt: skip
def test_classes_are_those_of_ascii(session: Session, pattern: str, text: str, expected: bool) -> None:
    assert bool(session.run(select(matches_whole(literal(text), pattern)), 1)[0][0]) is expected, ascii_classes(pattern)
