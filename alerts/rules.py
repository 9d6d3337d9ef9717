"""Renders the one static rule pack for Prometheus: recording rules and alerts.

Objectives and thresholds are series that the daemon exports, so a new objective changes no rule.
Every comparison aggregates the daemon's series first: with two scraped replicas a bare join fails
with "many-to-many matching", and alerting would stop without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import yaml

from alerts.burn import DAILY, SUSTAINED, WORKBOOK, Tier
from alerts.evaluate import (
    BURN,
    CHECK_OVERDUE,
    DOWN_OVER,
    DOWN_RATIO,
    DOWN_WITHIN,
    FRESHNESS_EMERGENCY,
    HELD_FOR,
    INGESTION_DOWN,
    NO_DATA,
    WAITS,
)

BY = "(pipeline, slo)"
# Adds what an objective is about; the information series is 1, so that the value stays what it was.
ABOUT = f"* on {BY} group_left (check, dataset, team) max by (pipeline, slo, check, dataset, team) (recwatch_slo_info)"
INTERVAL = "1m"
# How long a burn alert stays after its last sign, so that it does not flap between sparse checks.
KEEP = "5m"

TIERS: tuple[Tier, ...] = (*WORKBOOK[:2], SUSTAINED, *WORKBOOK[2:], DAILY)

HEAD = "# Made by alerts/rules.py (python -m alerts.rules); a test renders it again and compares.\n"
Rule = dict[str, Any]


def span(duration: timedelta) -> str:
    """Return a duration as PromQL writes it.

    Examples:
        >>> span(timedelta(minutes=30)), span(timedelta(hours=6)), span(timedelta(days=3))
        ('30m', '6h', '3d')
    """
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def pack(tiers: Sequence[Tier] = TIERS, runbook_base_url: str = "") -> dict[str, Any]:
    """Return the rule file as plain values.

    Args:
        tiers: Every tier that some objective may have.
        runbook_base_url: Where runbooks are served, for links; without it alerts say which command prints them.
    """
    longs = sorted({tier.long for tier in tiers} | {DOWN_WITHIN})
    windows = sorted({*longs, *(tier.short for tier in tiers), DOWN_OVER})
    found = {
        "groups": [
            _group("recwatch-slo-ratios", [_bad_ratio(window) for window in windows]),
            _group("recwatch-slo-counts", [rule for window in longs for rule in _counts(window)]),
            _group("recwatch-slo-burn", [_burn(tier) for tier in tiers]),
            _group("recwatch-health", HEALTH),
        ]
    }
    return _with_runbooks(found, runbook_base_url.rstrip("/"))


def _with_runbooks(found: dict[str, Any], base: str) -> dict[str, Any]:
    for group in found["groups"]:
        group["rules"] = [_with_runbook(rule, base) if "alert" in rule else rule for rule in group["rules"]]
    return found


def _with_runbook(rule: Rule, base: str) -> Rule:
    name = rule["alert"]
    link = {"runbook_url": f"{base}/{name.lower()}"} if base else {"runbook": f"recwatch runbook {name}"}
    return {**rule, "annotations": {**rule["annotations"], **link}}


def rendered(tiers: Sequence[Tier] = TIERS, runbook_base_url: str = "") -> str:
    """Return the rule file as text."""
    return HEAD + _yaml(pack(tiers, runbook_base_url))


def prometheus_rule(tiers: Sequence[Tier] = TIERS, runbook_base_url: str = "") -> str:
    """Return the same rules as an object of the Prometheus operator."""
    return HEAD + _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "recwatch", "labels": {"app.kubernetes.io/name": "recwatch"}},
            "spec": pack(tiers, runbook_base_url),
        }
    )


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=110, allow_unicode=True)


def _group(name: str, rules: Sequence[Rule]) -> dict[str, Any]:
    return {"name": name, "interval": INTERVAL, "rules": list(rules)}


def _bad_ratio(window: timedelta) -> Rule:
    """Return the share of bad slices, or of bad events, over a window."""
    w = span(window)
    bad = f'sum without (result) (increase(recwatch_slo_events_total{{result="bad"}}[{w}]))'
    total = f"sum without (result) (increase(recwatch_slo_events_total[{w}]))"
    expr = f"(1 - min by {BY} (avg_over_time(recwatch_slo_slice_good[{w}])))\nor max by {BY} ({bad} / ({total} > 0))"
    return {"record": f"recwatch_slo:bad_ratio:{w}", "expr": expr}


def _counts(window: timedelta) -> list[Rule]:
    """Return how many runs were bad and how many events were counted over a window."""
    w = span(window)
    return [
        {
            "record": f"recwatch_slo:bad_checks:{w}",
            "expr": f'max by {BY} (increase(recwatch_slo_checks_total{{result="bad"}}[{w}]))',
        },
        {
            "record": f"recwatch_slo:valid_events:{w}",
            "expr": f"max by {BY} (sum without (result) (increase(recwatch_slo_events_total[{w}])))",
        },
    ]


def _burn(tier: Tier) -> Rule:
    """Return the alert of one tier: both windows burn, and there is enough to go by."""
    long, short, on = span(tier.long), span(tier.short), f"on {BY}"
    threshold = f'max by {BY} (recwatch_slo_alert_threshold_ratio{{tier="{tier.name}"}})'
    seconds = int(tier.long.total_seconds() / 2)
    held = _held((long, short), max(tier.long, HELD_FOR), f"{on} {threshold}", BURN, tier.name)
    expr = (
        "((\n"
        f"  recwatch_slo:bad_ratio:{long} > {on} {threshold}\n"
        f"  and {on} (recwatch_slo:bad_ratio:{short} > {on} {threshold})\n"
        # increase() extrapolates, so a whole number may come out a little lower.
        f"  and {on} (recwatch_slo:bad_checks:{long} > {on} (max by {BY} (recwatch_slo_min_bad_checks) - 0.5))\n"
        # In a young history the long window holds little more than the short one.
        f"  and {on} (max by {BY} (recwatch_slo_observed_seconds) >= {seconds})\n"
        f"  unless {on} (recwatch_slo:valid_events:{long} < {on} max by {BY} (recwatch_slo_min_events))\n"
        f") or {held}) {ABOUT}"
    )
    what = "paging" if tier.severity == "critical" else "ticket"
    description = (
        "{{ $labels.slo }} of {{ $labels.pipeline }}: {{ $value | humanizePercentage }} bad over"
        f" {long}, and as far as is known it still burns over {short} ({what} tier {tier.name})."
    )
    return _alert(
        BURN,
        expr,
        {"severity": tier.severity, "tier": tier.name},
        ("The error budget burns too fast.", description),
        keep_firing_for=KEEP,
    )


def _held(windows: tuple[str, str], within: timedelta, threshold: str, alert: str, tier: str = "") -> str:
    """Return the long window, as last known, of what fires and was last known bad while its short window holds nothing.

    Nothing known is no recovery: a check that cannot run any more ends no alarm, and begins none.
    """
    (long, short), last = windows, span(within)
    fires = f'ALERTS{{alertname="{alert}", tier="{tier}", alertstate="firing"}}'
    return (
        "(\n"
        f"  last_over_time(recwatch_slo:bad_ratio:{long}[{last}])\n"
        f"  and on {BY} (last_over_time(recwatch_slo:bad_ratio:{short}[{last}]) > {threshold})\n"
        f"  and on {BY} {fires}\n"
        f"  unless on {BY} recwatch_slo:bad_ratio:{short}\n"
        ")"
    )


def _alert(name: str, expr: str, labels: Mapping[str, str], said: tuple[str, str], **times: str) -> Rule:
    summary, description = said
    annotations = {"summary": summary, "description": description}
    # "for" is a word of Python.
    waits = {key.rstrip("_"): value for key, value in times.items()}
    return {"alert": name, "expr": expr, **waits, "labels": dict(labels), "annotations": annotations}


def _wait(alert: str) -> str:
    """Return how long what an alert says must hold, as PromQL writes it."""
    return span(WAITS[alert])


# The alerts beside the burn rates: about emergencies, and about the monitor itself.
_OF_SLO = "{{ $labels.slo }} of {{ $labels.pipeline }}"
_OF_CHECK = "{{ $labels.check }} on {{ $labels.dataset }} of {{ $labels.pipeline }}"
_BY_CHECK = "(pipeline, dataset, check)"
_AGO = "{{ $value | humanizeDuration }}"
_DOWN, _DOWN_WITHIN = span(DOWN_OVER), span(DOWN_WITHIN)
HEALTH: tuple[Rule, ...] = (
    _alert(
        FRESHNESS_EMERGENCY,
        'time() - max by (pipeline, dataset) (recwatch_newest_event_timestamp_seconds{source="(all)"})\n'
        "> on (pipeline, dataset) max by (pipeline, dataset) (recwatch_freshness_emergency_seconds)",
        {"severity": "critical", "check": "freshness"},
        (
            "The feed is far beyond its freshness limit.",
            f"The newest event of {{{{ $labels.dataset }}}} of {{{{ $labels.pipeline }}}} is {_AGO} old.",
        ),
        for_=_wait(FRESHNESS_EMERGENCY),
    ),
    _alert(
        INGESTION_DOWN,
        "((\n"
        f"  recwatch_slo:bad_ratio:{_DOWN} > {DOWN_RATIO}\n"
        f"  and on {BY} (recwatch_slo:bad_checks:{_DOWN_WITHIN}"
        f" > on {BY} (max by {BY} (recwatch_slo_min_bad_checks) - 0.5))\n"
        # Where nobody counts what was sent there are none, and a share of time tells nothing of it.
        f"  and on {BY} (recwatch_slo:valid_events:{_DOWN_WITHIN} >= on {BY} max by {BY} (recwatch_slo_min_events))\n"
        # Between checks that run rarely, too, what was last known holds.
        f") or {_held((_DOWN, _DOWN), HELD_FOR, str(DOWN_RATIO), INGESTION_DOWN)})"
        f" * on {BY} group_left (check, dataset, team)"
        ' max by (pipeline, slo, check, dataset, team) (recwatch_slo_info{check="ingestion"})',
        {"severity": "critical"},
        (
            "Most events do not land.",
            f"{_OF_SLO}: {{{{ $value | humanizePercentage }}}} of what was sent did not land over {_DOWN}.",
        ),
        keep_firing_for=KEEP,
    ),
    _alert(
        NO_DATA,
        f"(time() - max by {BY} (recwatch_slo_last_data_timestamp_seconds)\n"
        f" > on {BY} max by {BY} (recwatch_slo_data_due_seconds)) {ABOUT}",
        {"severity": "warning"},
        (
            "An objective has had no data for longer than is normal.",
            f"{_OF_SLO} had its last good or bad run {_AGO} ago.",
        ),
        for_=_wait(NO_DATA),
    ),
    _alert(
        CHECK_OVERDUE,
        f"time() - max by {_BY_CHECK} (recwatch_check_last_success_timestamp_seconds)\n"
        f"> on {_BY_CHECK} (2 * max by {_BY_CHECK} (recwatch_check_interval_seconds) + 300)",
        {"severity": "warning"},
        ("A check has not succeeded for two of its intervals.", f"{_OF_CHECK} last succeeded {_AGO} ago."),
        for_=_wait(CHECK_OVERDUE),
    ),
    _alert(
        "RecwatchSloBudgetExhausted",
        f"(max by {BY} (recwatch_slo_budget_remaining_ratio) <= 0) + on {BY} group_left (check, dataset, team)"
        " 0 * max by (pipeline, slo, check, dataset, team) (recwatch_slo_info)",
        {"severity": "info"},
        (
            "The error budget of the period is spent.",
            f"{_OF_SLO} has {{{{ $value | humanizePercentage }}}} of its budget left.",
        ),
        for_="10m",
    ),
    _alert(
        "RecwatchMonitorDown",
        # Absent, or there but not one of the replicas leads.
        "absent(recwatch_leader == 1)",
        {"severity": "critical"},
        (
            "No monitor runs the checks.",
            "No daemon that leads has been scraped for five minutes; value {{ $value }}.",
        ),
        for_="5m",
    ),
    _alert(
        "RecwatchWatchdog",
        "vector(1)",
        {"severity": "none"},
        (
            "Always firing, so that a dead man's switch can tell when alerting is broken.",
            "Value {{ $value }}: the way from the rules to the notifications is open.",
        ),
    ),
)


def main() -> None:
    """Write the rule files anew."""
    from pathlib import Path

    folder = Path(__file__).parent / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "recwatch.rules.yml").write_text(rendered(), encoding="utf-8")
    (folder / "recwatch.prometheusrule.yml").write_text(prometheus_rule(), encoding="utf-8")


if __name__ == "__main__":
    main()
