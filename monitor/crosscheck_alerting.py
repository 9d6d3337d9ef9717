"""What a schema cannot say about objectives and channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from alerts.burn import PRESETS
from alerts.slo import DEFAULTS, NEVER_PAGE, Kind, Slo
from monitor.access import is_in_the_clear
from monitor.config import Config
from monitor.config_alerting import (
    SLO_NAME,
    ChannelConfig,
    MailChannel,
    MaintenanceConfig,
    PagerDutyChannel,
    SlackChannel,
)
from monitor.document import Problem, Where
from monitor.durations import duration_text
from monitor.resolve import enabled_checks
from monitor.slos import declared, objectives, tiers_of
from monitor.times import cron_trigger
from monitor.wording import meant

COUNTED = tuple(check for check, entries in DEFAULTS.items() if any(entry.kind is Kind.EVENTS for entry in entries))


def named(where: Where, what: str, name: str, known: Sequence[str], *rests_on: Where) -> Problem:
    """Return the problem of a name that nothing has."""
    todo = meant(name, known) if known else f"add the {what}"
    return Problem(where, f"no {what} has this name", todo, name, rests_on=rests_on)


def slos(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with objectives."""
    watched = config.watched()
    defaults = {entry.name for entry in declared(config)}
    for name, own in config.slos.items():
        where: Where = ("slos", name)
        if not re.fullmatch(SLO_NAME, name):
            rule = "must be lower case letters, digits, - and _, at most 95, and start with a letter"
            yield Problem(where, rule, "rename it", name)
            continue
        if own is None:
            continue
        is_default = name in DEFAULTS or (name in defaults and own.check is None)
        if own.check is None and not is_default:
            todo = meant(name, [*DEFAULTS, *defaults], "add check")
            yield Problem(where, "is no check and no default objective, so it needs check", todo)
            continue
        if own.check is not None and own.check not in DEFAULTS:
            yield named((*where, "check"), "check", own.check, list(DEFAULTS))
            continue
        if own.dataset is not None and own.dataset not in watched:
            yield named((*where, "dataset"), "watched dataset", own.dataset, watched)
            continue
        check = own.check or (name if name in DEFAULTS else "")
        if own.kind == "events" and check and check not in COUNTED:
            rule = f"{check} counts no events"
            yield Problem((*where, "kind"), rule, "write slices", own.kind)
        if own.tiers is not None and own.tiers not in (*PRESETS, *config.tiers):
            yield named((*where, "tiers"), "set of tiers", own.tiers, [*PRESETS, *config.tiers])
        for at, channel in enumerate(own.channels):
            if channel not in config.channels:
                yield named((*where, "channels", at), "channel", channel, list(config.channels))


