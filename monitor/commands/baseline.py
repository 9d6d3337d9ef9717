"""``recwatch baseline``: what is normal, built from history."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from checks.window import Window
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.commands import config_option, follow_up, screen
from monitor.errors import ConfigError
from monitor.load import load
from monitor.resolve import Pipeline, build
from monitor.runner import Runner
from monitor.store import Store
from monitor.times import Time

EXIT_ERROR = 3
only_option = click.option("--only", multiple=True, metavar="CHECK", help="Only this check; may be repeated.")


@click.group()
def command() -> None:
    """Build, show, pin or drop baselines."""


@command.command("build")
@config_option
@only_option
@click.option("--from", "start", type=Time(), help="Start of the history, with --to (default: baselines.span ago).")
@click.option("--to", "end", type=Time(), help="End of the history (default: now).")
@click.option("--pin", is_flag=True, help="Keep the references until they are built again by hand.")
def build_command(path: Path, only: Sequence[str], start: datetime | None, end: datetime | None, pin: bool) -> None:
    """Build baselines from a span of history.

    References (bins, a ranking, the event contract) are read once over the whole span. Bands (the
    usual density and volume) come from its single windows.
    """
    if (start is None) != (end is None):
        raise click.UsageError("--from and --to go together; give both, or none for the last days, as the daemon does")
    if start is not None and end is not None and end <= start:
        raise click.UsageError(f"--to must be after --from, got {start:%Y-%m-%d} to {end:%Y-%m-%d}")
    with _open(path, only) as (pipeline, store), _progress() as on_progress:
        builder = Builder(Runner(pipeline, store, SystemClock()), store, on_progress)
        built = builder.build(Window(start, end) if start and end else None, only, pinned=pin)
    for found in built:
        parts = ["reference"] if found.reference else []
        parts += [f"{found.windows:,} windows"] if found.windows else []
        said = found.problem or (" and ".join(parts) or "nothing new")
        click.echo(f"{found.check} on {found.dataset}: {said}", err=found.problem is not None)
    if any(found.problem for found in built):
        sys.exit(EXIT_ERROR)


@command.command("show")
@config_option
def show_command(path: Path) -> None:
    """Show what baselines there are, from when, and how much history bands have."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("check", "dataset", "reference over", "built (UTC)", "kept", "accepted windows"):
        table.add_column(name, header_style="dim", no_wrap=name == "check")
    with _open(path, ()) as (pipeline, store):
        saved = {(found.dataset, found.check): found for found in store.saved_baselines()}
        for dataset, checks in pipeline.checks.items():
            for check in checks:
                if not (check.has_reference or check.history):
                    continue
                found = saved.get((dataset, check.id))
                windows = str(store.accepted_windows(dataset, check.id)) if check.history else "-"
                row = ("none" if check.has_reference else "-", "-", "-")
                if found is not None:
                    kept = "pinned" if found.pinned else "renewed" if check.renews_reference else "until built again"
                    row = (str(found.window), f"{found.built_at:%Y-%m-%d %H:%M}", kept)
                table.add_row(check.id, dataset, *row, windows)
    screen().print(table)


@command.command("pin")
@config_option
@only_option
@click.option("--unpin", is_flag=True, help="Let the daemon renew them again.")
def pin_command(path: Path, only: Sequence[str], unpin: bool) -> None:
    """Keep references as they are, whatever the data does from now on."""
    said = ("unpin", "unpinned") if unpin else ("pin", "pinned")
    with _open(path, only) as (pipeline, store):
        _each(pipeline, only, lambda dataset, check: store.pin_baseline(dataset, check, not unpin), said)


@command.command("drop")
@config_option
@only_option
def drop_command(path: Path, only: Sequence[str]) -> None:
    """Forget references, and the past windows that bands rest on."""
    with _open(path, only) as (pipeline, store):
        _each(pipeline, only, store.drop_baseline, ("drop", "dropped"))


def _each(pipeline: Pipeline, only: Sequence[str], change: Callable[[str, str], bool], verb: tuple[str, str]) -> None:
    wanted = [(dataset, check.id) for dataset, checks in pipeline.checks.items() for check in checks]
    changed = [(dataset, check) for dataset, check in wanted if (not only or check in only) and change(dataset, check)]
    for dataset, check in changed:
        click.echo(f"{check} on {dataset}: {verb[1]}")
    if not changed:
        raise click.ClickException(f"nothing to {verb[0]}; see {follow_up('baseline show')}")


@contextmanager
def _open(path: Path, only: Sequence[str]) -> Iterator[tuple[Pipeline, Store]]:
    config = load(path)
    with closing(build(config)) as pipeline:
        known = sorted({check.id for checks in pipeline.checks.values() for check in checks})
        for name in only:
            if name not in known:
                raise ConfigError([f"--only: no check {name} is enabled; use {', '.join(known)}"])
        with closing(Store(config.state.get_secret_value(), config.pipeline)) as store:
            yield pipeline, store


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading history", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what or "done")
