"""A real application behind a real server, plain or with TLS, and certificates made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.app import App
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.resolve import build
from monitor.server import Server
from monitor.status import Watched
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that serves a configuration's status page."""
    opened: list[Any] = []

    def served(external_url: str = "", **server: Any) -> Server:
        config = Config.model_validate(
            {
                "pipeline": "shop",
                "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at"}}},
                "channels": {"pager": {"type": "console"}},
                "notify": {"external_url": external_url},
                "server": {"port": 0, **server},
            }
        )
        pipeline = build(config)
        store = Store(f"sqlite:///{tmp_path}/state-{len(opened)}.db", "shop")
        watched = Watched(config, pipeline.checks, {}, NOON)
        found = Server(config.server, App(store, ManualClock(NOON), lambda: watched, lambda: None, lambda: None))
        found.start()
        opened.extend([found, store, pipeline])
        return found

    yield served
    for one in opened:
        one.close()
