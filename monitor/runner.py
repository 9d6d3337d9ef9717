"""Runs checks: the only place that asks an engine, and where any failure becomes ``error``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from checks.baseline import Baseline
from checks.check import Check, Outcome, Sample, Verdict
from checks.clipped import clip_cells
from checks.dataset import Dataset, Role
from checks.fuse import Scan, fuse
from checks.measure import Listing, Measure, Row, Tally, combined
from checks.rows import Rows
from checks.window import Window, micros
from monitor.clock import Clock
from monitor.engine import OwnColumns
from monitor.errors import EngineError, StateError
from monitor.objectives import points
from monitor.records import Judged, SloPoint
from monitor.resolve import Pipeline, Resolver, largest_sources
from monitor.store import Store

# The figures of a window by which late rows are noticed.
LATE = "{}_then"
SOURCES_REFRESH = timedelta(hours=1)
# What was due so long ago or more is the past: a run of the daemon looks at the present.
PRESENT = timedelta(minutes=5)
WORST_FIRST = (Outcome.ERROR, Outcome.BAD, Outcome.UNKNOWN, Outcome.GOOD)


Asked = Callable[[Check[Any], Rows, Baseline], Sequence[Measure | Listing]]


@dataclass
class Task:
    """One check on one window, and what became of it."""

    check: Check[Any]
    window: Window
    baseline: Baseline = field(default_factory=Baseline)
    measures: list[Measure] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    found: dict[str, Sequence[Row]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    own_columns: OwnColumns | None = None
    error: str | None = None
    duration_seconds: float = 0.0


@dataclass(frozen=True)
class Disabled:
    """A check that cannot run on a dataset because a role is missing."""

    check: str
    dataset: str
    reason: str


class Runner:
    """Runs checks of a pipeline.

    Args:
        pipeline: Engines and checks.
        store: Where baselines come from; None for a run without any memory.
        clock: Tells when a run finished.
        on_step: Called with what is asked next, before each statement; for progress.
    """

    def __init__(
        self, pipeline: Pipeline, store: Store | None, clock: Clock, on_step: Callable[[str], None] | None = None
    ) -> None:
        self.pipeline, self.store, self.clock = pipeline, store, clock
        self._on_step = on_step or (lambda _what: None)
        # Whether what is found out on the way is noted in the store; a one-off check leaves no trace.
        self.remembers = True
        # Whether the clock goes through the past, whose future is there already.
        self.replays = False
        self.disabled: dict[tuple[str, str], Disabled] = {}
        # Of each dataset the sources, and the end of the first window that told each apart, in microseconds.
        self._sources: dict[str, dict[str, int]] = {}
        self._sources_at: dict[str, Any] = {}

    def run(self, dataset: str, due: Iterable[tuple[Check[Any], Window]]) -> list[Judged]:
        """Run checks on one dataset, sharing scans between those on the same window.

        Every failure is contained: it ends as a verdict ``error`` of the checks that it concerns.

        Args:
            dataset: Name of a watched dataset.
            due: Checks, each with its window.

        Returns:
            What each check found, in the order given; checks that are disabled by a missing role
            are left out and listed in ``disabled``.
        """
        tasks = [Task(check, window) for check, window in due]
        _described, tasks = self._ask(dataset, tasks, _measured)
        return [self._judged(dataset, task) for task in tasks]

    def learn(self, dataset: str, check: Check[Any], window: Window) -> tuple[Mapping[str, Any], Tally]:
        """Return what a reference window freezes for a check, and the tally under it.

        Raises:
            EngineError: The reference cannot be read, or has fewer rows than the check needs.
        """
        described, tasks = self._ask(dataset, [Task(check, window)], _learnt)
        if described is None or not tasks or tasks[0].error:
            reason = tasks[0].error if tasks else self.disabled[dataset, check.id].reason
            raise EngineError(f"baseline of {check.id} on {dataset}: {reason}")
        learnt = _tally(tasks[0])
        try:
            frozen = check.freeze(learnt, described)
        except ValueError as error:
            raise EngineError(f"baseline of {check.id} on {dataset}: {error}") from error
        again = Task(check, window, baseline=Baseline(frozen=frozen))
        _described, tasks = self._ask(dataset, [again], _measured)
        if tasks[0].error:
            raise EngineError(f"baseline of {check.id} on {dataset}: {tasks[0].error}")
        return frozen, _tally(tasks[0])

    def _ask(self, dataset: str, tasks: list[Task], asked: Asked) -> tuple[Dataset | None, list[Task]]:
        """Return the dataset as it was found, and the tasks that it allows with their answers."""
        with ExitStack() as stack:
            try:
                resolver = Resolver(self.pipeline, stack)
                described = self.describe(resolver, dataset, tasks)
                tasks = [task for task in tasks if not self._is_disabled(described, task)]
                self._prepare(described, tasks, asked)
                self._look(resolver, described, tasks)
                self._scan(resolver, tasks)
                self._list(resolver, tasks)
            except StateError:
                raise
            except Exception as error:
                _fail(tasks, str(error) if isinstance(error, EngineError) else said(error))
                return None, tasks
        return described, tasks

    # -- what to ask -----------------------------------------------------------------------------

    def describe(self, resolver: Resolver, name: str, tasks: Sequence[Task]) -> Dataset:
        """Return the dataset as it is now, with the sources to tell apart."""
        dataset = resolver.dataset(name)
        config = self.pipeline.config.datasets[name]
        if Role.SOURCE not in dataset.roles or config.sources is not None or dataset.clock is None:
            return dataset
        end = max(task.window.end for task in tasks) if tasks else self.clock.now()
        checked = self._sources_at.get(name)
        # One that lies ahead is that of a clock that ran ahead.
        if checked is None or checked > self.clock.now() or end - checked >= SOURCES_REFRESH:
            widest = min((task.window.start for task in tasks), default=end)
            # Of a stream each minute has to be asked for, so that a day would be long.
            window = Window(widest if config.stream else min(widest, end - timedelta(days=1)), end)
            largest = largest_sources(resolver.session(name, window), dataset, window, config.most_sources)
            known = self._sources.get(name) or self._note(f"sources:{name}") or {}
            # Known sources stay, so that a series never changes its meaning.
            since = micros(end) if known else 0
            kept = dict([*known.items(), *((one, since) for one in largest if one not in known)][: config.most_sources])
            self._sources[name], self._sources_at[name] = kept, end
            if self.remembers and self.store is not None and kept != known:
                self.store.set_note(f"sources:{name}", kept)
        # A window that is judged again counts its rows where it did before.
        told = (source for source, since in self._sources.get(name, {}).items() if since <= micros(end))
        return replace(dataset, sources=tuple(told))

    def _note(self, key: str) -> Any:
        return self.store.note(key) if self.store is not None else None

    def _is_disabled(self, dataset: Dataset, task: Task) -> bool:
        key = (dataset.name, task.check.id)
        self.disabled.pop(key, None)
        named = {*dataset.roles, *dataset.lost}
        # Whatever else it reads, a check cannot tell which rows are its window's without their clock.
        clock = Role.INGESTED_AT if Role.INGESTED_AT in named else Role.EVENT_TIME
        lost = [role for role in (*task.check.uses, clock) if role in dataset.lost]
        if lost:
            role = lost[0]
            task.error = dataset.no_column(dataset.lost[role], f"role {role}")
            return False
        reason = task.check.absent(dataset)
        if reason is not None:
            self.disabled[key] = Disabled(task.check.id, dataset.name, reason)
        return reason is not None

    def _prepare(self, dataset: Dataset, tasks: Sequence[Task], asked: Asked) -> None:
        for task in tasks:
            if task.error:
                continue
            try:
                if self.store is not None and task.baseline.frozen is None:
                    check = task.check
                    task.baseline = self.store.baseline(
                        dataset.name, check.id, task.window,
                        with_past=bool(check.history), with_previous=check.carries, with_reference=check.has_reference,
                    )  # fmt: skip
                judged_at = task.window.end + task.check.settings.settle
                is_past = self.replays or judged_at < self.clock.now() - PRESENT
                rows = Rows(dataset, task.window, is_past=is_past, is_replayed=self.replays)
                parts = asked(task.check, rows, task.baseline)
            except ValueError as error:
                # A check's own words.
                task.error = str(error)
                continue
            except Exception as error:
                task.error = said(error)
                continue
            task.measures = [part for part in parts if isinstance(part, Measure)]
            task.listings = [part for part in parts if isinstance(part, Listing)]

    def _look(self, resolver: Resolver, dataset: Dataset, tasks: Sequence[Task]) -> None:
        """Note the columns of each window, and those of its own files, where the engine tells files apart."""
        columns = {name: column.declared for name, column in dataset.columns.items()}
        for task in tasks:
            task.columns = columns
            if task.check.looks_at_columns and not task.error:
                rows = Rows(dataset, task.window)
                statement = select(func.count()).select_from(dataset.table).where(rows.belongs)
                task.own_columns = resolver.session(dataset.name).columns(dataset.name, statement)

    # -- asking ----------------------------------------------------------------------------------

    def _scan(self, resolver: Resolver, tasks: Sequence[Task]) -> None:
        """Run the fused scans; where one fails, run each check's own part of it alone."""
        owners = [(task, measure) for task in tasks for measure in task.measures]
        for scan in fuse([measure for _task, measure in owners]):
            sharing = {id(owners[at][0]) for at in scan.places}
            try:
                self._run_scan(resolver, scan, owners)
            except EngineError as error:
                if error.unreachable or len(sharing) == 1:
                    _fail([owners[at][0] for at in scan.places], str(error))
                    continue
                for at in scan.places:
                    self._scan_alone(resolver, *owners[at])

    def _scan_alone(self, resolver: Resolver, task: Task, measure: Measure) -> None:
        try:
            self._run_scan(resolver, fuse([measure])[0], [(task, measure)])
        except EngineError as error:
            _fail([task], str(error))

    def _run_scan(self, resolver: Resolver, scan: Scan, owners: Sequence[tuple[Task, Measure]]) -> None:
        started = time.perf_counter()
        name = scan.rows.dataset.name
        what = f"{name}, window {scan.rows.window}"
        self._on_step(", ".join(sorted({owners[at][0].check.id for at in scan.places})))
        span = _span(scan.rows, [owners[at][0] for at in scan.places])
        result = resolver.session(name, span).run(scan.statement, scan.row_limit, what)
        took = time.perf_counter() - started
        for at in scan.places:
            task = owners[at][0]
            task.tallies.append(scan.tally(at, result))
            task.duration_seconds += took

    def _list(self, resolver: Resolver, tasks: Sequence[Task]) -> None:
        """Run the listings, each once however many checks want it."""
        widest: dict[tuple[str, Rows], Listing] = {}
        for listing in (listing for task in tasks for listing in task.listings if not task.error):
            key = (listing.name, listing.rows)
            widest[key] = max(widest.get(key, listing), listing, key=lambda one: one.row_limit)
        ran: dict[tuple[str, Rows], Sequence[Row]] = {}
        for task in tasks:
            for listing in task.listings:
                if task.error:
                    break
                counted = _tally(task)
                if listing.only_if is not None and not listing.only_if(counted):
                    task.found[listing.name] = ()
                    continue
                key = (listing.name, listing.rows)
                started = time.perf_counter()
                name = listing.rows.dataset.name
                what = f"{task.check.id} on {name}, window {listing.rows.window}"
                try:
                    if key not in ran:
                        self._on_step(f"{task.check.id} ({listing.name})")
                        session = resolver.session(name, _span(listing.rows, [task]))
                        found = session.run(widest[key].statement, widest[key].row_limit, what)
                        # Of what follows all is kept.
                        ran[key] = clip_cells(found)
                    task.found[listing.name] = ran[key]
                except EngineError as error:
                    _fail([task], str(error))
                task.duration_seconds += time.perf_counter() - started

    # -- judging ---------------------------------------------------------------------------------

    def _judged(self, dataset: str, task: Task) -> Judged:
        check = task.check
        if task.error is None:
            try:
                tally = _tally(task)
                if task.baseline.previous is not None:
                    tally = check.carry(task.baseline.previous, tally)
                verdicts = check.judge(tally, task.baseline)
                increments = (*check.counters(tally), *run_samples(check.id, dataset, verdicts))
                now = self.clock.now()
                return Judged(
                    check.id, dataset, task.window, verdicts, now, task.duration_seconds, tally,
                    increments, check.gauges(tally, verdicts), _figures(check, tally),
                    points=self._points(dataset, check, verdicts, now),
                )  # fmt: skip
            except Exception as error:
                task.error = said(error)
        return self.failed(dataset, check, task.window, task.error, task.duration_seconds)

    def failed(
        self, dataset: str, check: Check[Any], window: Window, reason: str, duration_seconds: float = 0.0
    ) -> Judged:
        """Return what a run leaves behind that could not judge its window."""
        verdicts = (Verdict(check.id, dataset, window, Outcome.ERROR, "none", reason=reason),)
        now = self.clock.now()
        return Judged(
            check.id, dataset, window, verdicts, now, duration_seconds,
            increments=run_samples(check.id, dataset, verdicts), advances=False,
            points=self._points(dataset, check, verdicts, now),
        )  # fmt: skip

    def _points(
        self, dataset: str, check: Check[Any], verdicts: Sequence[Verdict], now: datetime
    ) -> tuple[SloPoint, ...]:
        ours = [slo for slo in self.pipeline.slos.values() if (slo.dataset, slo.check) == (dataset, check.id)]
        return tuple(points(ours, verdicts, now))


