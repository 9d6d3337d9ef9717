"""``recwatch report``: an Evidently report on a sample, beside our scores over all rows."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from checks.feature_drift import FeatureDrift
from checks.window import Window
from monitor.clock import SystemClock
from monitor.commands import config_option, state_so_far
from monitor.errors import ConfigError
from monitor.load import load
from monitor.report import SAMPLE_ROWS, Asked, ReportError, write
from monitor.resolve import Pipeline, build
from monitor.runner import Runner
from monitor.schedule import newest
from monitor.store import Store
from monitor.times import Time


@click.command()
@config_option
@click.option("--dataset", help="Which dataset; needed where several are watched.")
@click.option("--from", "start", type=Time(), help="The window in question, from this time ...")
@click.option("--to", "end", type=Time(), help="... to this time (default: the newest window of feature_drift).")
@click.option("--reference-from", type=Time(), help="What it is compared with, from this time ...")
@click.option("--reference-to", type=Time(), help="... to this time (default: the reference, or the time before).")
@click.option("--features", help="Columns, with commas between them (default: the dataset's features).")
@click.option("--rank", default="", help="Column with the rank of what was shown: recommender metrics, not drift.")
@click.option("--hit", "hits", multiple=True, help="Event type that says that it was right; may be repeated.")
@click.option("--sample-rows", type=click.IntRange(100, 200_000), default=SAMPLE_ROWS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one draws other rows.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The HTML file.")
def command(
    path: Path, dataset: str | None, start: datetime | None, end: datetime | None, reference_from: datetime | None,
    reference_to: datetime | None, features: str | None, rank: str, hits: tuple[str, ...], sample_rows: int, seed: int,
    out: Path,
) -> None:  # fmt: skip
    """Write an Evidently report on a sample of two windows, with our scores over all rows beside it."""
    if (start is None) != (end is None) or (reference_from is None) != (reference_to is None):
        raise click.UsageError("--from and --to come together, and so do --reference-from and --reference-to")
    if bool(rank) != bool(hits):
        raise click.UsageError("--rank and --hit come together")
    for first, last, named in ((start, end, "--to"), (reference_from, reference_to, "--reference-to")):
        if first and last and first >= last:
            raise click.BadParameter("must be after the time that it begins at", param_hint=named)
    if not out.parent.is_dir():
        raise click.BadParameter(f"there is no folder {out.parent}", param_hint="--out")
    config = load(path)
    with closing(build(config)) as pipeline, state_so_far(config) as store:
        name = _dataset(pipeline, dataset)
        runner = Runner(pipeline, store, SystemClock())
        runner.remembers = False
        current = Window(start, end) if start and end else _newest(pipeline, name)
        reference = (
            Window(reference_from, reference_to) if reference_from and reference_to else _before(store, name, current)
        )
        wanted = tuple(part.strip() for part in features.split(",")) if features else ()
        try:
            scores = write(runner, Asked(name, current, reference, wanted, sample_rows, seed, rank, hits), out)
        except ReportError as error:
            raise click.ClickException(str(error)) from error
    for named, *more in scores:
        click.echo(f"{named}: {_said(*more)}")
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, a sample of {current} against {reference}")


def _said(*found: Any) -> str:
    """Return a score as a line says it: the value, with its method, threshold and chance, or that there is none."""
    if not found:
        return "no value in a sample, so no score"
    if len(found) == 1:
        return f"{found[0]:.4g}"
    method, threshold, score, chance = found
    by_chance = "" if chance is None else f"; p {chance:.2g} by SciPy"
    return f"{score:.4g} by {method}, drifted from {threshold:g} on{by_chance}"


def _dataset(pipeline: Pipeline, wanted: str | None) -> str:
    watched = list(pipeline.checks)
    if wanted is None and len(watched) == 1:
        return watched[0]
    if wanted not in watched:
        raise ConfigError([f"--dataset: must be one of {', '.join(watched)}"])
    return wanted


def _newest(pipeline: Pipeline, dataset: str) -> Window:
    drift = next((check for check in pipeline.checks[dataset] if isinstance(check, FeatureDrift)), None)
    if drift is None:
        raise click.UsageError("feature_drift is switched off, so there is no newest window: give --from and --to")
    return newest(drift, datetime.now(UTC))


def _before(store: Store | None, dataset: str, current: Window) -> Window:
    """Return the window of the reference, or else as much time as the current window, right before it."""
    saved = store.saved_baseline(dataset, FeatureDrift.id) if store is not None else None
    return saved.window if saved is not None else Window(current.start - current.duration, current.start)
