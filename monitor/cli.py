"""The command line: names and help only; each command lives in ``monitor/commands``."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

import click

from monitor.errors import ConfigError, EngineError, RecwatchError, StateError

EXIT_BAD, EXIT_CONFIG, EXIT_UNREACHABLE = 1, 2, 3

# Command name to module and help. Modules are loaded when their command runs: the daemon must not
# pay for what only the demo needs.
COMMANDS = {
    "init": ("init", "Look at files or a database and write a configuration."),
    "validate": ("validate", "Say everything that is wrong with a configuration."),
    "explain": ("explain", "Say what a check means, and the SQL that it would run."),
    "schema": ("schema", "Print the JSON Schema of the configuration, for editors."),
    "check": ("check", "Run the checks once, as a gate in CI or a workflow."),
    "run": ("run", "Run the daemon."),
    "baseline": ("baseline", "Build, show, pin or drop baselines."),
    "alerts": ("alerts", "Show what fires, what is kept quiet, and what was sent to whom."),
    "silence": ("silence", "Keep alerts of some objectives quiet for a while."),
    "triage": ("triage", "Say what deviated first, and what the most likely cause is."),
    "event": ("event", "Note deploys and other changes, which explain deviations."),
    "notify": ("notify", "Try out the channels, and tell them about deploys."),
    "backtest": ("backtest", "Replay past data, and tell which alerts would have gone out."),
    "runbook": ("runbook", "Print what to do about an alert."),
    "dashboards": ("dashboards", "Write the Grafana dashboards, or push them to a Grafana."),
    "export": ("export", "Print rules for Prometheus, or the objectives in OpenSLO."),
    "report": ("report", "Write an Evidently report on a sample, beside our scores over all rows."),
    "demo": ("demo", "Watch a made-up recommender break, live."),
    "doctor": ("doctor", "Say what is installed and whether anything stands in the way."),
}


def version() -> str:
    """Return the version of recwatch; a checkout that is not installed has none."""
    try:
        return metadata.version("recwatch")
    except metadata.PackageNotFoundError:
        return "(not installed)"


class _Commands(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"monitor.commands.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version(), prog_name="recwatch")
def recwatch() -> None:
    """Watch the data of a recommendation pipeline, and say when it goes wrong.

    Commands exit 0 if all is well, 1 if something is bad or fires, 2 if the command or the configuration is wrong, 3 if
    a check could not run, or data, state or a channel could not be reached.
    """


def main() -> None:
    """Run the command line; errors that a person can mend end in one text and an exit code."""
    try:
        recwatch(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_CONFIG)
    except click.Abort:
        sys.exit(130)
    except RecwatchError as error:
        click.echo(str(error), err=True)
        sys.exit(_exit_code(error))


def _exit_code(error: RecwatchError) -> int:
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_UNREACHABLE if isinstance(error, EngineError | StateError) else EXIT_BAD
