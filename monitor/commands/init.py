"""``recwatch init``: looks at files or a database and writes a configuration."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.compose import PASSWORD_VARIABLE, compose, has_password
from monitor.errors import ConfigError
from monitor.guess import Found
from monitor.load import load
from monitor.survey import dataset_name, survey

STYLES = {"sure": "green", "likely": "yellow", "a guess": "red"}


@click.command()
@click.argument("target", metavar="PATH_OR_URL")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("recwatch.yml"), show_default=True
)
@click.option("--pipeline", help="Name of the pipeline; by default that of the folder.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(target: str, output: Path, pipeline: str | None, force: bool) -> None:
    """Look at files or a database and write a configuration.

    PATH_OR_URL is a file, a folder, a glob, a DuckDB or SQLite file, or a SQLAlchemy URL. Each guess
    says how sure it is and why, here and in the file.
    """
    if output.exists() and not force:
        raise ConfigError([f"{output}: is there already; choose another with --output, or replace it with --force"])
    console = Console()
    with console.status("looking") as status:
        engines, datasets = survey(target, lambda name: status.update(f"looking at {name}"))
    _show(console, datasets)
    name = pipeline or dataset_name(Path(target.rstrip("/")).resolve().name if "://" not in target else "shop")
    output.write_text(compose(name, engines, datasets, output.parent), encoding="utf-8")
    click.echo(f"wrote {output}")
    if any(has_password(url) for url in engines.values()):
        click.echo(f"the password is not in it: export {PASSWORD_VARIABLE} with the whole URL before you go on")
        return
    if not any(found.kind == "events" for found in datasets):
        raise ConfigError(
            ["nothing here looks like events: no table has users or items, and a time; set the roles by hand"]
        )
    load(output)
    click.echo(f"next: recwatch check --all -c {output}")


def _show(console: Console, datasets: list[Found]) -> None:
    for found in datasets:
        table = Table(
            title=f"{found.name}: {found.kind}",
            title_justify="left",
            title_style="bold",
            box=None,
            padding=(0, 2, 0, 0),
        )
        for column in ("role", "column", "how sure", "why"):
            table.add_column(column, header_style="dim")
        for role, guess in found.roles.items():
            sure = Text(guess.sure, style=STYLES[guess.sure])
            table.add_row(Text(role), Text(guess.column.name), sure, Text(guess.why))
        for link, (target, why) in found.links.items():
            table.add_row(Text(link), Text(target), Text(""), Text(why))
        if found.features:
            more = f" and {found.features_left_out} left out" if found.features_left_out else ""
            table.add_row(
                Text("features"),
                Text(", ".join(found.features[:4]) + (" ..." if len(found.features) > 4 else "") + more),
                Text(""),
                Text(""),
            )
        console.print(table)
