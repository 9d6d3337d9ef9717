"""``recwatch demo``: a made-up recommender breaks, and the monitor notices."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from alerts.message import Alert
from alerts.wording import headline, shown
from checks import CATALOGUE
from checks.check import Outcome, Verdict
from monitor.commands.table import MARKS
from monitor.demo import Demo, Sighting
from monitor.durations import parse_duration
from monitor.wording import value_text

ROUND = timedelta(seconds=120)
STEP_SECONDS = 1.0
EXIT_UNSEEN = 1


@click.command()
@click.option("--for", "length", metavar="DURATION", help="End by itself after this long, such as 90s.")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Keep data and state here.")
@click.option("--port", type=int, default=0, help="Port of the status page; by default a free one.")
def command(length: str | None, folder: Path | None, port: int) -> None:
    """Watch a made-up recommender break, live.

    A client release drops user ids, then a retry storm doubles events, then the feed stalls. With
    --for it runs unattended, and exits 0 only if every fault was seen.
    """
    try:
        limit = parse_duration(length) if length else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from error
    if limit is not None and limit < timedelta(seconds=60):
        raise click.BadParameter("must be at least 60s, or a fault is over before it can be seen", param_hint="--for")
    demo = Demo(folder, limit or ROUND, port)
    console = Console()
    alerts: list[Alert] = []
    # Ended from outside, it must not leave its daemon behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _prepare(demo, console)
        demo.start()
        _play(demo, console, limit)
    except KeyboardInterrupt:
        console.print("\nending the daemon ...")
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    finally:
        alerts = demo.alerts() if hasattr(demo, "store") else []
        demo.stop()
        signal.signal(signal.SIGTERM, before)
    due = [seen for seen in demo.sightings if seen.began < datetime.now(UTC)]
    if due:
        console.print(_summary(due))
    if alerts:
        console.print(Text("\nWhat people would have been told, in order\n", style="bold"))
        for alert in alerts:
            told = "\n".join(shown(alert))
            console.print(f"{alert.at:%H:%M:%S} {told}\n", highlight=False, markup=False, soft_wrap=True)
    if limit is not None and any(seen.seen_at is None for seen in due):
        sys.exit(EXIT_UNSEEN)


def _prepare(demo: Demo, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("making history", total=1.0)
        demo.prepare(lambda what, share: bar.update(task, description=what, completed=share))
    console.print(
        f"status page  {demo.url}\nmetrics      {demo.url}metrics\nfolder       {demo.stage}\n", highlight=False
    )


def _play(demo: Demo, console: Console, limit: timedelta | None) -> None:
    ends = demo.started + limit if limit else None
    if not console.is_terminal:
        _print_changes(demo, console, ends)
        return
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while ends is None or datetime.now(UTC) < ends:
            live.update(_screen(demo, demo.step()))
            time.sleep(STEP_SECONDS)


def _print_changes(demo: Demo, console: Console, ends: datetime | None) -> None:
    """Print a line for each change; for logs and pipes."""
    before: dict[tuple[str, str], Outcome] = {}
    act, told = None, 0
    while ends is None or datetime.now(UTC) < ends:
        verdicts = [verdict for verdict in demo.step() if verdict.is_whole]
        if demo.current() is not act:
            act = demo.current()
            _say(console, f"{_elapsed(demo)}  --  {act.says if act else 'all is well again'}")
        for verdict in verdicts:
            key = (verdict.check, str(verdict.subject))
            if before.get(key) is not verdict.outcome:
                before[key] = verdict.outcome
                _say(console, f"{_elapsed(demo)}  {_line(verdict)}")
        alerts = demo.alerts()
        for alert in alerts[told:]:
            _say(console, f"{_elapsed(demo)}  >>  {alert.state} {alert.severity}: {alert.change}")
        told = len(alerts)
        time.sleep(STEP_SECONDS)


def _say(console: Console, line: str) -> None:
    # One change, one line, however long: this is for logs and pipes.
    console.print(line, highlight=False, soft_wrap=True)


def _elapsed(demo: Demo) -> str:
    return f"{(datetime.now(UTC) - demo.started).total_seconds():5.0f} s"


def _line(verdict: Verdict) -> str:
    subject = " ".join(verdict.subject.values())
    name = f"{verdict.check} {subject}".strip()
    value = value_text(verdict.measure, verdict.value)
    return f"{MARKS[verdict.outcome][0]:<9}  {name:<24}  {value:>9}  {verdict.reason}"


def _screen(demo: Demo, verdicts: Sequence[Verdict]) -> Group:
    act = demo.current()
    says = Text(f"now: {act.says}", style="bold red") if act else Text("now: all is well", style="green")
    head = Text.assemble(("recwatch demo  ", "bold"), (f"{_elapsed(demo).strip()}  ", "dim"), says)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("check", "state", "value", "limit", "what was found"):
        table.add_column(name, header_style="dim", overflow="fold" if name == "what was found" else "ellipsis")
    for check in CATALOGUE:
        found = [verdict for verdict in verdicts if verdict.check == check.id and verdict.is_whole]
        if not found:
            table.add_row(check.id, Text("waiting", style="dim"))
        for verdict in found:
            mark, style = MARKS[verdict.outcome]
            limit = value_text(verdict.measure, verdict.limit)
            name = " ".join([check.id, *verdict.subject.values()])
            table.add_row(
                name, Text(mark, style=style), value_text(verdict.measure, verdict.value), limit, verdict.reason
            )
    alerts = [Text(f"{alert.at:%H:%M:%S} {headline(alert)}", style="dim") for alert in demo.alerts()[-4:]]
    foot = Text(f"\n{demo.url}   {demo.url}metrics   Ctrl-C ends", style="dim")
    return Group(head, Text(), table, *([Text()] if alerts else []), *alerts, foot)


def _summary(sightings: Sequence[Sighting]) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("what went wrong", "noticed by", "after"):
        table.add_column(name, header_style="dim")
    for seen in sightings:
        delay = seen.delay_seconds
        noticed = Text("not seen", style="bold red") if delay is None else Text(f"{delay:.0f} s", style="green")
        table.add_row(seen.act.says, seen.act.check, noticed)
    return Group(Text(), table)
