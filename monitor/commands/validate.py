"""``recwatch validate``: everything that is wrong with a configuration, or what it amounts to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url

from alerts.burn import CHECKS_IN_SHORT, Tier
from alerts.evaluate import SEVERITY_OF
from alerts.slo import Kind, Slo
from checks import CATALOGUE
from checks.rows import GROUPS
from monitor.access import exposure, is_in_the_clear
from monitor.budget import engines_used
from monitor.channels import told
from monitor.commands import configs_option, is_many, screen
from monitor.config import EMBEDDED, Config, TimeColumn, described
from monitor.config_alerting import AlertmanagerChannel, WebhookChannel
from monitor.durations import duration_text
from monitor.errors import ConfigError
from monitor.fleet_files import Agreement, files_of, name_in, named_alike, nothing_here
from monitor.load import load
from monitor.resolve import enabled_checks, engine_name
from monitor.series import series_estimate
from monitor.slos import objectives
from monitor.wording import duration_words
from monitor.workers import engine_config


@click.command()
@configs_option
@click.option("--json", "as_json", is_flag=True, help="Print problems and notes as JSON, each a list of texts.")
def command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say everything that is wrong with a configuration; exits 2 if anything is.

    Given a folder, or several files, it reads them as run does: each must be right, and all of them together.
    """
    try:
        show, notes = _many(paths) if is_many(paths) else _one(paths[0])
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"problems": error.problems, "notes": []}, indent=2))
        raise SystemExit(2) from None
    if as_json:
        click.echo(json.dumps({"problems": [], "notes": notes}, indent=2))
        return
    console = screen()
    show(console)
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _one(path: Path) -> tuple[Callable[[Console], None], list[str]]:
    """Return what shows a configuration that is right, and what is to be noted about it."""
    config = load(path)
    series = _series(config)
    notes = [*filter(None, [exposure(config.server)]), *in_the_clear(config), *unused(config)]
    return lambda console: _show(console, config, series), notes


def _many(places: Sequence[Path]) -> tuple[Callable[[Console], None], list[str]]:
    """Return the same of files that run in one process.

    Raises:
        ConfigError: With every problem of every file.
    """
    # run waits for a file that is not there yet; here it is a name that nobody can have meant.
    files = [*files_of(places), *(place for place in places if not place.exists())]
    agreement, taken = Agreement(files), dict[Path, str]()
    problems = [] if files else [nothing_here(places)]
    notes, series = [*filter(None, [exposure(agreement.server)])], 0
    for path in files:
        name = name_in(path)
        try:
            config = agreement.read(path, taken)
            name = config.pipeline
            series += _series(config)
            notes += [f"{path}: {note}" for note in (*in_the_clear(config), *unused(config))]
        except ConfigError as error:
            # Once all else in it is mended, its name would still be in the way.
            alike = named_alike(path, name or "", taken)
            problems += dict.fromkeys((*error.problems, *alike))
        if name is not None:
            taken[path] = name
    if problems:
        raise ConfigError(problems)
    said = f"{len(files)} configurations are fine, alone and together" if len(files) > 1 else "1 configuration is fine"
    text = Text(f"{', '.join(map(str, places))}: {said}; at most {series:,} series on /metrics")
    return lambda console: console.print(text, soft_wrap=True), notes


def _series(config: Config) -> int:
    return series_estimate(config, {name: enabled_checks(config, name) for name in config.watched()})


def _show(console: Console, config: Config, series: int) -> None:
    console.print(Text(config.pipeline, style="bold") + Text(": the configuration is fine", style=""))
    watched = config.watched()
    for name in watched:
        _show_dataset(console, config, name)
        console.print(_checks(config, name))
    for name in config.datasets:
        if name not in watched:
            _show_dataset(console, config, name)
    _show_objectives(console, config)
    for line in asked_of_engines(config):
        console.print(Text(line), soft_wrap=True)
    text = f"\nat most {series:,} series on /metrics, of {config.limits.max_series:,} allowed"
    console.print(Text(text, style="dim"))


