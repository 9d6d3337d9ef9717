"""``recwatch doctor --engine``: what an engine can and cannot do, by small statements with known answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy import select

from monitor import probes
from monitor.engine import Location
from monitor.engines import connect
from monitor.probes import Probe, findings

Run = Callable[..., Any]
ON_SPARK = pytest.param("spark", marks=[pytest.mark.slow])


@pytest.mark.parametrize("name", ["duckdb", "sqlite", "postgresql", "mariadb", ON_SPARK])
def test_the_engines_that_recwatch_knows_can_do_all(name: str, recwatch: Run, request: pytest.FixtureRequest) -> None:
    urls = {"duckdb": "duckdb:///:memory:", "sqlite": "sqlite://"}
    done = recwatch("doctor", "--engine", urls.get(name) or request.getfixturevalue(name))
    assert done.code == 0, done.out
    assert "every check can run there" in done.out
    assert "stopping a long statement    ok" in done.out
    assert "row_key                      ok" in done.out
    assert " wrong " not in done.out.replace("NaN                          wrong", "")


@pytest.mark.slow
def test_what_was_stopped_holds_no_executor_of_spark(recwatch: Run, spark: str) -> None:
    assert "stopping a long statement    ok" in recwatch("doctor", "--engine", spark).out
    with closing(connect("lake", spark, 300)) as engine, engine.session() as session:
        assert session.run(select(sa.func.sum(sa.text("id"))).select_from(sa.text("range(10)")), 1) == [(45,)]


def test_a_wrong_answer_and_an_error_are_told(recwatch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [
        Probe("one and one", select(sa.literal(2)), (3,)),
        Probe("a function", select(sa.func.not_there(1)), (1,)),
        Probe("a whim", select(sa.literal("x")), ("y",), is_needed=False),
    ]
    monkeypatch.setattr(probes, "_probes", lambda engine: iter(odd))
    monkeypatch.setattr(probes, "LIMIT_SECONDS", 0.1)
    done = recwatch("doctor", "--engine", "sqlite://")
    assert done.code == 3
    assert "one and one                  wrong    got 2; expected 3" in done.out
    assert "a function                   failed   no such function: not_there" in done.out
    assert "a whim                       wrong    got 'x'; expected 'y' (no check rests on it)" in done.out
    assert "2 of 6 fail: one and one, a function; see monitor/guides/engines.md" in done.out


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("postgresql://watch:canary@127.0.0.1:1/shop", 3, "cannot be reached"),
        ("nowhere://watch:canary@db/shop", 2, "no support for nowhere"),
        ("mssql://watch:canary@db/shop", 2, "its SQLAlchemy dialect or driver is not installed"),
        ("canary", 2, "could not parse"),
    ],
)
def test_an_engine_that_cannot_be_tried_is_told_without_its_password(
    recwatch: Run, url: str, code: int, says: str
) -> None:
    done = recwatch("doctor", "--engine", url)
    assert done.code == code
    assert says.lower() in done.err.lower()
    assert "canary" not in done.out + done.err


def test_ids_that_floats_cannot_tell_apart_are_warned_of(bench: Any, table: Any, recwatch: Run) -> None:
    columns = {"small": "number", "large": "number", "exact": "decimal", "odd": "number", "at": "timestamp"}
    row = (2.0**53 - 1, -(2.0**60), Decimal(2**45), None, datetime(2026, 3, 3))
    bench.place.fill({"events": table(columns, [row, (1.0, 1.0, Decimal(1), float("inf"), row[-1])])})
    roles = [{"user": "small", "item": "large"}, {"user": "exact", "item": "odd"}]
    datasets = {
        name: {**bench.place.dataset("events"), "roles": {**ids, "event_time": "at"}}
        for name, ids in zip(("wrong", "right"), roles, strict=True)
    }
    path = bench.folder / "recwatch.yml"
    path.write_text(yaml.safe_dump({"engines": bench.place.engines, "datasets": datasets}))
    done = recwatch("doctor", "-c", str(path))
    warnings = [line.strip() for line in done.out.splitlines() if "warning" in line]
    assert done.code == 0, "the data can be read"
    assert len(warnings) == 1
    assert warnings[0].lower().startswith("warning: column large (role item) is double")
    assert "ids beyond 2^53, which lose digits there" in warnings[0]


# -- a database that recwatch knows nothing particular about ----------------------------------------


class Strange(sa.dialects.registry.load("sqlite")):  # type: ignore[misc]
    """SQLite under another name, so that nothing is known of it."""

    name = "strange"
    supports_statement_cache = True


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database of a kind that SQLAlchemy has a dialect for, and recwatch nothing."""
    monkeypatch.setitem(sa.dialects.registry.impls, "strange", lambda: Strange)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE events (id VARCHAR(20), at DATETIME, price DOUBLE, n BIGINT)")
    return f"strange:///{tmp_path}/shop.db"


def test_another_dialect_connects_and_is_told_what_it_lacks(strange: str) -> None:
    found = {finding.what: finding for finding in findings(strange)}
    results = {what: finding.result for what, finding in found.items()}
    for what in ("values round trip", "CASE", "WITH and aggregates", "GROUP BY", "windows", "outer joins"):
        assert results[what] == "ok", found[what]
    for what in ("parsed_time, in UTC", "is_not_finite", "number_or_null", "number_text", "matches_whole", "row_key"):
        assert results[what] == "failed", found[what]
    assert found["row_key"].said == "no such function: row_key"
    assert results["stopping a long statement"] == "ok"


def test_a_driver_that_cannot_stop_a_statement_is_told(strange: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("monitor.engines.generic"), "_cancel", lambda driver: None)
    monkeypatch.setattr(probes, "LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(probes, "PATIENCE_SECONDS", 0.3)
    long = (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000000) SELECT count(*) AS n FROM n)"
    )
    monkeypatch.setattr(probes, "_endless", lambda name: select(sa.column("n")).select_from(sa.text(long)))
    said = {finding.what: finding for finding in findings(strange)}["stopping a long statement"]
    assert (said.result, said.said) == ("failed", "it still ran after 0.3 s; the engine needs a limit of its own")


def test_tables_of_another_dialect_are_opened(strange: str) -> None:
    with closing(connect("shop", strange)) as engine, engine.session() as session:
        columns = session.open(Location("events", table="events"))
    assert {name: column.kind.value for name, column in columns.items()} == {
        "id": "text",
        "at": "timestamp",
        "price": "number",
        "n": "integer",
    }
