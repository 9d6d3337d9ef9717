"""The commands, one module each; a module's ``command`` is what the command line runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from monitor.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.config import Config, OnCallConfig
    from monitor.store import Store

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


@contextmanager
def on_call(path: Path) -> Iterator[tuple[Store, OnCallConfig]]:
    """Give the state of a file that somebody may be editing, and what the file says of it; problems are mentioned.

    Raises:
        ConfigError: The file does not say where the state is; or is wrong, and there is none yet.
        StateError: The state cannot be read.
    """
    from monitor.load import load_on_call
    from monitor.schema import exists
    from monitor.store import Store

    config, problems = load_on_call(path)
    url = config.state.get_secret_value()
    if problems:
        if not exists(url):
            raise ConfigError(problems)
        more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        click.echo(f"{problems[0]}{more}\n{path}: only pipeline and state are read until that is mended", err=True)
    with closing(Store(url, config.pipeline)) as store:
        yield store, config


@contextmanager
def state_so_far(config: Config) -> Iterator[Store | None]:
    """Give the state, or None where there is none yet: who only looks leaves nothing behind.

    Raises:
        StateError: The state cannot be read.
    """
    from monitor.schema import exists
    from monitor.store import Store

    url = config.state.get_secret_value()
    if not exists(url):
        yield None
        return
    with closing(Store(url, config.pipeline)) as store:
        yield store


def follow_up(words: str, path: Path | None = None) -> str:
    """Return a command to be pasted, about the configuration of the command that now runs, or about another."""
    return f"recwatch {words} -c {quote(str(path or click.get_current_context().params['path']))}"


def about_this_file(text: str) -> str:
    """Return a text of a check, which knows no configuration, with the command in it about the one that is read."""
    return text.replace("recwatch baseline build", follow_up("baseline build"))


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
