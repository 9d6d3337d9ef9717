"""The commands, one module each; a module's ``command`` is what the command line runs."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("recwatch.yml"),
    show_default=True,
    help="The configuration file.",
)
