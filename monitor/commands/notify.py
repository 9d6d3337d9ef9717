"""``recwatch notify``: tries out channels, and records deploys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import click

from alerts.message import Alert, Change, Link, Problem, Severity, State
from alerts.notifier import DeliveryError, Notifier, TakesChanges
from monitor import happenings
from monitor.channels import notifiers
from monitor.clock import SystemClock
from monitor.commands import config_option, follow_up
from monitor.config import Config
from monitor.happenings import Happening
from monitor.load import load
from monitor.store import Store
from monitor.wording import meant

EXIT_UNDELIVERED = 3


@click.group()
def command() -> None:
    """Try out the channels, and tell them about deploys."""


@command.command("test")
@config_option
@click.argument("channels", nargs=-1)
@click.option("--page", is_flag=True, help="Send it as a page, which may make a phone ring.")
def test_command(path: Path, channels: Sequence[str], page: bool) -> None:
    """Send a marked test message, and its end, to all channels or to those named."""
    config = load(path)
    severity = Severity.PAGE if page else Severity.TICKET
    now = SystemClock().now()
    failed = False
    for name, notifier in _chosen(config, channels).items():
        memory: dict[str, str] = {}
        try:
            notifier.deliver(_message(config, severity, now, 1), memory)
            notifier.deliver(_message(config, severity, now, 2), memory)
            click.echo(f"{name}: delivered")
        except DeliveryError as error:
            failed = True
            click.echo(f"{name}: {error}", err=True)
    if failed:
        sys.exit(EXIT_UNDELIVERED)


@command.command("deploy")
@config_option
@click.argument("summary")
@click.option("--source", default="", help="Who deployed: a person or a system.")
@click.option("--url", default="", help="Where to read more.")
def deploy_command(path: Path, summary: str, source: str, url: str) -> None:
    """Tell channels that keep a record of changes (PagerDuty) about a deploy, and note it for triage."""
    config = load(path)
    takers = {name: found for name, found in notifiers(config).items() if isinstance(found, TakesChanges)}
    if not takers:
        alone = follow_up(f"event add {quote(summary)}")
        todo = f"add one of type pagerduty, or note it for triage alone with: {alone}"
        raise click.ClickException(f"no channel keeps a record of changes, and nothing was noted; {todo}")
    links = (Link("Details", url),) if url else ()
    change = Change(summary, SystemClock().now(), config.pipeline, source, links)
    with closing(Store(config.state.get_secret_value(), config.pipeline)) as store:
        try:
            happenings.add(store, Happening(change.at, "deploy", summary, source))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    failed = False
    for name, notifier in takers.items():
        try:
            notifier.announce(change)
            click.echo(f"{name}: recorded")
        except DeliveryError as error:
            failed = True
            click.echo(f"{name}: {error}; for triage it is noted", err=True)
    if failed:
        sys.exit(EXIT_UNDELIVERED)


def _chosen(config: Config, names: Sequence[str]) -> dict[str, Notifier]:
    if not config.channels:
        raise click.ClickException("there is no channel; add one under channels")
    unknown = [name for name in names if name not in config.channels]
    if unknown:
        raise click.BadParameter(f"no channel is called {unknown[0]}; {meant(unknown[0], config.channels)}")
    return {name: found for name, found in notifiers(config).items() if not names or name in names}


def _message(config: Config, severity: Severity, now: datetime, number: int) -> Alert:
    state, ended = (State.FIRING, None) if number == 1 else (State.RESOLVED, now)
    problem = Problem(
        "test", "RecwatchTest", severity, state, "this is a test of the channel, and nothing is wrong", now, until=ended
    )
    return Alert(
        f"recwatch/{config.pipeline}/test/{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}", number, state, severity,
        config.pipeline, now, now, (problem,), "The test begins" if number == 1 else "The test is over",
        ended=ended, is_test=True,
    )  # fmt: skip
