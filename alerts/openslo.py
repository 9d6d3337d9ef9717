"""Writes objectives as OpenSLO v1, for tools that read it. Source: the OpenSLO specification, version v1.

What is lost: an AlertCondition knows one look-back window, so of a tier only the long one is
written; minimum counts and the gate on young histories are ours alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from alerts.burn import Tier
from alerts.rules import span
from alerts.slo import Kind, Slo

VERSION = "openslo/v1"
LONGEST_NAME = 63
SEVERITIES = {"critical": "page", "warning": "ticket"}


def rendered(slos: Sequence[Slo], service: str) -> str:
    """Return the documents of a service and its objectives as YAML."""
    return yaml.safe_dump_all(documents(slos, service), sort_keys=False, width=110, allow_unicode=True)


def documents(slos: Sequence[Slo], service: str) -> Iterator[dict[str, Any]]:
    """Yield the documents: the service, then each objective with its alert policies and conditions."""
    about = f"Data of the recommendation pipeline {service}, as recwatch sees it."
    yield _document("Service", service, {"description": about})
    for slo in slos:
        yield _document("SLO", slo.name, _objective(slo, service))
        for tier in slo.active:
            yield _document("AlertPolicy", f"{slo.name}-{tier.name}", _policy(slo, tier))
            yield _document("AlertCondition", f"{slo.name}-{tier.name}", _condition(slo, tier))


def name_of(text: str) -> str:
    """Return a name as OpenSLO takes it: letters, digits and hyphens; of a longer one its beginning and a hash.

    Examples:
        >>> name_of("events-unknown_ids-user")
        'events-unknown-ids-user'
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "recwatch"
    if len(name) <= LONGEST_NAME:
        return name
    # What differs at the end only, such as users and items, stays apart.
    ending = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name[: LONGEST_NAME - len(ending)].rstrip("-") + ending


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    metadata = {"name": name_of(name), "displayName": shown}
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _objective(slo: Slo, service: str) -> dict[str, Any]:
    is_events = slo.kind is Kind.EVENTS
    target: dict[str, Any] = {"displayName": "good", "target": slo.objective}
    if not is_events:
        target |= {"timeSliceTarget": 1.0, "timeSliceWindow": span(slo.interval)}
    counted = "events" if is_events else "time"
    indicator = {"metadata": {"name": name_of(f"{slo.name}-indicator")}, "spec": {"ratioMetric": _ratio(slo, service)}}
    return {
        "description": f"{slo.check} of {slo.dataset}: {slo.objective:.4%} of {counted} good.",
        "service": name_of(service),
        "indicator": indicator,
        "timeWindow": [{"duration": span(slo.period), "isRolling": True}],
        "budgetingMethod": "Occurrences" if is_events else "Timeslices",
        "objectives": [target],
        "alertPolicies": [name_of(f"{slo.name}-{tier.name}") for tier in slo.active],
    }  # fmt: skip


def _ratio(slo: Slo, service: str) -> dict[str, Any]:
    # A string of JSON is one of PromQL.
    where = ",".join(
        f"{label}={json.dumps(value, ensure_ascii=False)}"
        for label, value in (("pipeline", service), ("slo", slo.name))
    )
    if slo.kind is Kind.EVENTS:
        series = f"recwatch_slo_events_total{{{where}"
        return {"counter": True, "good": _query(f'{series},result="good"}}'), "total": _query(f"{series}}}")}
    checks = f"recwatch_slo_checks_total{{{where}"
    return {
        "counter": True, "good": _query(f'{checks},result="good"}}'),
        "total": _query(f'{checks},result=~"good|bad"}}'),
    }  # fmt: skip


def _query(series: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": f"sum(max without (instance) ({series}))"}}}


def _policy(slo: Slo, tier: Tier) -> dict[str, Any]:
    return {
        "description": f"{SEVERITIES[tier.severity]}: tier {tier.name} of {slo.name}.",
        "alertWhenNoData": False, "alertWhenResolved": True, "alertWhenBreaching": True,
        "conditions": [{"conditionRef": name_of(f"{slo.name}-{tier.name}")}],
        "notificationTargets": [],
    }  # fmt: skip


def _condition(slo: Slo, tier: Tier) -> dict[str, Any]:
    short = span(tier.short)
    return {
        "description": f"The budget burns too fast. recwatch also asks for it over {short}, which OpenSLO cannot say.",
        "severity": SEVERITIES[tier.severity],
        "condition": {
            "kind": "burnrate", "op": "gt", "threshold": round(tier.factor(slo.period), 6),
            "lookbackWindow": span(tier.long), "alertAfter": "0m",
        },
    }  # fmt: skip
