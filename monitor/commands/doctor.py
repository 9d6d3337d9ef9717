"""``recwatch doctor``: what is installed, and whether anything stands in the way."""

from __future__ import annotations

import importlib
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

import click

from monitor._launch import PACKAGES
from monitor.errors import RecwatchError
from monitor.load import load
from monitor.resolve import build
from monitor.schema import exists
from monitor.store import Store

LIBRARIES = ("sqlalchemy", "duckdb", "duckdb-sqlalchemy", "apscheduler", "prometheus-client", "pydantic", "scipy")


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path, dir_okay=False), help="Also try this file.")
def command(path: Path | None) -> None:
    """Say what is installed; with a configuration, whether its state and engines answer.

    Exits 2 if the configuration is wrong, 3 if something does not answer.
    """
    click.echo(f"recwatch {metadata.version('recwatch')} on Python {platform.python_version()}, {platform.system()}")
    for name in LIBRARIES:
        click.echo(f"  {name} {metadata.version(name)}")
    owners = metadata.packages_distributions()
    for name in PACKAGES:
        where = Path(str(importlib.import_module(name).__file__)).parent
        others = [owner for owner in owners.get(name, []) if owner != "recwatch"]
        click.echo(f"  package {name} at {where}" + (f"; also owned by {', '.join(others)}" if others else ""))
    if path is not None and not _answers(path):
        sys.exit(3)


def _answers(path: Path) -> bool:
    """Try the state and every engine of a configuration; say how each did."""
    config = load(path)
    click.echo(f"{path}: the configuration is fine")
    all_well = True
    try:
        if exists(config.state.get_secret_value()):
            Store(config.state.get_secret_value(), config.pipeline).close()
            click.echo("  state: fine")
        else:
            click.echo("  state: none yet, the daemon will make it")
    except RecwatchError as error:
        all_well = False
        click.echo(f"  {error}")
    for engine in build(config).engines.values():
        started = time.perf_counter()
        try:
            with engine.session():
                took = 1000 * (time.perf_counter() - started)
            click.echo(f"  engine {engine.name} ({engine.where}): answers after {took:.0f} ms")
        except RecwatchError as error:
            all_well = False
            click.echo(f"  {error}")
    return all_well
