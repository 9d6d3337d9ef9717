"""``recwatch explain``: what a check means, and the SQL that it would run."""

from __future__ import annotations

from datetime import UTC, datetime
from difflib import get_close_matches
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
from monitor.commands import config_option
from monitor.durations import duration_text
from monitor.errors import ConfigError, RecwatchError
from monitor.explain import settings, statements, words
from monitor.load import load
from monitor.resolve import Pipeline, build
from monitor.schema import exists
from monitor.store import Store
from monitor.times import Time


@click.command()
@click.argument("check")
@config_option
@click.option("--dataset", help="On which dataset; by default the first that is watched.")
@click.option("--at", type=Time(), help="For the newest window as of this time (default: now).")
def command(check: str, path: Path, dataset: str | None, at: datetime | None) -> None:
    """Say what CHECK detects, how it is computed, what can be set, and the SQL that it would run."""
    kind = _known(check)
    console = Console()
    pipeline, problem = _pipeline(path)
    name = _dataset(pipeline, dataset) if pipeline else None
    _say_meaning(console, kind)
    _say_settings(console, kind, pipeline, name)
    if pipeline is None or name is None:
        console.print(Text(f"No SQL to show: {problem}", style="dim"))
        return
    _say_sql(console, kind, pipeline, (name, at or datetime.now(UTC)))


def _known(name: str) -> type[Check[Any]]:
    known = {kind.id: kind for kind in CATALOGUE}
    if name not in known:
        close = get_close_matches(name, known, 1)
        todo = f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
        raise ConfigError([f"explain: no check has this name, got {name}; {todo}"])
    return known[name]


def _pipeline(path: Path) -> tuple[Pipeline | None, str]:
    try:
        return build(load(path)), ""
    except ConfigError as error:
        return None, error.problems[0]


def _dataset(pipeline: Pipeline, name: str | None) -> str:
    if name is not None and name not in pipeline.checks:
        raise ConfigError([f"--dataset: {name} is not watched; use one of {', '.join(pipeline.checks)}"])
    return name or next(iter(pipeline.checks))


def _say_meaning(console: Console, kind: type[Check[Any]]) -> None:
    head, sections = words(kind)
    console.print(Text(kind.id, style="bold"), Text(head))
    for title, body in {**sections, "Formula": kind.formula}.items():
        console.print(Text(f"\n{title}", style="bold"))
        console.print(Padding(Text(body), (0, 0, 0, 2)))


def _say_settings(console: Console, kind: type[Check[Any]], pipeline: Pipeline | None, dataset: str | None) -> None:
    console.print(Text("\nSettings" + (f" on {dataset}" if dataset else ""), style="bold"))
    table = Table(box=None, pad_edge=True, padding=(0, 2, 0, 0))
    for column in ("name", "value", "from", "meaning"):
        table.add_column(column, header_style="dim", overflow="fold")
    for found in settings(kind, pipeline.config if pipeline else None, dataset):
        style = "bold" if found.name == kind.limit_setting else ""
        cells = (found.name, found.value, found.origin, found.meaning)
        table.add_row(*map(Text, cells), style=style)
    console.print(table)
    console.print(Text(f"  {kind.limit_setting} is the limit; it was set as shown under from\n", style="dim"))


def _say_sql(console: Console, kind: type[Check[Any]], pipeline: Pipeline, place: tuple[str, datetime]) -> None:
    dataset, at = place
    check = next((found for found in pipeline.checks[dataset] if found.id == kind.id), None)
    if check is None:
        console.print(Text("No SQL to show: the check is switched off", style="dim"))
        return
    cadence = check.settings
    every, window = duration_text(cadence.every), duration_text(cadence.window)
    console.print(Text(f"SQL, every {every} over a window of {window}", style="bold"))
    config = pipeline.config
    state = config.state.get_secret_value()
    store = Store(state, config.pipeline) if exists(state) else None
    try:
        for statement in statements(pipeline, dataset, check, at, store):
            shown = Syntax(statement, "sql", word_wrap=True, background_color="default", theme="ansi_dark")
            console.print(Padding(shown, (0, 0, 1, 2)))
    except RecwatchError as error:
        console.print(Text(f"  No SQL to show: {error}", style="dim"))
