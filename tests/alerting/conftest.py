"""A pipeline whose runs are made up, minute by minute, with the real state, evaluation, outbox and delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.message import Alert
from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.alerting import Alerting
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.objectives import points
from monitor.records import Judged
from monitor.resolve import build
from monitor.store import Store

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OUTCOMES = {"+": Outcome.GOOD, "-": Outcome.BAD, "?": Outcome.UNKNOWN, "!": Outcome.ERROR}


@dataclass
class Shop:
    """Objectives for freshness, unknown ids and density of one dataset."""

    url: str
    extra: dict[str, Any] = field(default_factory=dict)
    every: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._configure()
        self.store = Store(self.url, "shop")
        self.clock = ManualClock(START)
        self.alerting = Alerting(self.store, self.pipeline, START)
        self.commit("freshness", "+", START - timedelta(days=7))

    def _configure(self, *disabled: str) -> None:
        off = ("ingestion", "contract", "duplicates", "popularity", *disabled)
        each = {"every": "1m", "window": "1m", "settle": "0s"}
        on = {name: {**each, "every": self.every.get(name, "1m")} for name in ("freshness", "unknown_ids", "density")}
        checks = {**on, **{name: {"enabled": False} for name in off}}
        self.config = Config.model_validate(
            {
                "pipeline": "shop",
                "state": self.url,
                "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at", "user": "u", "item": "i"}}},
                "checks": checks,
                "channels": {"here": {"type": "console"}},
                **self.extra,
            }
        )
        self.pipeline = build(self.config)

    def commit(
        self,
        check: str,
        what: str,
        at: datetime | None = None,
        gauges: tuple[Sample, ...] = (),
        sources: tuple[str, ...] = (),
        **fields: Any,
    ) -> None:
        """Commit one run of a check that ends now."""
        now = at or self.clock.now()
        # Freshness looks further back than to its last run.
        window = Window(now - (60 * MINUTE if check == "freshness" else MINUTE), now)
        about = {"entity": "user"} if check == "unknown_ids" else {}
        counts = {"good": 50 if what == "-" else 100, "total": 100} if check == "unknown_ids" else {}
        said = {"reason": "cannot connect"} if what == "!" else {}
        found = {"measure": "lag_seconds", "value": 700, "limit": 300, **about, **counts, **said, **fields}
        verdict = Verdict(check, "events", window, OUTCOMES[what], **found)
        parts = [replace(verdict, source=source) for source in sources]
        ours = [slo for slo in self.pipeline.slos.values() if slo.check == check]
        found = tuple(points(ours, [verdict], max(now, self.clock.now())))
        tally = Tally("events", window) if gauges else None
        self.store.commit(
            Judged(
                check, "events", window, [verdict, *parts], self.clock.now(), 0.1, tally, gauges=gauges, points=found
            )
        )

    def play(self, minutes: str, check: str = "freshness") -> list[Alert]:
        """Let a check run once a minute, and evaluate after each run; return what people were told."""
        told = []
        for what in minutes:
            self.clock.move(MINUTE)
            self.commit(check, what)
            told += self.alerting.evaluate(self.clock.now())
        return told

    def reload(self, *disabled: str) -> None:
        """Go on with some checks disabled, as the daemon does when its configuration changes."""
        self.pipeline.close()
        self._configure(*disabled)
        self.restart()

    def restart(self, after: timedelta = timedelta(0)) -> None:
        """Read everything anew from the state, as a new process does."""
        self.clock.move(after)
        self.alerting = Alerting(self.store, self.pipeline, self.clock.now())

    def close(self) -> None:
        self.pipeline.close()
        self.store.close()


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens a shop; what is given is added to its configuration."""
    shops: list[Shop] = []

    def start(url: str = "", every: dict[str, str] | None = None, **extra: Any) -> Shop:
        shops.append(Shop(url or f"sqlite:///{tmp_path}/state.db", extra, every or {}))
        return shops[-1]

    yield start
    for shop in shops:
        shop.close()
