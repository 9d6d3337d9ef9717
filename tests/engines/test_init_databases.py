"""``recwatch init`` on a real PostgreSQL, MariaDB and Spark: schemas, partitions, views, and passwords not written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from checks.dataset import Role
from monitor.engines import connect
from monitor.load import load
from monitor.targets import tables

Recwatch = Callable[..., Any]
MADE = (
    "CREATE SCHEMA init_shop",
    "CREATE TABLE init_shop.products (id BIGINT PRIMARY KEY, name TEXT, created_at TIMESTAMPTZ)",
    "INSERT INTO init_shop.products SELECT n, 'thing ' || n, '2026-01-01Z' FROM generate_series(0, 6) n",
    "CREATE TABLE init_shop.interactions (event_id UUID, customer_id TEXT, product_id BIGINT, action TEXT,"
    " price NUMERIC(8, 2), extra JSON, occurred_at TIMESTAMPTZ) PARTITION BY RANGE (occurred_at)",
    "CREATE TABLE init_shop.interactions_2026_03 PARTITION OF init_shop.interactions"
    " FOR VALUES FROM ('2026-03-01Z') TO ('2026-04-01Z')",
    "INSERT INTO init_shop.interactions SELECT gen_random_uuid(), to_char(n % 40, 'FM000'), n % 7,"
    " CASE n % 3 WHEN 0 THEN 'view' ELSE 'click' END, n % 50, '{}',"
    " timestamptz '2026-03-03 12:00Z' + n * interval '1 s' FROM generate_series(1, 500) n",
    "CREATE VIEW init_shop.customers AS SELECT DISTINCT customer_id FROM init_shop.interactions",
)


@pytest.fixture
def shop(postgresql: str) -> Iterator[str]:
    # A database of its own: init takes in every table it finds, and other tests leave theirs on the server.
    server = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    url = server.url.set(database="init_shop")
    with server.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE init_shop"))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in MADE:
            connection.execute(sa.text(statement))
    engine.dispose()
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text("DROP DATABASE init_shop WITH (FORCE)"))
        server.dispose()


def test_a_postgresql_database_becomes_a_configuration_that_runs(shop: str, recwatch: Recwatch, tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    # Any password will do: the server trusts whoever connects. "postgres:" is how many write it.
    url = shop.replace("postgresql+psycopg://watch@", "postgres://watch:canary@")
    said = recwatch("init", url, "-o", str(path))
    assert said.code == 0, said
    text = path.read_text()
    assert "canary" not in said.out + said.err + text
    assert "export RECWATCH_DATABASE_URL" in said.out
    config = load(path, {"RECWATCH_DATABASE_URL": url.replace("postgres:", "postgresql:")})
    assert "init_shop_interactions_2026_03" not in config.datasets, "a partition is read through its table"
    events = config.datasets["init_shop_interactions"]
    assert events.table == "init_shop.interactions"
    assert {role.value: column for role, column in events.roles.items()} == {
        "event_id": "event_id", "user": "customer_id", "item": "product_id", "event_type": "action",
        "event_time": "occurred_at", "value": "price",
    }  # fmt: skip
    assert (events.users, events.items) == ("init_shop_customers", "init_shop_products")
    assert config.datasets["init_shop_products"].roles[Role.VALID_FROM] == "created_at"
    placeholders = events.checks.unknown_ids.placeholders  # type: ignore[attr-defined]
    assert "0" not in placeholders, "a product has this id"


def test_it_runs_as_it_was_written(
    shop: str, recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recwatch.yml"
    monkeypatch.setenv("RECWATCH_DATABASE_URL", shop)
    assert recwatch("init", shop, "-o", str(path)).code == 0
    said = recwatch("check", "-c", str(path), "--all", "--only", "unknown_ids", "--only", "contract")
    assert said.code == 0, said


STORE = (
    "CREATE TABLE products (id BIGINT UNSIGNED PRIMARY KEY, name TEXT, created_at TIMESTAMP NULL)",
    "INSERT INTO products SELECT seq, concat('thing ', seq), '2026-01-01' FROM seq_0_to_6",
    "CREATE TABLE interactions (event_id UUID, customer_id VARCHAR(20), product_id BIGINT UNSIGNED,"
    " action ENUM('view', 'click', 'save'), price DECIMAL(8, 2), is_member BOOLEAN, extra JSON, at POINT,"
    " occurred_at DATETIME(3))",
    "INSERT INTO interactions SELECT uuid(), lpad(seq % 40, 3, '0'), seq % 7, 1 + (seq % 3 > 0), seq % 50, seq % 2,"
    " '{}', point(1, 2), '2026-03-03 12:00:00' + INTERVAL seq SECOND FROM seq_1_to_500",
    "CREATE VIEW customers AS SELECT DISTINCT customer_id FROM interactions",
)


@pytest.fixture
def store(mariadb: str) -> Iterator[str]:
    """The URL of a MariaDB database of our own, for an account that may only read it and has a password."""
    server = sa.create_engine(mariadb.replace("mariadb:", "mariadb+pymysql:"))
    with server.begin() as connection:
        connection.exec_driver_sql("CREATE DATABASE init_store")
        connection.exec_driver_sql("USE init_store")
        for statement in STORE:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.exec_driver_sql("CREATE USER reader@localhost IDENTIFIED BY 'canary'")
        connection.exec_driver_sql("GRANT SELECT, SHOW VIEW ON init_store.* TO reader@localhost")
    try:
        yield mariadb.replace("root@", "reader:canary@").replace("/test", "/init_store")
    finally:
        with server.begin() as connection:
            connection.exec_driver_sql("DROP DATABASE init_store")
            connection.exec_driver_sql("DROP USER reader@localhost")
        server.dispose()


@pytest.mark.parametrize("scheme", ["mariadb", "mysql"])
def test_a_mariadb_database_becomes_a_configuration_that_runs(
    scheme: str, store: str, recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, url = tmp_path / "recwatch.yml", store.replace("mariadb:", f"{scheme}:")
    said = recwatch("init", url, "-o", str(path))
    assert said.code == 0, said
    assert "canary" not in said.out + said.err + path.read_text()
    config = load(path, {"RECWATCH_DATABASE_URL": url})
    assert set(config.datasets) == {"interactions", "products", "customers"}, "of this database alone"
    events = config.datasets["interactions"]
    assert {role.value: column for role, column in events.roles.items()} == {
        "event_id": "event_id", "user": "customer_id", "item": "product_id", "event_type": "action",
        "event_time": "occurred_at", "value": "price",
    }  # fmt: skip
    assert (events.users, events.items) == ("customers", "products")
    assert "is_member" in events.features
    assert config.datasets["products"].roles[Role.VALID_FROM] == "created_at"
    monkeypatch.setenv("RECWATCH_DATABASE_URL", url)
    said = recwatch("check", "-c", str(path), "--all")
    assert said.code == 0, said
    monkeypatch.setenv("COLUMNS", "200")
    assert recwatch("doctor", "-c", str(path)).code == 0


def test_a_mariadb_url_may_name_no_database(store: str) -> None:
    with closing(connect("store", store.removesuffix("init_store"))) as engine:
        found = {(location.schema, location.table) for location in tables(engine)[0]}
    # Other tests have tables of their own in another database of the server.
    assert {schema for schema, _table in found} <= {"init_store", "test"}, "the server's own databases are left out"
    ours = {table for schema, table in found if schema == "init_store"}
    assert ours == {"interactions", "products", "customers"}


LAKE = (
    "CREATE TABLE {shop}.products USING parquet AS SELECT id, TIMESTAMP '2026-01-01 00:00:00' AS created_at,"
    " named_struct('timestamp', current_timestamp()) AS meta, array(1) AS tags FROM range(7)",
    "CREATE TABLE {shop}.interactions USING parquet PARTITIONED BY (dt, hour, country) AS SELECT uuid() AS event_id,"
    " lpad(CAST(id % 40 AS STRING), 3, '0') AS customer_id, id % 7 AS product_id,"
    " CASE id % 3 WHEN 0 THEN 'view' ELSE 'click' END AS action, CAST(id % 50 AS DECIMAL(8, 2)) AS price,"
    " CAST(id % 5 AS FLOAT) AS dwell, map('a', 1) AS extra, INTERVAL '1' DAY AS took, CAST('x' AS BINARY) AS `#raw`,"
    " TIMESTAMP_NTZ '2026-03-03 12:00:00' + make_interval(0, 0, 0, 0, 0, 0, id) AS occurred_at,"
    " 20260303 + id % 2 AS dt, id % 3 AS hour, CASE id % 2 WHEN 0 THEN 'de' ELSE 'fr' END AS country FROM range(500)",
    "CREATE VIEW {shop}.customers AS SELECT DISTINCT customer_id FROM {shop}.interactions",
    "CREATE TABLE {shop}.narrow USING parquet AS SELECT 1 AS a, 2 AS b",
    "CREATE VIEW {shop}.broken AS SELECT b FROM {shop}.narrow",
    "DROP TABLE {shop}.narrow",
    "CREATE OR REPLACE TEMPORARY VIEW mine AS SELECT 1 AS user_id",
)


@pytest.fixture
def lake(spark: str) -> Iterator[str]:
    """The URL of a Spark database of our own, with a password that the server does not look at."""
    shop = f"shop_{uuid.uuid4().hex}"
    with closing(connect("lake", spark, 300)) as engine, engine.sqlalchemy_engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {shop}")
        try:
            for statement in LAKE:
                connection.exec_driver_sql(statement.format(shop=shop).replace("%", "%%"))
            yield spark.replace("hive://", "hive://ann:canary@").replace("/default", f"/{shop}")
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {shop} CASCADE")


@pytest.mark.slow
def test_a_spark_database_becomes_a_configuration_that_runs(
    lake: str, recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recwatch.yml"
    said = recwatch("init", lake, "-o", str(path))
    assert said.code == 0, said
    assert "canary" not in said.out + said.err + path.read_text()
    assert "table broken: [TABLE_OR_VIEW_NOT_FOUND]" in said.out
    config = load(path, {"RECWATCH_DATABASE_URL": lake})
    assert set(config.datasets) == {"interactions", "products", "customers"}, "tables of this database, each once"
    assert config.engines["database"].timeout.total_seconds() == 300
    events = config.datasets["interactions"]
    assert {role.value: column for role, column in events.roles.items()} == {
        "event_id": "event_id", "user": "customer_id", "item": "product_id", "event_type": "action",
        "event_time": "occurred_at", "value": "price",
    }  # fmt: skip
    assert (events.users, events.items) == ("customers", "products")
    assert list(events.features) == ["price", "dwell", "country"], "what only cuts the table by time is none"
    monkeypatch.setenv("RECWATCH_DATABASE_URL", lake)
    said = recwatch("check", "-c", str(path), "--all")
    assert said.code == 0, said
    assert "6 good, 5 unknown" in said.out


@pytest.mark.slow
def test_a_spark_url_may_name_a_catalog_or_no_database(lake: str) -> None:
    shop = lake.rpartition("/")[2]
    with closing(connect("lake", lake.replace(shop, f"spark_catalog.{shop}"), 300)) as engine:
        found = {(location.schema, location.table) for location in tables(engine)[0]}
    assert found == {(None, name) for name in ("interactions", "products", "customers", "broken")}
    with closing(connect("lake", lake.removesuffix(f"/{shop}"), 300)) as engine:
        assert {(shop, name) for _, name in found} <= {(at.schema, at.table) for at in tables(engine)[0]}


@pytest.mark.slow
def test_a_spark_catalog_that_knows_no_views_is_looked_at(spark: str) -> None:
    with closing(connect("lake", spark, 300)) as engine:
        with engine.sqlalchemy_engine.connect() as connection:
            for name, value in (
                ("", "org.apache.spark.sql.execution.datasources.v2.jdbc.JDBCTableCatalog"),
                (".url", "jdbc:derby:memory:viewless;create=true"),
            ):
                connection.exec_driver_sql(f"SET `spark.sql.catalog.viewless{name}`=`{value}`")
            connection.exec_driver_sql("CREATE TABLE viewless.APP.things (id INT)")
            connection.exec_driver_sql("USE viewless.APP")
        # The session is kept, and with it the catalog.
        assert [location.table for location in tables(engine)[0] if location.schema is None] == ["things"]
