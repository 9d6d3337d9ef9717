"""``recwatch check``: runs the checks once, as a gate in CI or a workflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select

from checks.check import Outcome, Verdict
from checks.ingestion import Ingestion
from checks.rows import Rows
from checks.window import MICROSECOND, Window, moment
from monitor.clock import SystemClock
from monitor.columns import TIME_RANGES
from monitor.commands import about_this_file, config_option, follow_up, state_so_far
from monitor.commands.table import show
from monitor.errors import ConfigError, EngineError
from monitor.load import load
from monitor.records import Judged
from monitor.resolve import Pipeline, Resolver, build
from monitor.runner import Runner
from monitor.schedule import newest
from monitor.times import Time

EXIT_BAD, EXIT_ERROR = 1, 3


@dataclass(frozen=True)
class When:
    """Which windows a run is about: one for all checks, each check's own, or everything there is."""

    at: datetime
    window: Window | None = None
    everything: bool = False


@click.command()
@config_option
@click.option("--at", type=Time(), help="Judge each check's newest window as of this time (default: now).")
@click.option("--from", "start", type=Time(), help="Judge one window from this time ...")
@click.option("--to", "end", type=Time(), help="... to this time.")
@click.option("--all", "everything", is_flag=True, help="Judge one window over all the data.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run only this check; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per verdict and line.")
def command(
    path: Path,
    at: datetime | None,
    start: datetime | None,
    end: datetime | None,
    everything: bool,
    only: Sequence[str],
    as_json: bool,
) -> None:
    """Run the checks once.

    Exits 0 if nothing is bad, 1 if something is, 2 if the configuration is wrong, 3 if a check
    could not run.
    """
    when = _when(at, start, end, everything)
    config = load(path)
    with closing(build(config)) as pipeline, state_so_far(config) as store, progress() as on_step:
        _known(only, pipeline)
        runner = Runner(pipeline, store, SystemClock(), on_step)
        runner.remembers = False
        judged = [found for dataset in pipeline.checks for found in _run(runner, dataset, when, only)]
    verdicts = [verdict for found in judged for verdict in found.verdicts]
    if as_json:
        for verdict in verdicts:
            click.echo(json.dumps(as_json_object(verdict), default=str))
    else:
        told = [replace(verdict, reason=about_this_file(verdict.reason)) for verdict in verdicts]
        show(told, list(runner.disabled.values()))
    sys.exit(_exit_code(verdicts))


def _when(at: datetime | None, start: datetime | None, end: datetime | None, everything: bool) -> When:
    chosen = [name for name, given in (("--at", at), ("--from", start or end), ("--all", everything)) if given]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} exclude each other; give one of them")
    if (start is None) != (end is None):
        raise click.UsageError("--from and --to go together; give both")
    now = at or datetime.now(UTC)
    if start is None or end is None:
        return When(now, everything=everything)
    if end <= start:
        raise click.UsageError(f"--to must be after --from, got {start:%Y-%m-%dT%H:%M} to {end:%Y-%m-%dT%H:%M}")
    return When(end, Window(start, end))


def _known(only: Sequence[str], pipeline: Pipeline) -> None:
    known = sorted({check.id for checks in pipeline.checks.values() for check in checks})
    unknown = [name for name in only if name not in known]
    if unknown:
        raise ConfigError([f"--only: no check {unknown[0]} is enabled; use {', '.join(known)}"])


def _run(runner: Runner, dataset: str, when: When, only: Sequence[str]) -> list[Judged]:
    checks = [check for check in runner.pipeline.checks[dataset] if not only or check.id in only]
    window = when.window
    if when.everything:
        try:
            window = whole_span(runner.pipeline, dataset)
        except EngineError:
            # Let the run itself meet the error, and contain it.
            window = None
    return runner.run(dataset, [(check, window or newest(check, when.at)) for check in checks])


def whole_span(pipeline: Pipeline, name: str) -> Window | None:
    """Return the window from the first to just after the last row of a dataset; None if it is empty.

    Where it is known what was sent, it begins as a window of ``ingestion`` does: that count stands at the
    beginning of its time, before the first of the events that it counts.
    """
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        dataset = resolver.dataset(name)
        if dataset.clock is None:
            return None
        at: Any = Rows(dataset, Window(moment(0), moment(1))).micros(dataset.clock)
        statement = select(func.min(at), func.max(at)).select_from(dataset.table)
        first, last = resolver.session(name).run(statement, 1, f"span of {name}")[0]
    earliest, latest = TIME_RANGES["us"]
    if first is not None and (last < earliest or first > latest):
        said = f"no time of column {dataset.roles[dataset.clock]} (role {dataset.clock}) is between 1990 and 2100"
        click.echo(f"warning: datasets.{name}: {said}; {follow_up('doctor')} says what it holds", err=True)
    is_counted = pipeline.config.datasets[name].sent is not None
    steps = [check.settings.every // MICROSECOND for check in pipeline.checks[name] if check.id == Ingestion.id]
    step = steps[0] if is_counted and steps else 1
    try:
        return None if first is None else Window(moment(int(first) // step * step), moment(int(last)) + MICROSECOND)
    except OverflowError:
        said = f"column {dataset.roles[dataset.clock]} has times outside the years 1 to 9999, so --all has no window"
        raise ConfigError([f"datasets.{name}: {said}; use --from and --to"]) from None


def as_json_object(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the object that ``--json`` prints."""
    return {
        "check": verdict.check,
        "dataset": verdict.dataset,
        **verdict.subject,
        "window": {"start": verdict.window.start.isoformat(), "end": verdict.window.end.isoformat()},
        "verdict": verdict.outcome.value,
        "measure": verdict.measure,
        "value": verdict.value,
        "good": verdict.good,
        "total": verdict.total,
        "limit": verdict.limit,
        "reason": verdict.reason,
        "details": dict(verdict.details),
    }


def _exit_code(verdicts: Sequence[Verdict]) -> int:
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.BAD in outcomes:
        return EXIT_BAD
    return EXIT_ERROR if Outcome.ERROR in outcomes else 0


@contextmanager
def progress() -> Iterator[Any]:
    """Show what is being asked on standard error, if it is a terminal; gone when done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what: bar.update(task, description=what)