def _show_objectives(console: Console, config: Config) -> None:
    """Print each objective with its tiers: when they fire, or why they were dropped."""
    slos = objectives(config, {name: enabled_checks(config, name) for name in config.watched()})
    if not slos:
        return
    console.print(Text("\nobjectives", style="bold") + Text(": what may be bad, and who is told when", style=""))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("  objective", "good", "of", "over", "told", "tier", "fires above", "in a total outage after"):
        table.add_column(column, header_style="dim")
    notes = []
    for slo in slos.values():
        severities = dict.fromkeys(SEVERITY_OF[tier.severity] for tier in slo.active)
        told_to = dict.fromkeys(name for severity in severities for name in told(config, severity, slo.channels))
        of = "events" if slo.kind is Kind.EVENTS else "time"
        head = [
            f"  {slo.name}",
            f"{100 * slo.objective:g} %",
            of,
            duration_text(slo.period),
            ", ".join(told_to) or "nobody",
        ]
        for tier in slo.active:
            bad = f"{100 * tier.threshold_ratio(slo.objective, slo.period):.3g} % bad"
            after = duration_words(_outage_seconds(slo, tier))
            table.add_row(
                *head, tier.name, f"{bad} over {duration_text(tier.long)} and {duration_text(tier.short)}", after
            )
            head = [""] * len(head)
        notes += _dropped(slo)
    console.print(table)
    for note in notes:
        console.print(Text(note, style="dim"), soft_wrap=True)


def _dropped(slo: Slo) -> list[str]:
    """Return which tiers an objective asks for and does not have, with the reason, in a line each reason."""
    reasons: dict[str, list[str]] = {}
    for tier in slo.tiers:
        reason = tier.why_not(slo.objective, slo.period, slo.interval)
        if reason is not None:
            rare = f"runs only every {duration_text(slo.interval)}, too rarely for their short windows"
            reasons.setdefault(rare if tier.short < CHECKS_IN_SHORT * slo.interval else reason, []).append(tier.name)
    return [f"  {slo.name} has no {', '.join(names)}: it {reason}" for reason, names in reasons.items()]


def _outage_seconds(slo: Slo, tier: Tier) -> float:
    """Return how long a total outage lasts until a tier fires: its share of the window, and the fewest bad runs."""
    burnt = tier.time_to_fire(slo.objective, slo.period).total_seconds()
    return max(burnt, slo.min_bad_checks * slo.interval.total_seconds()) + slo.settle.total_seconds()


def _show_dataset(console: Console, config: Config, name: str) -> None:
    dataset = config.datasets[name]
    where = f"files {dataset.files}" if dataset.files else f"table {dataset.table}"
    where = f"{dataset.reading} of the stream {dataset.stream}" if dataset.stream else where
    console.print(
        Text(f"\n{name}", style="bold") + Text(f": {where}, by {_engine(config, name)}", style=""), soft_wrap=True
    )
    roles = [
        f"{role} = {column.column} ({column.unit})" if isinstance(column, TimeColumn) else f"{role} = {column}"
        for role, column in dataset.roles.items()
    ]
    readers = [
        f"{other} ({link})"
        for other, found in config.datasets.items()
        for link, target in found.links.items()
        if target == name
    ]
    readers += ["changes" for changes in config.changes if changes.dataset == name]
    for title, entries in (("roles", roles), ("features", dataset.features), ("read for", readers)):
        if entries:
            console.print(Text(f"  {title}: {', '.join(entries)}"), soft_wrap=True)


def _engine(config: Config, dataset: str) -> str:
    name = engine_name(config, config.datasets[dataset])
    if name == EMBEDDED and name not in config.engines:
        return "the embedded DuckDB"
    return f"engine {name} ({make_url(config.engines[name].url.get_secret_value()).get_backend_name()})"


