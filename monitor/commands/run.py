"""``recwatch run``: the daemon."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from checks.stats import simulate_with
from monitor import log
from monitor.apart import drawn_apart
from monitor.clock import SystemClock
from monitor.commands import configs_option, is_many
from monitor.daemon import Daemon
from monitor.errors import ConfigError
from monitor.footprint import Footprint
from monitor.server import Server, serve, warn

if TYPE_CHECKING:
    from monitor.fleet import Fleet

# DuckDB looks for these when it binds a value, and would load them: 90 MB that the daemon never uses.
UNUSED = ("pandas", "pyarrow", "numpy")
# How often the daemon looks whether it has worked and can give memory back.
REST_SECONDS = 5.0


def keep_out(modules: tuple[str, ...]) -> None:
    """Make imports of these modules fail in this process, as if they were not installed."""
    for name in modules:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


@click.command()
@configs_option
@click.option("--host", help="Address to bind, for many pipelines; by default what a file says.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, for many pipelines; by default what a file says.")
def command(paths: tuple[Path, ...], host: str | None, port: int | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP or a changed file reloads the configuration.

    Given a folder, or several files, it runs one pipeline for each file; files may come and go.
    """
    log.set_up()
    keep_out(UNUSED)
    simulate_with(drawn_apart)
    footprint = Footprint()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    runs, server = _many(paths, given) if is_many(paths) else _one(paths[0], given)
    runs.handle_signals()
    # What is loaded by now stays: the collector of cyclic garbage need not look through it again and again.
    gc.collect()
    gc.freeze()
    runs.start()
    log.event("serving", url=server.url)
    try:
        while not runs.wait(REST_SECONDS):
            footprint.settle()
    finally:
        runs.stop()
        server.close()


def _one(path: Path, given: Mapping[str, object]) -> tuple[Daemon, Server]:
    if given:
        raise ConfigError([f"--{next(iter(given))}: is for many pipelines; set server in {path}"])
    daemon = Daemon(path, SystemClock())
    return daemon, serve(daemon)


def _many(paths: Sequence[Path], given: Mapping[str, object]) -> tuple[Fleet, Server]:
    # The front page's templates are loaded where there is one.
    from monitor.fleet import Fleet
    from monitor.fleet_app import FleetApp

    fleet = Fleet(paths, SystemClock(), given)
    server = Server(fleet.server, FleetApp(fleet))
    server.start()
    warn(fleet.server)
    return fleet, server
