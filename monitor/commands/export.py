"""``recwatch export``: rules for Prometheus, and objectives in OpenSLO."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from alerts import openslo
from alerts.burn import Tier
from alerts.rules import TIERS, prometheus_rule, rendered
from monitor.commands import config_option
from monitor.load import load
from monitor.resolve import build


@click.group()
def command() -> None:
    """Print rules for Prometheus, or the objectives in OpenSLO."""


@command.command("rules")
@config_option
@click.option("--kubernetes", is_flag=True, help="As a PrometheusRule object.")
@click.option("--runbooks", "base", default="", metavar="URL", help="Where runbooks are served, for links in alerts.")
@click.pass_context
def rules_command(context: click.Context, path: Path, kubernetes: bool, base: str) -> None:
    """Print the rule pack; tiers of one's own are part of it.

    Without tiers of one's own it is the static pack, which no new objective changes.
    """
    if base and not base.startswith(("https://", "http://")):
        raise click.BadParameter(f"must begin with https:// or http://, got {base}", param_hint="--runbooks")
    found: dict[str, Tier] = {tier.name: tier for tier in TIERS}
    is_named = context.get_parameter_source("path") is not ParameterSource.DEFAULT
    if is_named or path.exists():
        pipeline = build(load(path))
        found |= {tier.name: tier for slo in pipeline.slos.values() for tier in slo.tiers}
        base = base or _runbooks(pipeline.config.notify.external_url)
        pipeline.close()
    render = prometheus_rule if kubernetes else rendered
    click.echo(render(tuple(found.values()), base), nl=False)


def _runbooks(external_url: str) -> str:
    return f"{external_url.rstrip('/')}/runbooks" if external_url else ""


@command.command("openslo")
@config_option
def openslo_command(path: Path) -> None:
    """Print the objectives as OpenSLO v1; its conditions know one window only, so tiers lose their short one."""
    pipeline = build(load(path))
    pipeline.close()
    click.echo(openslo.rendered(list(pipeline.slos.values()), pipeline.config.pipeline), nl=False)
