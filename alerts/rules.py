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

from alerts.burn import WORKBOOK, Tier, sustained

BY = "(pipeline, slo)"
RUNBOOKS = "https://github.com/recwatch/recwatch/blob/main/alerts/runbooks"
INTERVAL = "1m"
# How long a burn alert stays after its last sign, so that it does not flap between sparse checks.
KEEP = "5m"

_FIVE = sustained(5, timedelta(hours=6), timedelta(minutes=30), timedelta(days=28))
TIERS: tuple[Tier, ...] = (*WORKBOOK[:2], _FIVE, *WORKBOOK[2:])

Rule = dict[str, Any]


def span(duration: timedelta) -> str:
    """Return a duration as PromQL writes it.

    Examples:
        >>> span(timedelta(minutes=30)), span(timedelta(hours=6)), span(timedelta(days=3))
        ('30m', '6h', '3d')
    """
    minutes = int(duration.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def pack() -> dict[str, Any]:
    """Return the rule file as plain values."""
    longs = sorted({tier.long for tier in TIERS})
    windows = sorted({*longs, *(tier.short for tier in TIERS)})
    return {
        "groups": [
            _group("recwatch-slo-ratios", [_bad_ratio(window) for window in windows]),
            _group("recwatch-slo-counts", [rule for window in longs for rule in _counts(window)]),
            _group("recwatch-slo-burn", [_burn(tier) for tier in TIERS]),
            _group("recwatch-health", HEALTH),
        ]
    }


def rendered() -> str:
    """Return the rule file as text."""
    head = "# Made by alerts/rules.py (python -m alerts.rules); a test renders it again and compares.\n"
    return head + _yaml(pack())


def prometheus_rule() -> str:
    """Return the same rules as an object of the Prometheus operator."""
    head = "# Made by alerts/rules.py (python -m alerts.rules); a test renders it again and compares.\n"
    return head + _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "recwatch", "labels": {"app.kubernetes.io/name": "recwatch"}},
            "spec": pack(),
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
    expr = (
        "(\n"
        f"  recwatch_slo:bad_ratio:{long} > {on} {threshold}\n"
        f"  and {on} (recwatch_slo:bad_ratio:{short} > {on} {threshold})\n"
        # increase() extrapolates, so a whole number may come out a little lower.
        f"  and {on} (recwatch_slo:bad_checks:{long} > {on} (max by {BY} (recwatch_slo_min_bad_checks) - 0.5))\n"
        # In a young history the long window holds little more than the short one.
        f"  and {on} (max by {BY} (recwatch_slo_observed_seconds) >= {seconds})\n"
        f"  unless {on} (recwatch_slo:valid_events:{long} < {on} max by {BY} (recwatch_slo_min_events))\n"
        f") * {on} group_left (team) max by (pipeline, slo, team) (recwatch_slo_info)"
    )
    what = "paging" if tier.severity == "critical" else "ticket"
    description = (
        "{{ $labels.slo }} of {{ $labels.pipeline }}: {{ $value | humanizePercentage }} bad over"
        f" {long}, and it still burns over {short} ({what} tier {tier.name})."
    )
    return _alert(
        "RecwatchSloBudgetBurn",
        expr,
        {"severity": tier.severity, "tier": tier.name},
        ("The error budget burns too fast.", description),
        keep_firing_for=KEEP,
    )


def _alert(name: str, expr: str, labels: Mapping[str, str], said: tuple[str, str], **times: str) -> Rule:
    summary, description = said
    annotations = {
        "summary": summary,
        "description": description,
        "runbook_url": f"{RUNBOOKS}/{name.lower()}.md",
    }
    # "for" is a word of Python.
    waits = {key.rstrip("_"): value for key, value in times.items()}
    return {"alert": name, "expr": expr, **waits, "labels": dict(labels), "annotations": annotations}


# The alerts beside the burn rates: about emergencies, and about the monitor itself.
_OF_CHECK = "{{ $labels.check }} on {{ $labels.dataset }} of {{ $labels.pipeline }}"
_BY_CHECK = "(pipeline, dataset, check)"
HEALTH: tuple[Rule, ...] = (
    _alert(
        "RecwatchFreshnessEmergency",
        'time() - max by (pipeline, dataset) (recwatch_newest_event_timestamp_seconds{source="(all)"})\n'
        "> on (pipeline, dataset) 6 * max by (pipeline, dataset) (recwatch_freshness_max_age_seconds)",
        {"severity": "critical", "slo": "freshness"},
        (
            "The feed is far beyond its freshness limit.",
            "The newest event of {{ $labels.dataset }} of {{ $labels.pipeline }} is"
            " {{ $value | humanizeDuration }} old, more than six times the limit.",
        ),
        for_="1m",
    ),
    _alert(
        "RecwatchSloNoData",
        f"max by {BY} (recwatch_slo_objective_ratio)\n"
        f"unless on {BY} (max by {BY} (recwatch_slo_slice_good)"
        f" or max by {BY} (increase(recwatch_slo_events_total[1h]) > 0))",
        {"severity": "warning"},
        (
            "An objective has no data.",
            "{{ $labels.slo }} of {{ $labels.pipeline }} has an objective but nothing to hold against it.",
        ),
        for_="15m",
    ),
    _alert(
        "RecwatchCheckOverdue",
        f"time() - max by {_BY_CHECK} (recwatch_check_last_success_timestamp_seconds)\n"
        f"> on {_BY_CHECK} (2 * max by {_BY_CHECK} (recwatch_check_interval_seconds) + 300)",
        {"severity": "warning"},
        (
            "A check has not succeeded for two of its intervals.",
            f"{_OF_CHECK} last succeeded {{{{ $value | humanizeDuration }}}} ago.",
        ),
    ),
    _alert(
        "RecwatchMonitorDown",
        'absent(up{job="recwatch"} == 1)',
        {"severity": "critical"},
        (
            "The monitor itself is down.",
            "No recwatch target of the job {{ $labels.job }} has answered for five minutes.",
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
