"""``recwatch schema``: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import json

import click

from monitor.config import json_schema


@click.command()
def command() -> None:
    """Print the JSON Schema of the configuration.

    Save it beside the configuration, and name it in its first line:
    # yaml-language-server: $schema=recwatch.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))
