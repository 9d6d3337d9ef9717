"""``recwatch runbook``: what to do about an alert."""

from __future__ import annotations

from difflib import get_close_matches

import click

from alerts import runbook


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Print the runbook of an alert, or without a name the list of them."""
    known = runbook.names()
    if name is None:
        for entry in known:
            click.echo(entry)
        return
    found = runbook.text(name)
    if found is None:
        close = get_close_matches(name.lower(), known, 1, 0.4)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
        raise click.BadParameter(f"no alert is called {name}; {hint}")
    click.echo(found, nl=False)
