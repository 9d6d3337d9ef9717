"""What the pipelines of one process share: one schedule, and the turns at their engines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from monitor.config import EMBEDDED, Config, EngineConfig
from monitor.resolve import engine_name
from monitor.turns import Turns

# Where files are read by the DuckDB within this process, whichever pipeline they are of.
HERE = "duckdb:///:memory:"
# Beside the engines: what reads and writes the state and tells people, and what must never wait for that.
STATE, PULSE = "state", "pulse"
_OWN_LANES = {STATE: 6, PULSE: 4}
# Ticks of many pipelines are spread over a share of their interval, and over no more than this.
SPREAD_SHARE, LONGEST_SPREAD = 4, timedelta(seconds=60)


def _scheduler() -> BackgroundScheduler:
    # Its threads put work into queues and do none, so few are enough.
    return BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(4)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )


@dataclass
class Workers:
    """One schedule and its threads.

    Args:
        are_shared: Whether several pipelines use them; whoever made them then closes them.
    """

    are_shared: bool = False
    scheduler: BackgroundScheduler = field(default_factory=_scheduler)
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.turns = Turns(says_whose=self.are_shared)

    def start(self) -> None:
        """Start the schedule, if it does not run yet."""
        if not self.scheduler.running:
            self.scheduler.start()

    def close(self) -> None:
        """End the schedule; what runs in turns is waited for by who leaves them."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=True)

    def offset(self, pipeline: str, every: timedelta) -> timedelta:
        """Return how long after a window has settled a pipeline looks at it, where others do the same.

        The same pipeline always gets the same offset; which windows are judged does not depend on it.

        Examples:
            >>> Workers().offset("shop", timedelta(hours=1))
            datetime.timedelta(0)
            >>> timedelta(0) < Workers(are_shared=True).offset("shop", timedelta(hours=1)) < LONGEST_SPREAD
            True
        """
        if not self.are_shared:
            return timedelta(0)
        share = int.from_bytes(hashlib.sha256(pipeline.encode()).digest()[:4], "big") / 2**32
        return share * min(every / SPREAD_SHARE, LONGEST_SPREAD)


def lanes(config: Config) -> Mapping[str, int]:
    """Return where the work of a pipeline waits, and how much of it may run there at once."""
    used = {engine_name(config, dataset) for dataset in config.datasets.values()}
    own = {own_lane(config, kind): most for kind, most in _OWN_LANES.items()}
    return {**own, **{lane(config, name): engine_config(config, name).concurrency for name in sorted(used)}}


def own_lane(config: Config, kind: str) -> str:
    """Return where work on the state waits: one that does not answer holds up its own pipelines alone."""
    return f"{kind} {config.state.get_secret_value()}"


def lane(config: Config, engine: str) -> str:
    """Return where work on an engine waits: pipelines that name the same database share its limit."""
    return engine_config(config, engine).url.get_secret_value()


def engine_config(config: Config, engine: str) -> EngineConfig:
    """Return how an engine is set up; the DuckDB for files need not be."""
    found = config.engines.get(engine)
    return found if found is not None or engine != EMBEDDED else EngineConfig.model_validate({"url": HERE})  # type: ignore[return-value]


def engine_of(config: Config, dataset: str) -> str:
    """Return the name of the engine that a dataset is read from."""
    return engine_name(config, config.datasets[dataset])
