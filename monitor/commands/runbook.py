"""``recwatch runbook``: what to do about an alert."""

from __future__ import annotations

import click

from alerts import runbook
from monitor.wording import meant


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Print the runbook of an alert, or without a name the list of them."""
    known = runbook.names()
    if name is None:
        for entry in known:
            click.echo(entry)
        return
    # Tables show the names without what all of them begin with.
    found = runbook.text(name) or runbook.text(f"recwatch{name}")
    if found is None:
        raise click.BadParameter(f"no alert is called {name}; {meant(name.lower(), known)}")
    click.echo(found, nl=False)
