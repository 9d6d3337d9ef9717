"""``recwatch explain``: what a check means, and the SQL that it would run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from checks import CATALOGUE
from checks.check import Check
from monitor.commands import about_this_file, config_option, screen, state_so_far
from monitor.durations import duration_text
from monitor.errors import ConfigError, RecwatchError
from monitor.explain import Explained, Statement, settings, statements, words
from monitor.load import load
from monitor.resolve import Pipeline, build
from monitor.schedule import newest
from monitor.times import Time
from monitor.wording import meant


@click.command()
@click.argument("check", required=False)
@config_option
@click.option("--dataset", help="On which dataset; by default the first that is watched.")
@click.option("--at", type=Time(), help="For the newest window as of this time (default: now).")
def command(check: str | None, path: Path, dataset: str | None, at: datetime | None) -> None:
    """Say what CHECK detects, how it is computed, what can be set, and the SQL that it would run.

    Without one, list the checks.
    """
    if check is None:
        for kind in CATALOGUE:
            click.echo(f"{kind.id + ':':<15}{words(kind)[0]}")
        return
    kind = _known("explain", "check", check, {kind.id: kind for kind in CATALOGUE})
    console = screen()
    try:
        config = load(path)
    except ConfigError as error:
        _say(console, kind, list(settings(kind, None, "")))
        _say_none(console, error.problems)
        return
    with closing(build(config)) as pipeline:
        name = _known(
            "--dataset", "watched dataset", dataset or next(iter(pipeline.checks)), {k: k for k in pipeline.checks}
        )
        _say(console, kind, list(settings(kind, config, name)), name)
        found = next((one for one in pipeline.checks[name] if one.id == kind.id), None)
        if found is None:
            _say_none(console, [f"{kind.id} is switched off on {name}"])
        else:
            _say_sql(console, pipeline, name, (found, at or datetime.now(UTC)))


def _known(where: str, what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise ConfigError([f"{where}: no {what} has this name, got {name}; {meant(name, known)}"])
    return known[name]


def _say(console: Console, kind: type[Check[Any]], found: Sequence[Explained], dataset: str = "") -> None:
    head, sections = words(kind)
    console.print(Text(f"{kind.id}: ", style="bold") + Text(head, style=""))
    limit = next(one for one in found if one.name == kind.limit_setting)
    parts = {
        **sections,
        "Formula": kind.formula,
        "Limit": f"{limit.name} = {limit.value}, from {limit.origin}. {limit.meaning}",
    }
    for title, body in parts.items():
        console.print(Text(f"\n{title}", style="bold"))
        console.print(Padding(Text(body), (0, 0, 0, 2)))
    console.print(Text("\nSettings" + (f" on {dataset}" if dataset else ""), style="bold"))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in ("  name", "value", "from", "may be", "meaning"):
        table.add_column(column, header_style="dim", overflow="fold")
    for one in found:
        style = "bold" if one is limit else ""
        table.add_row(*map(Text, (f"  {one.name}", one.value, one.origin, one.bounds, one.meaning)), style=style)
    console.print(table)


def _say_sql(console: Console, pipeline: Pipeline, dataset: str, asked: tuple[Check[Any], datetime]) -> None:
    check, at = asked
    every, window = duration_text(check.settings.every), duration_text(check.settings.window)
    title = f"\nSQL on {dataset}, every {every} over a window of {window}"
    console.print(Text(title, style="bold") + Text(f"; here {newest(check, at)}", style=""))
    try:
        with state_so_far(pipeline.config) as store:
            remarks, found = statements(pipeline, dataset, check, at, store)
    except RecwatchError as error:
        _say_none(console, [str(error)])
        return
    for remark in remarks:
        console.print(Text(f"  -- {about_this_file(remark)}", style="dim"), soft_wrap=True)
    for statement in found:
        _say_statement(console, statement)


def _say_statement(console: Console, statement: Statement) -> None:
    """Print a statement so that it can be copied: no line is broken."""
    console.print(Text(f"\n  -- {statement.title}", style="dim"), soft_wrap=True)
    shown = Syntax("", "sql", theme="ansi_dark", background_color="default").highlight(statement.sql)
    for line in shown.split("\n"):
        if line.plain.strip():
            console.print(Text("  ") + line, soft_wrap=True)


def _say_none(console: Console, problems: Sequence[str]) -> None:
    console.print(Text("\nNo SQL to show", style="bold"))
    for problem in problems:
        console.print(Text(f"  {problem}"), soft_wrap=True)