def _span(rows: Rows, tasks: Iterable[Task]) -> Window:
    """Return the time that rows are read for; a window that is open towards the future ends with its tasks."""
    start, end = rows.window.start, max(task.window.end for task in tasks)
    return Window(start, end) if start < end else rows.window


def _measured(check: Check[Any], rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
    return check.measures(rows, baseline)


def _learnt(check: Check[Any], rows: Rows, _baseline: Baseline) -> Sequence[Measure | Listing]:
    return check.learns(rows)


def _tally(task: Task) -> Tally:
    dataset = (task.measures or task.listings)[0].rows.dataset.name
    whole = combined(task.tallies) if task.tallies else Tally(dataset, task.window)
    found, columns, own = dict(task.found), task.columns, task.own_columns
    return replace(whole, dataset=dataset, window=task.window, listings=found, columns=columns, own_columns=own)


def _fail(tasks: Iterable[Task], reason: str) -> None:
    for task in tasks:
        task.error = task.error or reason


def said(error: BaseException) -> str:
    """Return what an unexpected error says, with its type, on one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _figures(check: Check[Any], tally: Tally) -> dict[str, float | None]:
    late = {LATE.format(name): tally.count(name) for name in check.late_counts if name in tally.counts}
    return {**check.figures(tally), **late}


def run_samples(check: str, dataset: str, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
    """Return what a run adds to the counter of runs: one, under the worst of its outcomes."""
    found, labels = worst(verdicts), {"dataset": dataset, "check": check}
    return tuple(
        Sample("recwatch_check_runs_total", {**labels, "outcome": outcome.value}, int(outcome is found))
        for outcome in Outcome
    )


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """Return the worst outcome of a run; that a single source can't be judged leaves the rest judged."""
    outcomes = {found.outcome for found in verdicts if found.is_whole or found.outcome is not Outcome.UNKNOWN}
    return next(outcome for outcome in WORST_FIRST if outcome in outcomes)
