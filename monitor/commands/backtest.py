"""``recwatch backtest``: whom the daemon would have told what, had it run over past data."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from alerts.message import Severity, State
from alerts.wording import duration, together
from checks.check import Outcome
from checks.window import Window
from monitor.backtest import Replayed, replay
from monitor.commands import config_option, screen
from monitor.commands.table import plain
from monitor.durations import parse_duration
from monitor.load import load
from monitor.times import Time

MOST_LISTED = 50


@click.command()
@config_option
@click.option("--from", "start", type=Time(), required=True, help="Start of the replay.")
@click.option("--to", "end", type=Time(), required=True, help="End of the replay.")
@click.option("--step", default="1m", show_default=True, metavar="DURATION", help="How far the clock moves at once.")
@click.option("--json", "target", type=click.File("w", "utf-8", atomic=True), help="Write transitions to a file.")
def command(path: Path, start: datetime, end: datetime, step: str, target: IO[str] | None) -> None:
    """Replay past data with a virtual clock, and tell which pages and tickets would have gone out.

    No message leaves, and the state of the daemon is left alone. With --json each line of the file is
    one transition (at, slo, alert, check, dataset, entity or feature where it is about one, severity, tier,
    state, value, limit, reason), the last one the totals.
    """
    if end <= start:
        raise click.UsageError(f"--to must be after --from, got {start:%Y-%m-%d} to {end:%Y-%m-%d}")
    try:
        length = parse_duration(step)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--step") from error
    config, span, console = load(path), Window(start, end), screen()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=1.0)
        found = replay(config, span, max(length, timedelta(seconds=1)), lambda at: bar.update(
            task, completed=(at - start) / (end - start), description=f"replaying {at:%Y-%m-%d %H:%M}"
        ))  # fmt: skip
    if target is not None:
        lines = [json.dumps(transition.plain()) for transition in found.transitions]
        target.write("\n".join([*lines, json.dumps(found.totals())]) + "\n")
    _print(console, found)


def _print(console: Console, found: Replayed) -> None:
    totals = found.totals()["totals"]
    named = " and ".join(
        f"{totals[f'{what}s']:,} {what}{'s' * (totals[f'{what}s'] != 1)}" for what in ("page", "ticket")
    )
    said = f"{named} in {duration(found.span.duration)}"
    # Of less than a week nothing follows for one.
    if totals["weeks"] >= 1:
        said += f": {totals['pages_per_week']:.1f} and {totals['tickets_per_week']:.1f} a week"
    console.print(Text(said, style="bold"))
    if not {Outcome.GOOD, Outcome.BAD} & totals["runs"].keys():
        console.print(f"No check could judge anything: see whether there is data in {found.span}.")
    runs = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(totals["runs"].items()))
    bad = ", ".join(f"{name} {count:,}" for name, count in found.bad.most_common())
    said = f"runs of checks: {runs or 'none'}{f'; bad: {bad}' if bad else ''}"
    console.print(Text(said, style="dim"), soft_wrap=True)
    if found.transitions:
        console.print(_alerts(found))
        console.print(_weeks(found))
    if totals["explained"]:
        console.print(Text(f"kept quiet: {'; '.join(together(totals['explained']))}", style="dim"), soft_wrap=True)


def _alerts(found: Replayed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("from (UTC)", "for", "severity", "objective", "tier", "why"):
        table.add_column(name, header_style="dim")
    for at, (transition, ended) in enumerate(found.spans()):
        if at == MOST_LISTED:
            table.add_row("...", "", "", "", "", "the rest is in the file that --json writes")
            break
        problem = transition.problem
        style = "bold red" if problem.severity is Severity.PAGE else "yellow"
        lasted = "still fires" if ended is None else duration(ended - transition.at)
        table.add_row(
            f"{transition.at:%Y-%m-%d %H:%M}", lasted, Text(problem.severity, style=style), problem.name,
            problem.tier or problem.alert.removeprefix("Recwatch"), plain(problem.sentence),
        )  # fmt: skip
    return table


def _weeks(found: Replayed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("\nweek of", "\npages", "\ntickets"):
        table.add_column(name, header_style="dim")
    began = [transition for transition in found.transitions if transition.state is State.FIRING]
    counts = Counter((_monday(transition.at), transition.problem.severity) for transition in began)
    for week in sorted({week for week, _severity in counts}):
        table.add_row(f"{week:%Y-%m-%d}", str(counts[week, Severity.PAGE]), str(counts[week, Severity.TICKET]))
    return table


def _monday(at: datetime) -> datetime:
    return datetime(at.year, at.month, at.day, tzinfo=at.tzinfo) - timedelta(days=at.weekday())
