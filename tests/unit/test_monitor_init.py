"""``recwatch init`` on files and databases: what it guesses, writes and refuses."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from checks.dataset import ColumnType, Kind, Role
from checks.window import Window
from monitor.clock import SystemClock
from monitor.faults import Fault
from monitor.guess import Found, Seen, guess_features, guess_kinds, guess_roles
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
Recwatch = Callable[..., Any]


def column(name: str, kind: Kind, distinct: int, low: float | None = None, high: float | None = None) -> Seen:
    return Seen(name, ColumnType(kind, kind.value), 1_000, distinct, low, high)


def guessed(*columns: Seen, name: str = "log") -> Found:
    found = Found(name, {"files": "x"}, 1_000, columns)
    guess_roles(found)
    guess_kinds([found])
    guess_features(found)
    return found


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("user_id", Role.USER), ("userId", Role.USER), ("personId", Role.USER), ("customer_id", Role.USER),
        ("uid", Role.USER), ("visitor", Role.USER), ("contentId", Role.ITEM), ("product_id", Role.ITEM),
        ("movieId", Role.ITEM), ("sku", Role.ITEM), ("article_key", Role.ITEM),
    ],
)  # fmt: skip
def test_entities_are_known_by_name(name: str, role: Role) -> None:
    found = guessed(column(name, Kind.INTEGER, 300), column("ts", Kind.TIMESTAMP, 900))
    assert found.roles[role].column.name == name
    assert found.kind == "events"


@pytest.mark.parametrize("name", ["user_agent", "userRegion", "user-item_affinity_3", "item_feature_0", "sessionId"])
def test_names_that_only_look_like_entities_are_not(name: str) -> None:
    assert not {Role.USER, Role.ITEM} & set(guessed(column(name, Kind.TEXT, 300)).roles)


def test_an_event_id_must_be_nearly_unique_and_no_session() -> None:
    assert Role.EVENT_ID in guessed(column("event_id", Kind.TEXT, 999)).roles
    assert Role.EVENT_ID not in guessed(column("event_id", Kind.TEXT, 400)).roles
    assert Role.EVENT_ID not in guessed(column("session_event_id", Kind.TEXT, 999)).roles


@pytest.mark.parametrize(("factor", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us")])
def test_the_unit_of_a_time_is_told_by_its_size(factor: int, unit: str) -> None:
    found = guessed(column("ts", Kind.INTEGER, 900, 8.7e8 * factor, 1.7e9 * factor))
    assert found.roles[Role.EVENT_TIME].column.time_unit == unit


def test_two_times_are_told_apart() -> None:
    found = guessed(column("received_at", Kind.TIMESTAMP, 9), column("event_time", Kind.TIMESTAMP, 9))
    assert found.roles[Role.INGESTED_AT].column.name == "received_at"
    assert found.roles[Role.EVENT_TIME].column.name == "event_time"


def test_features_are_neither_ids_nor_times_nor_free_text() -> None:
    found = guessed(
        column("user_id", Kind.TEXT, 300), column("ts", Kind.TIMESTAMP, 900), column("price", Kind.NUMBER, 500),
        column("device", Kind.TEXT, 5), column("comment", Kind.TEXT, 900), column("order_id", Kind.INTEGER, 900),
        column("constant", Kind.TEXT, 1),
    )  # fmt: skip
    assert found.features == ("price", "device")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    stream = Stream(StreamSettings(events_per_second=20, users=2_000, items=300))
    fault = Fault("rejects", START, START + timedelta(minutes=1))
    writer = LiveWriter(stream, tmp_path / "shop", START, faults=(fault,))
    for minute in range(1, 4):
        writer.advance(START + timedelta(minutes=minute))
    return tmp_path / "shop"


def test_a_folder_becomes_a_configuration_that_runs(recwatch: Recwatch, shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    said = recwatch("init", str(shop), "-o", str(path))
    assert said.code == 0, said.err
    config = load(path)
    assert config.watched() == ["events"]
    events = config.datasets["events"]
    assert events.links == {"users": "users", "items": "items", "sent": "sent", "rejected": "rejected"}
    assert {role.value for role in events.roles} == {
        "event_id", "user", "item", "event_type", "event_time", "ingested_at", "value", "source",
    }  # fmt: skip
    assert set(events.features) >= {"device", "app_version", "position"}
    assert 'files: "shop/events/*.parquet"' in path.read_text()
    again = recwatch("init", str(shop), "-o", str(path))
    assert again.code == 2
    assert "is there already" in again.err
    assert recwatch("init", str(shop), "-o", str(path), "--force").code == 0
    assert recwatch("validate", "-c", str(path)).code == 0


def test_ids_with_leading_zeros_survive_csv(recwatch: Recwatch, tmp_path: Path) -> None:
    rows = [f"{n % 12:03},{7 + n % 3:05},2026-03-03T12:00:{n % 60:02}" for n in range(200)]
    (tmp_path / "events.csv").write_text("user_id,item_id,ts\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("item_id\n00007\n00008\n9\n")
    path = tmp_path / "recwatch.yml"
    assert recwatch("init", str(tmp_path), "-o", str(path)).code == 0
    pipeline = build(load(path))
    unknown = [check for check in pipeline.checks["events"] if check.id == "unknown_ids"]
    window = Window(START, START + timedelta(minutes=2))
    judged = Runner(pipeline, None, SystemClock()).run("events", [(unknown[0], window)])
    item = next(verdict for verdict in judged[0].verdicts if verdict.entity == "item")
    assert item.details["causes"]["unknown"] == 66, "00009 is not 9"
    assert item.details["distinct_unknown"] == 1


def test_json_lines_and_databases(recwatch: Recwatch, tmp_path: Path) -> None:
    lines = [
        {"userId": -n, "productId": f"p{n % 9}", "when": 1_772_539_200_000 + n, "app": "ios"} for n in range(1, 90)
    ]
    (tmp_path / "clicks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("CREATE TABLE clicks (user_id INTEGER, product_id TEXT, at INTEGER)")
        connection.executemany(
            "INSERT INTO clicks VALUES (?, ?, ?)", [(row["userId"], row["productId"], row["when"]) for row in lines]
        )
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("CREATE TABLE clicks AS SELECT * FROM read_json(?)", [str(tmp_path / "clicks.jsonl")])
    for target in ("clicks.jsonl", "shop.sqlite", "shop.duckdb"):
        path = tmp_path / f"{target}.yml"
        assert recwatch("init", str(tmp_path / target), "-o", str(path)).code == 0
        roles = load(path).datasets["clicks"].roles
        assert {Role.USER, Role.ITEM, Role.EVENT_TIME} <= set(roles)
        assert "unit: ms" in path.read_text()
        assert recwatch("check", "--all", "-c", str(path)).code in (0, 1)


def test_a_password_is_not_written(tmp_path: Path) -> None:
    from monitor.compose import compose

    text = compose("shop", {"database": "postgresql://watch:canary@db/shop"}, [], tmp_path)
    assert "canary" not in text
    assert 'url: "${RECWATCH_DATABASE_URL}"' in text


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("nowhere", 3, "no such file or folder"),
        ("notes.txt", 3, "the ending says no format"),
        ("postgresql+psycopg://watch:canary@127.0.0.1:1/none", 3, "cannot be reached"),
        ("plain.csv", 2, "nothing here looks like events"),
    ],
)
def test_what_cannot_be_read_is_said(recwatch: Recwatch, tmp_path: Path, target: str, code: int, says: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "plain.csv").write_text("a,b\n1,2\n")
    where = target if "://" in target else str(tmp_path / target)
    said = recwatch("init", where, "-o", str(tmp_path / "out.yml"))
    assert said.code == code, said
    assert says in said.err
    assert "canary" not in said.err + said.out
    assert os.path.exists(tmp_path / "out.yml") is (target == "plain.csv")
