"""What statements cost each engine, and what they may: kept in the state, so that a restart forgives nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import Enum

from checks.check import Sample
from checks.metrics import DEFERRALS
from checks.window import EPOCH
from monitor import log
from monitor.clock import Clock
from monitor.config import BudgetConfig, Config
from monitor.resolve import engine_name
from monitor.store import Store

HOUR = timedelta(hours=1)
SCANS = "scans"
DEFERRED = "recwatch_ticks_deferred_total"
BUDGET, QUEUE = DEFERRALS


class Allowance(Enum):
    """What an engine may still be asked in this hour."""

    ALL = "all"
    # Only checks of the present moment: what they miss now can't be looked up later.
    PRESENT = "present"
    NONE = "none"


@dataclass
class Spent:
    """What one engine was asked for.

    Args:
        hour: Number of the hour since the Unix epoch, UTC.
        seconds: Statement time that counts against this hour, with what was overspent before.
        total_seconds: Statement time ever since.
    """

    hour: int
    seconds: float = 0.0
    total_seconds: float = 0.0

    def at(self, hour: int, limit: float | None) -> Spent:
        """Return what is spent of the budget of an hour: what exceeded that of earlier ones is still owed."""
        if hour <= self.hour:
            return self
        owed = 0.0 if limit is None else max(0.0, self.seconds - limit * (hour - self.hour))
        return Spent(hour, owed, self.total_seconds)


class Scans:
    """Measures what the statements of one pipeline cost, and says what more is allowed.

    Args:
        store: Where it is kept.
        clock: Tells which hour it is.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._limits: dict[str, BudgetConfig] = {}
        self._is_changed = False
        self._spent = saved(store)
        self._exhausted: set[str] = set()

    def limit(self, config: Config) -> None:
        """Take the budgets of a configuration; what is spent stays spent."""
        self._limits = budgets(config)

    def recall(self) -> None:
        """Read what another daemon has spent that led before."""
        found = saved(self._store)
        with self._lock:
            self._spent, self._is_changed = found, False

    def spend(self, engine: str, seconds: float) -> None:
        """Add the time of a statement."""
        with self._lock:
            spent = self._now(engine)
            spent.seconds += seconds
            spent.total_seconds += seconds
            self._spent[engine], self._is_changed = spent, True

    def _now(self, engine: str) -> Spent:
        limit = self._limits[engine].seconds_per_hour if engine in self._limits else None
        hour = hour_of(self._clock.now())
        return self._spent.get(engine, Spent(hour)).at(hour, limit)

    def allowance(self, engine: str) -> Allowance:
        """Return what an engine may be asked now; what is used up, and given again, is logged once."""
        budget = self._limits.get(engine)
        if budget is None:
            return Allowance.ALL
        with self._lock:
            left = budget.seconds_per_hour - self._now(engine).seconds
            kept = budget.reserve * budget.seconds_per_hour
            found = Allowance.NONE if left <= 0 else Allowance.PRESENT if left <= kept else Allowance.ALL
            was, is_out = engine in self._exhausted, found is not Allowance.ALL
            (self._exhausted.add if is_out else self._exhausted.discard)(engine)
        if is_out and not was:
            log.error(
                "scan_budget_used_up", pipeline=self._store.pipeline, engine=engine,
                seconds_per_hour=budget.seconds_per_hour, hint="checks that can catch up wait for the next hour",
            )  # fmt: skip
        elif was and not is_out:
            log.event("scan_budget_renewed", pipeline=self._store.pipeline, engine=engine)
        return found

    def defer(self, engine: str, reason: str) -> None:
        """Count a tick that was put off.

        Raises:
            StateError: The state cannot be written.
        """
        with self._store.writing() as connection:
            self._store.count_one(connection, DEFERRED, {"engine": engine, "reason": reason})

    def save(self) -> None:
        """Write down what was spent, if anything was.

        Raises:
            StateError: The state cannot be written.
        """
        with self._lock:
            if not self._is_changed:
                return
            self._is_changed = False
            told = {engine: asdict(spent) for engine, spent in self._spent.items()}
        self._store.set_note(SCANS, told)

    def save_if_limited(self, engine: str) -> None:
        """Write down what was spent at once where it is limited: a kill must not give it back."""
        if engine in self._limits:
            self.save()


def budgets(config: Config) -> dict[str, BudgetConfig]:
    """Return the budget of each engine that has one."""
    return {name: engine.budget for name, engine in config.engines.items() if engine.budget is not None}


def saved(store: Store) -> dict[str, Spent]:
    """Return what was spent by engine, as far as it is written down."""
    return {engine: Spent(**values) for engine, values in (store.note(SCANS) or {}).items()}


def hour_of(at: datetime) -> int:
    """Return the number of an hour since the Unix epoch.

    Examples:
        >>> hour_of(EPOCH + timedelta(minutes=61))
        1
    """
    return (at - EPOCH) // HOUR


@dataclass(frozen=True)
class BudgetStatus:
    """What is left of the budget of one engine in this hour.

    Args:
        engine: Its name.
        seconds_per_hour: Statement time that is allowed.
        spent_seconds: What was used, or is still owed.
        remaining_ratio: Share that is left, at least 0.
        renews_at: When there is more.
    """

    engine: str
    seconds_per_hour: float
    spent_seconds: float
    remaining_ratio: float
    renews_at: datetime


def budget_statuses(store: Store, config: Config, now: datetime) -> tuple[BudgetStatus, ...]:
    """Return what is left of each budget. Costs one read, and none where there is no budget."""
    used_engines = engines_used(config)
    limits = {engine: budget for engine, budget in budgets(config).items() if engine in used_engines}
    spent = saved(store) if limits else {}
    hour, found = hour_of(now), []
    for engine, budget in limits.items():
        limit = budget.seconds_per_hour
        used = spent.get(engine, Spent(hour)).at(hour, limit).seconds
        found.append(BudgetStatus(engine, limit, used, max(0.0, 1 - used / limit), EPOCH + (hour + 1) * HOUR))
    return tuple(found)


def engines_used(config: Config) -> list[str]:
    """Return the names of the engines that datasets are read from."""
    return sorted({engine_name(config, dataset) for dataset in config.datasets.values()})


def about_scans(store: Store, config: Config, now: datetime) -> Iterator[Sample]:
    """Yield the series about what engines were asked for; what is not written down yet is not told yet."""
    spent = saved(store)
    for engine in engines_used(config):
        labels = {"engine": engine}
        total = spent[engine].total_seconds if engine in spent else 0.0
        yield Sample("recwatch_engine_scan_seconds_total", labels, total)
        for reason in DEFERRALS:
            yield Sample(DEFERRED, {**labels, "reason": reason}, 0)
    for found in budget_statuses(store, config, now):
        labels = {"engine": found.engine}
        yield Sample("recwatch_engine_scan_budget_seconds", labels, found.seconds_per_hour)
        yield Sample("recwatch_engine_scan_budget_remaining_ratio", labels, found.remaining_ratio)
