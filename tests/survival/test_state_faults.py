"""A state that cannot be written, or is damaged: told at once, nothing is half there, and it goes on by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor import schema
from monitor.clock import ManualClock
from monitor.database import short
from monitor.errors import StateError
from monitor.store import Store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Prepares connections from now on otherwise: they wait for no lock, and the file may have so many pages."""
    prepare, pages = schema._prepare_sqlite, [1_000_000]

    def otherwise(connection: Any, record: Any) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA busy_timeout=50")
        connection.execute(f"PRAGMA max_page_count={pages[0]}")

    def set_most(most: int) -> None:
        pages[0] = most

    monkeypatch.setattr(schema, "_prepare_sqlite", otherwise)
    return set_most


def test_a_full_disk_is_told_and_what_could_not_be_noted_is_counted_later(
    shop: Any, impatient: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    shop.write(range(30))
    daemon = shop.daemon(4)
    shop.tick()
    before, pages = shop.counted, shop.ask("PRAGMA page_count")
    assert daemon._state_problem is None
    impatient(pages)
    daemon.store._engine.dispose()
    for minute in (10, 16, 22):
        shop.tick(minute)
    assert "database or disk is full" in caplog.text
    kept = shop.ask("SELECT count(*) FROM windows WHERE check_id = 'contract'")
    assert shop.counted == 10 * kept < 190, "a window is there as a whole, or not at all"
    with pytest.raises(StateError, match="cannot be written: database or disk is full"), daemon.store.writing() as to:
        to.exec_driver_sql("INSERT INTO meta VALUES ('big', zeroblob(1000000))")
    impatient(1_000_000)
    daemon.store._engine.dispose()
    for _step in range(4):
        shop.tick()
    assert shop.counted == before + 180
    assert daemon._state_problem is None


def test_a_locked_state_is_a_problem_of_health_and_passes(shop: Any, impatient: Callable[[int], None]) -> None:
    impatient(1_000_000)
    shop.write(range(8))
    daemon = shop.daemon(4)
    shop.tick()
    before = shop.counted
    daemon._scheduler.start(paused=True)
    with closing(sqlite3.connect(shop.folder / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        shop.tick(6)
        assert "cannot be written: database is locked" in str(daemon.problem())
        assert "cannot be written: database is locked" in str(daemon.pending())
        other.execute("ROLLBACK")
    shop.tick()
    assert daemon.problem() is None
    assert shop.counted == before + 20
    daemon._scheduler.shutdown()


def spoil(path: Path) -> None:
    """Write over the pages of a database, but for its header."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)


def test_a_corrupt_state_is_put_aside_at_the_start_and_a_new_one_begins(
    shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop.write(range(8))
    shop.daemon(4).store.close()
    path = shop.folder / "state.db"
    spoil(path)
    damaged = path.read_bytes()
    with pytest.raises(StateError, match="cannot be opened: database disk image is malformed"):
        Store(f"sqlite:///{path}", "shop")
    shop.daemon(5)
    shop.tick()
    assert shop.counted == 10
    (aside,) = shop.folder.glob("state.db.corrupt-*Z")
    assert aside.name == "state.db.corrupt-20260303T120500Z"
    assert aside.read_bytes() == damaged, "nothing of it is lost"
    said = caplog.text
    assert "state_corrupt" in said
    assert str(aside) in said


@pytest.mark.parametrize("header", [b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_state_without_its_first_page_is_put_aside(shop: Any, header: bytes) -> None:
    shop.daemon(4).store.close()
    path = shop.folder / "state.db"
    path.write_bytes(header + path.read_bytes()[4096:])
    shop.write(range(8))
    shop.daemon(5)
    shop.tick()
    assert shop.counted == 10
    assert len(list(shop.folder.glob("state.db.corrupt-*Z"))) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("disk I/O error\nSELECT 1"), "disk I/O error"), (sqlite3.DatabaseError(), "DatabaseError")],
)
def test_an_error_without_words_is_told_by_its_kind(error: Exception, said: str) -> None:
    assert short(error) == said


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item\n" * 100)
    clock = ManualClock(datetime(2026, 3, 3, tzinfo=UTC))
    with pytest.raises(StateError, match=r"is not a database of SQLite; set state to a file of its own"):
        Store(f"sqlite:///{path}", "shop", clock)
    assert path.read_text() == "user,item\n" * 100
    assert [one.name for one in tmp_path.iterdir()] == ["events.csv"]


def test_a_state_that_is_damaged_while_it_is_open_is_put_aside_and_the_daemon_goes_on(
    shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shop.write(range(12))
    daemon = shop.daemon(4)
    shop.tick()
    daemon.evaluate()
    daemon.store._engine.dispose()
    spoil(shop.folder / "state.db")
    for minute in (5, 6, 7):
        shop.tick(minute)
        daemon.evaluate()
    assert len(list(shop.folder.glob("state.db.corrupt-*Z"))) == 1, "put aside once"
    assert "state_corrupt" in caplog.text
    assert daemon.problem() == "the schedule does not run", "no trouble with the state any more"
    windows = shop.ask("SELECT count(*) FROM windows WHERE check_id = 'contract'")
    assert shop.counted == 10 * windows >= 20, "the new state counts on"
    assert daemon.lease.is_held
    assert shop.ask("SELECT max(end_us) FROM windows") == int((shop.start + timedelta(minutes=7)).timestamp() * 1e6)
