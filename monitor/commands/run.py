"""``recwatch run``: the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from checks.stats import simulate_with
from monitor import log
from monitor.apart import drawn_apart
from monitor.clock import SystemClock
from monitor.commands import config_option
from monitor.daemon import Daemon
from monitor.footprint import Footprint
from monitor.server import serve

# DuckDB looks for these when it binds a value, and would load them: 90 MB that the daemon never uses.
UNUSED = ("pandas", "pyarrow", "numpy")
# How often the daemon looks whether it has worked and can give memory back.
REST_SECONDS = 5.0


def keep_out(modules: tuple[str, ...]) -> None:
    """Make imports of these modules fail in this process, as if they were not installed."""
    for name in modules:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


@click.command()
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
def command(path: Path, verbose: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP or a changed file reloads the configuration."""
    log.set_up(verbose)
    keep_out(UNUSED)
    simulate_with(drawn_apart)
    footprint = Footprint()
    daemon = Daemon(path, SystemClock())
    daemon.handle_signals()
    server = serve(daemon)
    daemon.start()
    log.event("serving", url=server.url)
    try:
        while not daemon.wait(REST_SECONDS):
            footprint.settle()
    finally:
        daemon.stop()
        server.close()
