"""``recwatch event``: notes deploys and other changes, which explain deviations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from alerts.wording import printable
from checks.metrics import CHANGES
from checks.window import Window
from monitor import happenings
from monitor.commands import config_option, on_call
from monitor.happenings import Happening
from monitor.times import Since, Time


@click.group()
def command() -> None:
    """Note deploys, model roll-outs and other changes; triage puts them on its timeline."""


@command.command("add")
@config_option
@click.argument("text")
@click.option("--kind", type=click.Choice(CHANGES), default="deploy", show_default=True)
@click.option("--at", type=Time(), help="When it happened (default: now).")
@click.option("--source", default="", help="Who or what says so.")
def add_command(path: Path, text: str, kind: str, at: datetime | None, source: str) -> None:
    """Note that something was done."""
    with on_call(path) as (store, _config):
        try:
            happenings.add(store, Happening(at or datetime.now(UTC), kind, text, source))
        except ValueError as error:
            raise click.UsageError(str(error)) from error


@command.command("list")
@config_option
@click.option("--since", type=Since(), help="From this time on (default: 7d, ago).")
def list_command(path: Path, since: datetime | None) -> None:
    """Show what was noted."""
    now = datetime.now(UTC)
    if since is not None and since >= now:
        raise click.BadParameter("must be in the past", param_hint="--since")
    with on_call(path) as (store, _config):
        noted = list(happenings.between(store, Window(since or now - timedelta(days=7), now)))
        for found in noted:
            # Words of others are no orders to a terminal.
            text = " ".join(printable(found.text).split())
            click.echo(f"{found.at:%Y-%m-%d %H:%M:%S} UTC  {found.kind:<7} {text}")
    if not noted:
        click.echo("nothing was noted in that time")
