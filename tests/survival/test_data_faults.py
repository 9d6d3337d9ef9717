"""Data that breaks under the daemon: what cannot be read is an error, and is counted when it heals, once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from checks.check import Outcome
from checks.window import Window
from monitor import chores

BOTH = {"contract": Outcome.ERROR, "unknown_ids": Outcome.ERROR}


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garble(content: bytes) -> bytes:
    middle = len(content) // 4
    return content[:4] + b"\xff" * middle + content[4 + middle :]


def nothing(_content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("spoil", [truncate, garble, nothing])
def test_a_broken_file_is_an_error_with_its_name_and_is_counted_when_it_is_whole(shop: Any, spoil: Any) -> None:
    shop.write(range(6))
    shop.daemon(4)
    shop.tick()
    before = shop.counted
    whole = shop.path(5).read_bytes()
    shop.path(5).write_bytes(spoil(whole))
    shop.tick(6)
    assert shop.outcomes == BOTH
    # Of bytes that were garbled within, the engine's words do not always name the file.
    assert spoil is garble or "0005.parquet" in shop.reasons
    # A window of other files, which may be passed over by their statistics, can be judged; its own cannot.
    assert shop.counted in (before, before + 10), "nothing is counted of what could not be read"
    shop.path(5).write_bytes(whole)
    shop.tick()
    assert Outcome.ERROR not in shop.outcomes.values()
    assert shop.counted == before + 20


def test_an_empty_folder_is_an_error_and_no_good_news(shop: Any) -> None:
    shop.daemon(4)
    shop.tick()
    assert shop.outcomes == BOTH
    assert "events/*.parquet" in shop.reasons
    shop.write(range(4))
    shop.tick()
    assert Outcome.ERROR not in shop.outcomes.values()
    assert shop.counted == 10


@pytest.mark.parametrize(
    ("user", "moment"), [("struct_pack(id := i)", ""), ("'u' || i", "'no time'"), ("'u' || i", "i::DOUBLE")]
)
def test_a_column_that_changes_its_type_never_looks_healthy(shop: Any, user: str, moment: str) -> None:
    shop.write(range(6))
    shop.daemon(4).run_each(chores.renewals)
    shop.tick()
    assert shop.outcomes["contract"] is Outcome.GOOD
    before = shop.counted
    shop.write([5], user, moment)
    shop.tick(6)
    assert shop.outcomes["contract"] in (Outcome.BAD, Outcome.ERROR), shop.reasons
    shop.write([5])
    shop.tick(7)
    assert Outcome.ERROR not in shop.outcomes.values()
    # Rows without a time that can be read belong to no window while they have none.
    assert shop.counted - before in (10, 20, 30), "each row once, or never"


def test_a_file_that_is_replaced_while_it_is_read_is_counted_once(shop: Any) -> None:
    """One writer renames a whole file into place, another writes into it as it stands; the rows stay the same."""
    shop.write(range(12))
    shop.daemon(1)
    shop.tick()
    contents = {number: shop.path(number).read_bytes() for number in range(12)}
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for number, content in contents.items():
                hidden = shop.path(number).with_suffix(".new")
                hidden.write_bytes(content)
                hidden.rename(shop.path(number))
                shop.path(11 - number).write_bytes(contents[11 - number])

    writer = threading.Thread(target=replace)
    writer.start()
    for minute in range(2, 12):
        shop.tick(minute)
        assert shop.counted % 10 == 0, "a window is counted as a whole, or not at all"
    stop.set()
    writer.join()
    shop.tick(12)
    shop.tick()
    assert Outcome.ERROR not in shop.outcomes.values()
    assert shop.counted == 120


@pytest.mark.parametrize("name", ["duckdb", "sqlite", "postgresql", "mariadb", "parquet"])
@pytest.mark.parametrize(
    ("link", "users"),
    [("rejected", {"ingestion"}), ("sent", {"ingestion"}), ("items", {"unknown_ids", "density", "popularity"})],
)
def test_a_link_that_leads_nowhere_fails_the_checks_that_use_it_alone(
    benches: Any, table: Any, name: str, link: str, users: set[str]
) -> None:
    bench, start = benches(name), datetime(2026, 3, 3, 12, tzinfo=UTC)
    rows = [(f"u{n}", f"i{n % 7}", start.replace(tzinfo=None) + timedelta(seconds=n)) for n in range(60)]
    bench.place.fill({"events": table({"user": "text", "item": "text", "at": "timestamp"}, rows)})
    roles = {"user": "user", "item": "item", "event_time": "at"}
    datasets = {
        "events": {"table": "events", "roles": roles, link: "gone"},
        "gone": {"table": "gone", "roles": roles, "rejected": "gone_too"},
        "gone_too": {"table": "gone_too", "roles": roles},
    }
    verdicts = bench.verdicts(datasets, Window(start, start + timedelta(minutes=1)))
    failed = [verdict for verdict in verdicts if verdict.outcome is Outcome.ERROR]
    assert {verdict.check for verdict in failed} == users
    for verdict in failed:
        assert verdict.reason.startswith(f"{link}: ")
        assert "gone.parquet" in verdict.reason if name == "parquet" else "gone" in verdict.reason
    assert {"freshness", "contract", "duplicates"} <= {found.check for found in verdicts} - users
