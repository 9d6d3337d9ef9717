"""``recwatch triage``: the first five minutes of an incident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from alerts.evaluate import BURN
from checks.window import Window
from monitor.alerting import saved
from monitor.commands import config_option, on_call
from monitor.store import Store
from monitor.times import Since, Time
from monitor.triage import postmortem, told, triage


@click.command()
@config_option
@click.option("--since", type=Since(), help="Look at what happened since this time (default: 6h, ago).")
@click.option("--to", "until", type=Time(), help="... and until this time (default: now).")
@click.option(
    "--postmortem", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the skeleton of a postmortem."
)
def command(path: Path, since: datetime | None, until: datetime | None, out: Path | None) -> None:
    """Say what deviated first, what the most likely cause is, and which segment it comes from.

    It reads the state alone, so it works while the data cannot be reached. Where no time is given it is about the
    incident that is open, or else about what was bad last, and not about what was over hours before.
    """
    now = datetime.now(UTC)
    end = until or now
    start = since or end - timedelta(hours=6)
    if start >= end:
        raise click.UsageError("--since must lie before --to")
    with on_call(path) as (store, _config):
        span, alarms = Window(start, end), set() if since or until else _open(store)
        found = triage(store, span, alarms)
        if found.deviations and not (since or until or alarms):
            newest = max(found.deviations, key=lambda deviation: deviation.last.end).verdict
            found = triage(store, span, {(BURN, newest.dataset, newest.check)})
    click.echo(told(found))
    if out is not None:
        try:
            out.write_text(postmortem(found, now), encoding="utf-8")
        except OSError as error:
            raise click.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--postmortem") from error
        click.echo(f"\n{out}: the skeleton of a postmortem")


def _open(store: Store) -> set[tuple[str, str, str]]:
    """Return alert, dataset and check of what fires in open incidents."""
    members = [member for incident in saved(store).board.incidents for member in incident.members.values()]
    signs = [member.found.sign for member in members if member.until is None]
    return {(sign.alert, sign.dataset, sign.check) for sign in signs}
