"""``recwatch init``: looks at files or a database and writes a configuration."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.columns import GUESS, LIKELY, SURE
from monitor.commands import follow_up, screen
from monitor.compose import URL_VARIABLE, compose, has_secret, scalar
from monitor.errors import ConfigError
from monitor.guess import Found
from monitor.load import load
from monitor.survey import Survey, survey
from monitor.targets import pipeline_name

STYLES = {SURE: "green", LIKELY: "yellow", GUESS: "red"}
MOST_SHOWN = 20


@click.command()
@click.argument("target", metavar="PATH_OR_URL")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("recwatch.yml"), show_default=True
)
@click.option("--pipeline", help="Name of the pipeline; by default that of the folder, file or database.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(target: str, output: Path, pipeline: str | None, force: bool) -> None:
    """Look at files or a database and write a configuration.

    PATH_OR_URL is a file, a folder, a glob, a DuckDB or SQLite file, or a SQLAlchemy URL. Each guess
    says how sure it is and why, here and in the file.
    """
    if output.exists() and not force:
        raise ConfigError([f"{output}: is there already; choose another with --output, or replace it with --force"])
    if not output.parent.is_dir():
        raise ConfigError([f"{output.parent}: no such folder; make it, or choose another with --output"])
    with Console(stderr=True).status("looking") as status:
        found = survey(target, lambda name, at, count: status.update(f"looking at {name} ({at} of {count})"))
    _show(found)
    try:
        output.write_text(compose(pipeline or pipeline_name(target), found, output.parent), encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{output}: cannot be written: {error.strerror}; choose another with --output"]) from error
    click.echo(f"wrote {output}")
    environment = dict(os.environ)
    if found.url is not None and has_secret(found.url):
        environment[URL_VARIABLE] = found.url
        click.echo(f"the password is not in it: export {URL_VARIABLE}, with the whole URL, before you go on")
    if not any(dataset.kind == "events" for dataset in found.datasets):
        raise ConfigError(_missing(found))
    load(output, environment)
    click.echo(f"next: {follow_up('check --all', output)}")


def _missing(found: Survey) -> list[str]:
    """Return what keeps each dataset from being the events."""
    head = "nothing here looks like events: these have users or items, and a time; set the roles in the file by hand"
    lines = [f"  {dataset.name}: {dataset.kind}, {dataset.why}" for dataset in found.datasets[:MOST_SHOWN]]
    more = len(found.datasets) - MOST_SHOWN
    return [head, *lines, *([f"  and {more:,} more"] if more > 0 else [])]


def _show(found: Survey) -> None:
    console = screen()
    others = [dataset.name for dataset in found.datasets if dataset.kind == "other"]
    for dataset in found.datasets:
        if dataset.kind != "other":
            sure = (dataset.sure, STYLES[dataset.sure])
            console.print(Text.assemble((dataset.name, "bold"), f": {dataset.kind}, ", sure, f": {dataset.why}"))
            console.print(_table(dataset))
    if others:
        more = f" and {len(others) - MOST_SHOWN:,} more" if len(others) > MOST_SHOWN else ""
        console.print(Text(f"neither events nor ids: {', '.join(others[:MOST_SHOWN])}{more}", style="dim"))
    for note in found.notes[:MOST_SHOWN]:
        console.print(Text(f"left out: {note}", style="yellow"))


def _table(found: Found) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2))
    for column in ("role", "column", "how sure", "why"):
        table.add_column(column, header_style="dim", no_wrap=column in ("role", "how sure"))
    for role, guess in found.roles.items():
        _row(table, role, scalar(guess.column.name), guess.sure, guess.why)
    for link, linked in found.taken.items():
        _row(table, link, linked.target, linked.sure, linked.why)
    if found.features:
        left = f"; {len(found.features_left_out)} more left out" if found.features_left_out else ""
        shown = ", ".join(scalar(name) for name in found.features[:4]) + (" ..." if len(found.features) > 4 else "")
        _row(table, "features", shown, LIKELY, f"numbers, and columns with few values: {len(found.features)}{left}")
    if found.clicks:
        types = f"{', '.join(map(scalar, found.clicks.hit))} of {', '.join(map(scalar, found.clicks.shown))}"
        _row(table, "click_through", types, found.clicks.sure, found.clicks.why)
    if found.placeholders_kept:
        kept = ", ".join(scalar(text) for text in found.placeholders_kept)
        _row(table, "placeholders", f"all but {kept}", LIKELY, "it is a real id of the table that the events point to")
    return table


def _row(table: Table, role: str, column: str, sure: str, why: str) -> None:
    table.add_row(Text(role), Text(column), Text(sure, style=STYLES[sure]), Text(why))
