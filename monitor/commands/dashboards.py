"""``recwatch dashboards``: Grafana dashboards, as files or straight into a Grafana."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from alerts.notifier import DeliveryError
from dashboards import shipped

EXIT_UNDELIVERED = 3


@click.group()
def command() -> None:
    """Write the Grafana dashboards, or push them to a Grafana."""


@command.command("export")
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write files below here.")
@click.option("--grafana-url", metavar="URL", help="Push to this Grafana.")
@click.option(
    "--token", envvar="RECWATCH_GRAFANA_TOKEN", metavar="TOKEN",
    help="Of a service account; better in RECWATCH_GRAFANA_TOKEN, where no list of processes shows it.",
)  # fmt: skip
def export_command(folder: Path | None, grafana_url: str | None, token: str | None) -> None:
    """Write dashboards with provisioning files, push them by Grafana's API, or both."""
    if folder is None and grafana_url is None:
        raise click.UsageError("say where to: --out DIR, --grafana-url URL, or both")
    if grafana_url is not None and not token:
        raise click.UsageError("--grafana-url needs a token: set RECWATCH_GRAFANA_TOKEN, or give --token")
    if folder is not None:
        try:
            for path in shipped.write(folder):
                click.echo(path)
        except OSError as error:
            raise click.ClickException(f"--out {folder}: {error.strerror or error}") from error
    if grafana_url is not None and token:
        _push(grafana_url, token)
    click.echo(f"made for Grafana {shipped.MINIMUM_GRAFANA} and later")


def _push(grafana_url: str, token: str) -> None:
    try:
        for title in shipped.push(grafana_url, token):
            click.echo(f"pushed {title}")
    except DeliveryError as error:
        click.echo(f"{error}; check --grafana-url, and that the token may write dashboards", err=True)
        sys.exit(EXIT_UNDELIVERED)
