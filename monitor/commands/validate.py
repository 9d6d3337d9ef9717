"""``recwatch validate``: everything that is wrong with a configuration, or what it amounts to."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from checks.dataset import Dataset, dataset_table
from monitor.commands import config_option
from monitor.config import Config
from monitor.durations import duration_text
from monitor.errors import ConfigError
from monitor.load import load
from monitor.resolve import build, engine_name
from monitor.series import series_estimate


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a JSON array of texts.")
def command(path: Path, as_json: bool) -> None:
    """Say everything that is wrong with a configuration; exits 2 if anything is."""
    try:
        config = load(path)
        series = series_estimate(config, build(config).checks)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps(error.problems, indent=2))
            raise SystemExit(2) from None
        raise
    if as_json:
        click.echo("[]")
        return
    _show(config, series)
    for unused in _unused(config):
        click.echo(f"note: {unused}")


def _show(config: Config, series: int) -> None:
    console = Console()
    console.print(f"[bold]{config.pipeline}[/]: the configuration is fine", highlight=False)
    for name in config.watched():
        dataset = config.datasets[name]
        where = dataset.files or f"table {dataset.table}"
        title = f"{name}  ({engine_name(config, dataset)}: {where})"
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for column in ("check", "every", "window", "settles after", ""):
            table.add_column(column, header_style="dim")
        # Which columns exist is only known to the data; roles are known here.
        roles = {role: str(role) for role in dataset.roles}
        described = Dataset(name, dataset_table(name, {}), {}, roles, features=dataset.features)
        for check in build(config).checks[name]:
            settings = check.settings
            times = [duration_text(value) for value in (settings.every, settings.window, settings.settle)]
            reason = check.absent(described)
            table.add_row(check.id, *times, f"disabled: it {reason}" if reason else "", style="dim" if reason else "")
        console.print(table)
    console.print(f"at most {series:,} series on /metrics, of {config.limits.max_series:,} allowed", style="dim")


def _unused(config: Config) -> list[str]:
    """Return what is configured and read by nothing."""
    linked = {target for dataset in config.datasets.values() for target in dataset.links.values()}
    used = {*linked, *config.watched()}
    engines = {engine_name(config, config.datasets[name]) for name in used}
    found = [f"dataset {name} is neither watched nor pointed to" for name in config.datasets if name not in used]
    return found + [f"engine {name} is used by no dataset" for name in config.engines if name not in engines]
