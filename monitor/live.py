"""A configuration in force, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitor.config import Config
from monitor.evidence import Collector
from monitor.resolve import Pipeline
from monitor.runner import Runner
from monitor.watch import Watch


@dataclass
class Live:
    """A configuration in force: what a reload replaces as a whole."""

    config: Config
    pipeline: Pipeline
    runner: Runner
    watch: Watch
    evidence: Collector


@dataclass
class Reload:
    """How the last attempt to read the configuration went."""

    at: datetime
    succeeded_at: datetime
    problem: str | None = None
