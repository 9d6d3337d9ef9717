"""``recwatch alerts``: what fires, what is kept quiet and why, and what was sent to whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.burn import Tier
from alerts.message import State
from alerts.slo import Slo
from alerts.wording import clock
from checks.check import Outcome
from monitor import outbox, silences
from monitor.alerting import Memory, saved
from monitor.clock import SystemClock
from monitor.commands import config_option, on_call, screen
from monitor.commands.table import plain
from monitor.config import Config, OnCallConfig
from monitor.durations import duration_text
from monitor.objectives import latest
from monitor.resolve import enabled_checks
from monitor.slos import objectives
from monitor.store import Store
from monitor.times import Since
from monitor.wording import ago, value_text

EXIT_FIRING = 1
# A daemon that runs has evaluated since, unless ``notify.every`` is longer.
STALE = timedelta(minutes=15)


@click.command()
@config_option
@click.option("--since", type=Since(), default="24h", show_default=True, help="From when on messages are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(path: Path, since: datetime, as_json: bool) -> None:
    """Show what fires, what is kept quiet and why, and what was sent; exits 1 if anything fires."""
    now = SystemClock().now()
    with on_call(path) as (store, config):
        memory, sent = saved(store), outbox.history(store, since)
        rows = list(_rows(memory, config, store, now))
        early = list(_early(memory, config, store, now))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        for entry in sent:
            click.echo(json.dumps({"sent": entry.alert.title, **_sent(entry)}))
        for slo, tier, burn, able in early:
            fires = {"tier": tier.name, "state": "early", "burn_rate": burn, "can_fire_from": able.isoformat()}
            click.echo(json.dumps({"slo": slo.name, "check": slo.check, "dataset": slo.dataset, **fires}))
    else:
        _print(screen(), memory, rows, sent)
        for slo, tier, burn, able in early:
            half = f"{tier.name} can fire after {duration_text(tier.long / 2)}, at {clock(able)}"
            click.echo(f"{slo.name} burns {burn:.3g} times too fast; {half}")
        every = config.notify.every if isinstance(config, Config) else STALE
        if memory.evaluated is not None and now - memory.evaluated > max(STALE, 3 * every):
            click.echo(f"\nThis is from {ago((now - memory.evaluated).total_seconds())}: see whether the daemon runs.")
    if any(row["state"] == State.FIRING for row in rows):
        raise SystemExit(EXIT_FIRING)


def _rows(memory: Memory, config: OnCallConfig, store: Store, now: datetime) -> Any:
    """Yield each alarm with its state: firing, quiet with the reason, or waiting to hold longer."""
    told = {
        (member.problem.alert, member.problem.name, member.problem.severity)
        for incident in memory.board.incidents for member in incident.members.values() if member.until is None
    }  # fmt: skip
    quiet = silences.current(store, now)
    for alarm in memory.alarms.values():
        sign = alarm.sign
        key = f"{sign.alert}/{sign.name}/{sign.severity}"
        explained = memory.board.explained.get(key)
        why = silences.maintenance(config.maintenance, sign.name, now)
        why = next((f"silenced: {silence.reason}" for silence in quiet if silence.covers(sign.name, now)), why)
        if explained is not None:
            why = explained.text or "told with the page about the same objective"
        is_told = (sign.alert, sign.name, sign.severity) in told
        state = State.FIRING.value if is_told else "waiting" if alarm.since is None else "quiet"
        yield {
            "alert": sign.alert, "slo": sign.name, "check": sign.check, "dataset": sign.dataset,
            "severity": sign.severity.value, "tier": sign.tier, "state": state, "value": sign.value,
            "limit": sign.threshold, "since": alarm.since.isoformat() if alarm.since else None,
            "why": "" if is_told else why,
        }  # fmt: skip


def _early(
    memory: Memory, config: OnCallConfig, store: Store, now: datetime
) -> Iterator[tuple[Slo, Tier, float, datetime]]:
    """Yield what burns fast enough for a tier that was not watched for long enough yet, as after a first start.

    With it come the tier, how many times too fast it burns, and from when on the tier can fire.
    """
    if not isinstance(config, Config):
        return
    last, checks = latest(store), {dataset: enabled_checks(config, dataset) for dataset in config.watched()}
    fires = {alarm.sign.name for alarm in memory.alarms.values()}
    for name, slo in objectives(config, checks).items():
        seen = last.get(name)
        # What is good again is told of by no tier.
        if seen is None or seen.outcome is not Outcome.BAD or name in fires:
            continue
        for tier in slo.active:
            able = seen.since + tier.long / 2
            burn = memory.burns.get(name, {}).get(int(tier.long.total_seconds()))
            if now < able and burn is not None and burn >= tier.factor(slo.period):
                yield slo, tier, burn, able
                break


def _sent(entry: outbox.Sent) -> dict[str, Any]:
    alert = entry.alert
    return {
        "incident": alert.key, "number": alert.transition, "at": alert.at.isoformat(), "state": alert.state.value,
        "severity": alert.severity.value, "change": alert.change, "channels": entry.channels,
    }  # fmt: skip


def _print(console: Console, memory: Memory, rows: list[dict[str, Any]], sent: list[outbox.Sent]) -> None:
    if memory.evaluated is None:
        console.print("No evaluation yet: the daemon makes one every notify.every once it runs.")
        return
    if rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("state", "severity", "slo", "alert", "tier", "value", "limit", "since (UTC)", "why quiet"):
            table.add_column(name, header_style="dim")
        for row in rows:
            unit = "bad_ratio" if row["tier"] or row["limit"] < 1 else "age_seconds"
            since = datetime.fromisoformat(row["since"]) if row["since"] else None
            style = "bold red" if row["state"] == State.FIRING else "dim"
            table.add_row(
                Text(row["state"], style=style), row["severity"], row["slo"], row["alert"].removeprefix("Recwatch"),
                row["tier"], value_text(unit, row["value"]), value_text(unit, row["limit"]),
                clock(since) if since else "", plain(row["why"]),
            )  # fmt: skip
        console.print(table)
    else:
        console.print(f"Nothing fires, as of {clock(memory.evaluated)}.")
    if sent:
        console.print(Text("\nSent, newest first", style="bold"))
        for entry in sent:
            channels = ", ".join(f"{name} {state}" for name, state in entry.channels.items()) or "no channel"
            line = f"  {clock(entry.alert.at)}  {entry.alert.state} {entry.alert.severity}  {entry.alert.title}"
            console.print(plain(f"{line}: {entry.alert.change} ({channels})"), soft_wrap=True)
