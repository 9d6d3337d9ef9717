"""Late rows: finds the windows that have more rows now than when they were judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from math import gcd
from typing import Any

from sqlalchemy import BigInteger, cast, func, select

from checks.check import Check
from checks.rows import Rows
from checks.window import EPOCH, MICROSECOND, Window, micros, moment
from monitor.resolve import Pipeline, Resolver
from monitor.runner import LATE, Runner
from monitor.schedule import Due
from monitor.store import Store

# Bounds what one recount brings back; with many short windows it looks less far back.
MOST_CELLS = 5_000
# For each count the amount in each cell, by the start of the cell.
Arrivals = dict[str, dict[datetime, int]]


def reopened(runner: Runner, store: Store, dataset: str, checks: Sequence[Check[Any]], span: Window) -> list[list[Due]]:
    """Return the windows to judge again, as rounds of one check each, oldest first.

    Windows with fewer rows than before stay closed: rows that were deleted by retention are no
    reason to forget what was found in them.

    Args:
        runner: Counts the rows anew.
        store: Knows how many rows each window had.
        dataset: Name of the dataset.
        checks: Its checks; those without a count of late rows are left out.
        span: How far back to look, up to now.

    Raises:
        EngineError: The rows cannot be counted.

    Cost:
        One scan of the time column over the span for each clock and width of windows.
    """
    rounds: list[list[Due]] = []
    counted: dict[tuple[Any, ...], Arrivals] = {}
    for check in checks:
        widest = _look_back(span, _cell(check, ()))
        named = {name: store.figures(dataset, check.id, widest, LATE.format(name)) for name in check.late_counts}
        windows = {window for judged in named.values() for window in judged}
        if not windows:
            continue
        cell = _cell(check, windows)
        key, look_back = (type(check).clock, type(check).arrivals, cell), _look_back(span, cell)
        if key not in counted:
            try:
                counted[key] = recount(runner.pipeline, dataset, check, look_back, cell)
            except ValueError:
                # What it needs besides cannot be read: the check fails, now as then.
                counted[key] = {}
        late = {
            window
            for name, judged in named.items()
            for window, then in judged.items()
            if look_back.start <= window.start
            # A clock that ran ahead has judged windows that are still open.
            and window.end + check.settings.settle <= span.end
            and _rows(counted[key].get(name, {}), window, cell) > then
        }
        rounds += [[(check, window)] for window in sorted(late)]
    return rounds


def recount(pipeline: Pipeline, dataset: str, check: Check[Any], span: Window, cell: timedelta) -> Arrivals:
    """Return for each of the counts that late rows raise how much there is now in each cell, by the clock of a check.

    Args:
        pipeline: Knows the dataset and its engine.
        dataset: Name of a watched dataset.
        check: Whose clock decides where a row belongs.
        span: What is counted again.
        cell: Width of a cell; cells start at multiples of it since the Unix epoch.

    Raises:
        EngineError: The rows cannot be read.
        ValueError: What the check needs besides its own rows cannot be read.

    Cost:
        One scan of the time column over the span for each count. Streams are not asked again: they have no late rows.
    """
    found, width = Arrivals(), cell // MICROSECOND
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        described = resolver.dataset(dataset)
        clock = check.clock(described)
        if clock is None:
            return found
        for name, (rows, counts) in check.arrivals(Rows(described, span, clock)).items():
            of = rows.dataset
            if pipeline.config.datasets[of.name].stream is not None:
                continue
            at = (cast(rows.micros(rows.clock_role), BigInteger) // width).label("cell")
            cells = select(at, counts.label("counts")).select_from(of.table).where(rows.belongs).subquery()
            statement = select(cells.c.cell, func.sum(cells.c.counts)).group_by(cells.c.cell)
            most = span.duration // cell + 2
            told = resolver.session(of.name, span).run(statement, most, f"late rows of {of.name}")
            found[name] = {moment(int(at) * width): int(n or 0) for at, n in told}
    return found


def _look_back(span: Window, cell: timedelta) -> Window:
    return Window(max(span.start, span.end - MOST_CELLS * cell), span.end)


def _cell(check: Check[Any], windows: Iterable[Window]) -> timedelta:
    """Return the widest cell that tiles every window of a check, also those of when its settings were others."""
    lengths = (check.settings.every // MICROSECOND, check.settings.window // MICROSECOND)
    bounds = (micros(bound) for window in windows for bound in (window.start, window.end))
    return gcd(*lengths, *bounds) * MICROSECOND


def _rows(cells: Mapping[datetime, int], window: Window, cell: timedelta) -> int:
    first = EPOCH + ((window.start - EPOCH) // cell) * cell
    return sum(cells.get(first + cell * step, 0) for step in range(window.duration // cell))
