"""``recwatch silence``: nobody is told of some objectives for a while."""

from __future__ import annotations

import getpass
import os
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import click

from alerts.wording import printable
from monitor import silences
from monitor.clock import SystemClock
from monitor.commands import config_option, follow_up, on_call
from monitor.config import Config, OnCallConfig
from monitor.durations import parse_duration
from monitor.objectives import latest
from monitor.resolve import enabled_checks
from monitor.silences import Silence
from monitor.slos import objectives
from monitor.store import Store
from monitor.times import Time
from monitor.wording import meant


@click.group()
def command() -> None:
    """Keep alerts of some objectives quiet for a while, with a reason."""


@command.command("add")
@config_option
@click.option("--slo", "pattern", required=True, metavar="NAME", help="Objective; stars allowed.")
@click.option("--for", "length", metavar="DURATION", help="How long, such as 2h.")
@click.option("--until", type=Time(), help="Until when, instead of --for.")
@click.option("--reason", required=True, help="Why: read by whoever wonders.")
@click.option("--author", default=lambda: _author(), show_default="the user", help="Who asks for it.")
def add_command(path: Path, pattern: str, length: str | None, until: datetime | None, reason: str, author: str) -> None:
    """Silence objectives from now on."""
    now = SystemClock().now()
    if (length is None) == (until is None):
        raise click.UsageError("a silence must end; write either --for 2h or --until TIME")
    try:
        end = until or now + parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from error
    if end <= now:
        named = ("must be longer than nothing", "--for") if until is None else ("must be in the future", "--until")
        raise click.BadParameter(named[0], param_hint=named[1])
    if not reason.strip():
        raise click.BadParameter("must say something: it is all that whoever wonders has", param_hint="--reason")
    with on_call(path) as (store, config):
        known = _objectives(store, config)
        if not any(fnmatchcase(name, pattern) for name in known):
            there = f"there are {', '.join(known) or 'none yet'}"
            said = f"no objective is called {pattern}; {meant(pattern, known, there)}"
            raise click.BadParameter(said, param_hint="--slo")
        number = silences.add(store, Silence(0, pattern, now, end, reason, author))
    click.echo(f"silence {number}: {pattern} until {_day(end)}; end it with: {follow_up(f'silence end {number}')}")


@command.command("list")
@config_option
def list_command(path: Path) -> None:
    """Show the silences that are in force or still to come."""
    with on_call(path) as (store, _config):
        found = silences.current(store, SystemClock().now())
    for silence in found:
        said = f"{silence.pattern} until {_day(silence.end)}: {silence.reason} ({silence.author})"
        # Words of others are no orders to a terminal.
        click.echo(f"{silence.id}: {' '.join(printable(said).split())}")
    if not found:
        click.echo("nothing is silenced")


@command.command("end")
@config_option
@click.argument("number", type=int)
def end_command(path: Path, number: int) -> None:
    """End a silence now."""
    with on_call(path) as (store, _config):
        if not silences.end(store, number, SystemClock().now()):
            raise click.ClickException(f"no silence {number} is in force; see {follow_up('silence list')}")
    click.echo(f"silence {number} has ended")


def _author() -> str:
    """Return the user; in a container that may be the program's own, or one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _day(at: datetime) -> str:
    """Return a moment that may be years ahead."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _objectives(store: Store, config: OnCallConfig) -> list[str]:
    """Return the names that alerts have: by the file, or, while that is wrong, of what has run."""
    if not isinstance(config, Config):
        ran = (f"{run.dataset}-{run.check}" for run in store.runs())
        return sorted({*latest(store), *ran})
    checks = {dataset: enabled_checks(config, dataset) for dataset in config.watched()}
    # A check that is overdue alarms under its own name.
    names = (f"{dataset}-{check.id}" for dataset, found in checks.items() for check in found)
    return list(dict.fromkeys((*objectives(config, checks), *names)))
