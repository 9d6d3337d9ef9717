"""``recwatch init`` on a real PostgreSQL: schemas, partitions, views, and a password that is not written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from checks.dataset import Role
from monitor.load import load

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
