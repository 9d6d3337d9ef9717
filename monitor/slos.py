"""The objectives of a configuration: every check's defaults, as changed, and those added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alerts.burn import DAILY, PRESETS, Tier
from alerts.slo import DEFAULTS, Default, Kind, Slo, default_name
from checks import CATALOGUE
from checks.check import Check
from checks.dataset import Role
from checks.settings import CheckSettings
from monitor.config import Config, described
from monitor.config_alerting import SloConfig

SEVERITIES = {"page": "critical", "ticket": "warning"}
_DEFAULT = SloConfig()
# What a dataset needs for a part of a check to be judged at all.
_PARTS = {"user": (Role.USER,), "item": (Role.ITEM,), "semantic": (Role.EVENT_ID, Role.USER, Role.ITEM)}


@dataclass(frozen=True)
class Declared:
    """An objective before it is built: where it comes from, and what the configuration says of it."""

    name: str
    dataset: str
    check: str
    default: Default
    config: SloConfig


def declared(config: Config) -> Iterator[Declared]:
    """Yield every objective of a configuration: those of each check on each watched dataset, then those added."""
    defaults = {}
    for dataset in config.watched():
        for check, entries in DEFAULTS.items():
            for default in entries:
                name = default_name(dataset, check, default.subject)
                defaults[name] = Declared(name, dataset, check, default, _changed(config, check, name))
    yield from defaults.values()
    for name, own in config.slos.items():
        if own is None or name in DEFAULTS or name in defaults or own.check is None or own.check not in DEFAULTS:
            continue
        datasets = [own.dataset] if own.dataset else config.watched()
        for dataset in datasets:
            usual = next((d for d in DEFAULTS[own.check] if d.subject == own.subject), DEFAULTS[own.check][0])
            full = name if len(datasets) == 1 else f"{dataset}-{name}"
            yield Declared(full, dataset, own.check, usual, own)


def _changed(config: Config, check: str, name: str) -> SloConfig:
    """Return what is said of a default objective: by its name, over what is said of its check."""
    values: dict[str, Any] = {}
    for key in (check, name):
        own = config.slos.get(key)
        if own is not None:
            values.update({field: getattr(own, field) for field in own.model_fields_set})
    return _DEFAULT.model_copy(update=values)


def objectives(config: Config, checks: Mapping[str, Sequence[Check[Any]]]) -> dict[str, Slo]:
    """Return the objectives by name, but for those of checks that do not run.

    Args:
        config: A valid configuration.
        checks: The checks of each watched dataset that are switched on.
    """
    found = {}
    for entry in declared(config):
        check = next((check for check in checks.get(entry.dataset, ()) if check.id == entry.check), None)
        runs = check is not None and check.absent(described(entry.dataset, config.datasets[entry.dataset])) is None
        roles = config.datasets[entry.dataset].roles
        can_be_judged = all(role in roles for role in _PARTS.get(entry.default.subject or "", ()))
        if check is not None and runs and can_be_judged and entry.config.enabled:
            found[entry.name] = _built(config, entry, check)
    return found


def _built(config: Config, entry: Declared, check: Check[Any]) -> Slo:
    own, settings = entry.config, check.settings
    found = Slo(
        entry.name, entry.dataset, entry.check, kind_of(config, entry), objective_of(config, entry), own.period,
        settings.every, tiers_of(config, entry), subject=subject_of(entry), settle=settings.settle,
        min_bad_checks=own.min_bad_checks, min_events=own.min_events, unknown_is_bad=own.on_unknown == "bad",
        team=own.team, channels=own.channels, runbook_url=own.runbook_url,
    )  # fmt: skip
    return found if own.tiers in config.tiers else _with_daily(found)


def kind_of(config: Config, entry: Declared) -> Kind:
    """Return what an objective counts; where nobody counts sends, ingestion has no events to count."""
    if entry.config.kind is not None:
        return Kind(entry.config.kind)
    dataset = config.datasets[entry.dataset]
    if entry.check == "ingestion" and not (dataset.sent or dataset.rejected):
        return Kind.SLICES
    return entry.default.kind


def subject_of(entry: Declared) -> str | None:
    """Return which part of a check's verdicts an objective is about."""
    return entry.config.subject if entry.config.subject is not None else entry.default.subject


def objective_of(config: Config, entry: Declared) -> float:
    """Return the share that must be good: as configured, else as usual, else what the check's own limit allows."""
    if entry.config.objective is not None:
        return entry.config.objective
    if entry.default.objective is not None:
        return entry.default.objective
    if kind_of(config, entry) is Kind.SLICES:
        return 0.99
    kind = next(check for check in CATALOGUE if check.id == entry.check)
    settings: CheckSettings = config.settings(entry.dataset, kind.id, kind.settings_type)
    setting = "max_semantic_ratio" if entry.default.subject == "semantic" else kind.limit_setting
    limit: float = getattr(settings, setting)
    # A limit of 0 allows nothing, and a budget of nothing cannot burn at any rate.
    return min(0.9999, max(0.5, 1 - limit))


def tiers_of(config: Config, entry: Declared) -> tuple[Tier, ...]:
    """Return the burn-rate tiers that an objective asks for, by a preset or a set of one's own."""
    name = entry.config.tiers or entry.default.tiers
    if name in config.tiers:
        return tuple(
            Tier(tier.name, SEVERITIES[tier.severity], tier.long, tier.short, burn_rate=tier.burn_rate)
            for tier in config.tiers[name]
        )
    # A name that nothing has is told of elsewhere.
    return PRESETS.get(name, ())


def _with_daily(slo: Slo) -> Slo:
    """Return an objective with the tier for rare checks, where the check is too rare for all that it asks for."""
    return replace(slo, tiers=(*slo.tiers, DAILY)) if slo.tiers and not slo.active else slo
