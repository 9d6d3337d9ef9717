"""The commands, one module each; a module's ``command`` is what the command line runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

# Into a file or a pipe lines stay whole; COLUMNS overrides it.
WIDE = 160

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("recwatch.yml"),
    show_default=True,
    help="The configuration file.",
)

configs_option = click.option(
    "-c",
    "--config",
    "paths",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(Path("recwatch.yml"),),
    show_default=True,
    help="The configuration file; or, for many pipelines, a folder of such files. May be repeated.",
)


def is_many(paths: Sequence[Path]) -> bool:
    """Return whether these are the files of many pipelines: a folder, or several."""
    return len(paths) > 1 or paths[0].is_dir()


def screen() -> Console:
    """Return where to print: as wide as the terminal, or wide enough where there is none."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console
