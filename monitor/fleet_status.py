"""How each of many pipelines stands, in a line: what the front page shows and its JSON answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from monitor.budget import BudgetStatus, budget_statuses
from monitor.clock import Clock
from monitor.errors import RecwatchError
from monitor.overview import incidents_lately, used_up
from monitor.status import URGENCY, VERSION, State, Watched, status, without_secrets
from monitor.store import Store

PIPELINES = "/p/"


@dataclass(frozen=True)
class Line:
    """One pipeline.

    Args:
        pipeline: Its name.
        state: The worst of its checks; ``error`` if it does not run.
        sentence: Which checks that are.
        path: Where its own pages are, relative to the front page; empty if it does not run.
        open_incidents: Titles of what goes on.
        budgets: What is left of its scan budgets.
        problems: What is wrong with the pipeline itself, such as a file that cannot be read.
        computed_at: When any of its checks ran last.
    """

    pipeline: str
    state: State
    sentence: str
    path: str = ""
    open_incidents: tuple[str, ...] = ()
    budgets: tuple[BudgetStatus, ...] = ()
    problems: tuple[str, ...] = ()
    computed_at: datetime | None = None


@dataclass(frozen=True)
class FleetStatus:
    """All pipelines of a process, the worst first."""

    now: datetime
    state: State
    sentence: str
    pipelines: tuple[Line, ...]
    version: str = VERSION


def line(store: Store, watched: Watched, clock: Clock, stopped: str | None) -> Line:
    """Return how a pipeline that runs stands; a state that cannot be read is its own problem alone.

    Cost:
        Six reads of the state.
    """
    name, now = watched.config.pipeline, clock.now()
    path = f"{PIPELINES.lstrip('/')}{quote(name, safe='')}/"
    try:
        found = status(store, watched, now, stopped, with_trends=False)
        incidents = tuple(one.title for one in incidents_lately(store, now) if one.is_open)
        budgets = budget_statuses(store, watched.config, now)
    except RecwatchError as error:
        return Line(name, State.ERROR, "Its state cannot be read", path, problems=(without_secrets(str(error)),))
    problems = (*found.problems, *used_up(budgets))
    return Line(name, found.state, found.sentence, path, incidents, budgets, problems, found.computed_at)


def not_running(name: str, problem: str) -> Line:
    """Return the line of a pipeline whose file cannot be run."""
    return Line(name, State.ERROR, "It does not run: its file is wrong", problems=(without_secrets(problem),))


def together(lines: Iterable[Line], now: datetime) -> FleetStatus:
    """Return all pipelines, the worst first."""
    found = sorted(lines, key=lambda one: (URGENCY.index(one.state), one.pipeline))
    worst = found[0].state if found else State.ERROR
    count = sum(one.state is not State.GOOD for one in found)
    total = f"{len(found)} pipelines" if len(found) != 1 else "1 pipeline"
    said = f"{count} of {total} not good" if count else f"All {total} are good" if len(found) > 1 else "It is good"
    return FleetStatus(now, worst, said, tuple(found))