def tiers(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with tiers, and with objectives that have none that can fire."""
    for name, own in config.tiers.items():
        if name in PRESETS:
            yield Problem(("tiers", name), "is the name of a preset", "choose another name", name)
        for at, tier in enumerate(own):
            # It stands in the expressions and labels of Prometheus' rules.
            if not re.fullmatch(SLO_NAME, tier.name):
                rule = "must be lower case letters, digits, - and _, at most 95, and start with a letter"
                yield Problem(("tiers", name, at, "name"), rule, "rename it", tier.name)
            if tier.short >= tier.long:
                yield Problem(("tiers", name, at, "short"), "must be shorter than long", "a twelfth is usual")
    known = (*PRESETS, *config.tiers)
    for entry in declared(config):
        if (entry.config.tiers or entry.default.tiers) not in known:
            continue
        where: Where = ("slos", entry.check if entry.check in config.slos else entry.name, "tiers")
        if entry.check in NEVER_PAGE and any(tier.severity == "critical" for tier in tiers_of(config, entry)):
            rule = f"{entry.check} never pages: it may be right about the data and wrong about its meaning"
            yield Problem(where, rule, "choose tiers without pages", entry.config.tiers)
    for slo in _asked_for(config):
        if not slo.active:
            where = ("slos", slo.name if slo.name in config.slos else slo.check)
            reason = slo.tiers[-1].why_not(slo.objective, slo.period, slo.interval) if slo.tiers else "is missing"
            rule = f"no tier of {slo.name} can fire: {slo.tiers[-1].name if slo.tiers else 'every tier'} {reason}"
            todo = "raise the objective, choose other tiers, or set enabled: false"
            yield Problem(where, rule, todo, rests_on=((*where, "tiers"),))


def _asked_for(config: Config) -> list[Slo]:
    """Return the objectives that the configuration says something about."""
    found = objectives(config, {name: enabled_checks(config, name) for name in config.watched()})
    own = {entry.name for entry in declared(config) if entry.config.model_fields_set}
    return [slo for slo in found.values() if slo.name in own]


def channels(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with channels, and with who is told."""
    for name, channel in config.channels.items():
        where: Where = ("channels", name)
        if isinstance(channel, SlackChannel):
            token, webhook = channel.token.get_secret_value(), channel.webhook_url.get_secret_value()
            if bool(token) == bool(webhook):
                rests_on = ((*where, "token"), (*where, "webhook_url"))
                todo = "keep one" if token else "add token: ${SLACK_BOT_TOKEN}"
                yield Problem(where, "must have either token or webhook_url", todo, rests_on=rests_on)
            elif token and not channel.channel:
                yield Problem(where, "has a token, and needs to know where to write", "add channel")
        yield from _in_the_clear(where, channel)
    for severity in ("pages", "tickets"):
        for at, name in enumerate(getattr(config.notify, severity) or ()):
            if name not in config.channels:
                yield named(("notify", severity, at), "channel", name, list(config.channels))


def _in_the_clear(where: Where, channel: ChannelConfig) -> Iterator[Problem]:
    if isinstance(channel, MailChannel):
        if channel.security == "none" and channel.password.get_secret_value():
            yield Problem((*where, "security"), "would send the password in the clear", "write starttls or tls")
    elif isinstance(channel, SlackChannel | PagerDutyChannel):
        sends = "token" if isinstance(channel, SlackChannel) else "routing_key"
        todo = "write https://, or go through a proxy on 127.0.0.1"
        if getattr(channel, sends).get_secret_value() and is_in_the_clear(channel.api_url):
            yield Problem((*where, "api_url"), f"would send the {sends} in the clear", todo)
        # Whoever knows the address may post.
        if isinstance(channel, SlackChannel) and is_in_the_clear(channel.webhook_url.get_secret_value()):
            yield Problem((*where, "webhook_url"), "is a secret, and would be sent in the clear", todo)


def heartbeat(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with a dead man's switch: it is told after evaluations, so it is not told more often."""
    evaluated, switch = config.notify.every, config.notify.heartbeat
    if switch is None or evaluated <= switch.every:
        return
    often, seldom = duration_text(switch.every), duration_text(evaluated)
    if "every" in config.notify.model_fields_set:
        rule = f"must be at most notify.heartbeat.every, {often}, or the dead man's switch rings"
        yield Problem(("notify", "every"), rule, f"write {often}, or have the switch told less often", seldom)
    else:
        rule = f"must be at least notify.every, {seldom}, as the switch is told after evaluations"
        todo = f"write {seldom}, or set notify.every: {often}"
        yield Problem(("notify", "heartbeat", "every"), rule, todo, often)


def maintenance(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with maintenance windows."""
    for at, window in enumerate(config.maintenance):
        yield from _maintenance(("maintenance", at), window)


def _maintenance(where: Where, window: MaintenanceConfig) -> Iterator[Problem]:
    once, again = (window.start, window.end), (window.cron, window.length)
    if (None in once) == (None in again) or any(once) == any(again):
        yield Problem(where, "must have either start and end, or cron and for", "mend it")
        return
    if window.start is not None and window.end is not None and window.end <= window.start:
        yield Problem((*where, "end"), "must be after start", "mend it", window.end.isoformat())
    if window.cron is not None:
        try:
            cron_trigger(window.cron)
        except ValueError as error:
            rule = f"must be five cron fields ({str(error).rstrip('.').lower()})"
            yield Problem((*where, "cron"), rule, "write it like 0 2 * * sun", window.cron)


RULES = (slos, tiers, channels, heartbeat, maintenance)