def asked_of_engines(config: Config) -> Iterator[str]:
    """Yield what may be asked of each engine that has a budget."""
    for name in engines_used(config):
        budget = engine_config(config, name).budget
        if budget is not None:
            rest = (
                f"the last {100 * budget.reserve:g} % for checks of the present" if budget.reserve else "for all alike"
            )
            yield f"\nengine {name}: at most {budget.seconds_per_hour:g} s of statements an hour, {rest}"


def _checks(config: Config, name: str) -> Table:
    """Return which checks run on a dataset and when; and why others do not."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("  check", "every", "window", "settles after", ""):
        table.add_column(column, header_style="dim")
    # Which columns exist is only known to the data; roles are known here.
    dataset = described(name, config.datasets[name])
    for check in CATALOGUE:
        if not config.asks_for(name, check.id, check.settings_type):
            continue
        settings = config.settings(name, check.id, check.settings_type)
        reason = check(settings).absent(dataset)
        off = "switched off" if not settings.enabled else f"disabled: it {reason}" if reason else ""
        times = ["-"] * 3 if off else [duration_text(at) for at in (settings.every, settings.window, settings.settle)]
        table.add_row(f"  {check.id}", *times, off, style="dim" if off else "")
    return table


def in_the_clear(config: Config) -> Iterator[str]:
    """Yield what sends a password or token in the clear; that is refused where nobody needs it.

    Within a cluster a Prometheus or a webhook often has nothing but HTTP.
    """
    for what, address, token in _addresses(config):
        if is_in_the_clear(address) and (token or re.match("http://[^/?#]*@", address, re.IGNORECASE)):
            yield f"{what} sends its password or token in the clear; write https:// if there is that, too"


def _addresses(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield what is reached over HTTP, with its address, which may have a password, and its token."""
    for name, channel in config.channels.items():
        if isinstance(channel, WebhookChannel):
            yield f"channel {name}", channel.url.get_secret_value(), ""
        elif isinstance(channel, AlertmanagerChannel):
            yield from ((f"channel {name}", url, "") for url in channel.urls)
    if config.notify.heartbeat is not None:
        yield "notify.heartbeat", config.notify.heartbeat.url.get_secret_value(), ""
    for name, stream in config.streams.items():
        if stream.prometheus is not None:
            yield f"stream {name}", stream.prometheus.get_secret_value(), stream.token.get_secret_value()


def unused(config: Config) -> Iterator[str]:
    """Yield what is configured and has no effect."""
    watched = config.watched()
    linked = {target for dataset in config.datasets.values() for target in dataset.links.values()}
    linked |= {changes.dataset for changes in config.changes}
    engines = {engine_name(config, config.datasets[name]) for name in (*linked, *watched)}
    for name, dataset in config.datasets.items():
        if name not in watched and name not in linked:
            todo = "its watch: false" if dataset.watch is False else "add a time role"
            yield f"dataset {name} is neither watched nor read for another; remove it, or {todo}"
        elif name not in watched and (dataset.checks.model_fields_set or dataset.features):
            yield f"dataset {name} is not watched, so its checks and features have no effect; add watch: true"
        groups = [source for source in dataset.sources or () if source in GROUPS]
        for link in ("sent", "rejected"):
            stage = dataset.links.get(link)
            if "source" in dataset.roles and stage in config.datasets and "source" not in config.datasets[stage].roles:
                yield f"dataset {name}: {stage} has no role source, so ingestion judges all sources as one"
        if groups:
            yield f"dataset {name}: sources has {', '.join(groups)}, names of recwatch's own; such rows count as other"
    for check in CATALOGUE:
        reasons = [
            check(config.settings(name, check.id, check.settings_type)).absent(described(name, config.datasets[name]))
            for name in watched
        ]
        if getattr(config.checks, check.id) is not None and all(reasons):
            yield f"checks.{check.id} has no effect: no watched dataset can run it, it {reasons[0]}"
    streams = {dataset.stream for dataset in config.datasets.values()}
    for name in config.streams:
        if name not in streams:
            yield f"stream {name} is used by no dataset; remove it, or name it in one"
    for name in config.engines:
        if name not in engines:
            yield f"engine {name} is used by no dataset; remove it, or name it in one"
