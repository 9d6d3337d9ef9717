"""OpenSLO: every document has what the specification requires."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import promql_parser
import yaml

from alerts import openslo
from alerts.burn import PRESETS
from alerts.slo import Kind, Slo

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
SLOS = [
    Slo("events-freshness", "events", "freshness", Kind.SLICES, 0.99, 28 * DAY, MINUTE, PRESETS["workbook"]),
    Slo("events-unknown_ids-user", "events", "unknown_ids", Kind.EVENTS, 0.9, 7 * DAY, MINUTE, PRESETS["workbook"]),
]


def test_every_document_is_whole() -> None:
    found = list(yaml.safe_load_all(openslo.rendered(SLOS, "shop")))
    kinds = [document["kind"] for document in found]
    assert (kinds.count("Service"), kinds.count("SLO")) == (1, 2)
    # At 90 % the fast page can never fire.
    assert kinds.count("AlertPolicy") == kinds.count("AlertCondition") == sum(len(slo.active) for slo in SLOS)
    for document in found:
        assert document["apiVersion"] == "openslo/v1"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])
        assert len(document["spec"]["description"]) <= 1050


def test_long_names_fit_and_stay_apart() -> None:
    slos = [replace(slo, name=f"{'long' * 15}-{slo.name}-{part}") for slo in SLOS for part in ("user", "item")]
    found = list(openslo.documents(slos, "x" * 64))
    names = [(document["kind"], document["metadata"]["name"]) for document in found]
    assert len(set(names)) == len(names) == 1 + len(slos) + 2 * sum(len(slo.active) for slo in slos)
    for document in found:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", document["metadata"]["name"])
        assert len(document["metadata"]["displayName"]) <= 63
        policies = document["spec"].get("alertPolicies", ())
        assert {("AlertPolicy", policy) for policy in policies} <= set(names)


def test_objectives_say_what_they_count() -> None:
    found = [document for document in yaml.safe_load_all(openslo.rendered(SLOS, "shop")) if document["kind"] == "SLO"]
    slices, events = (document["spec"] for document in found)
    assert (slices["budgetingMethod"], events["budgetingMethod"]) == ("Timeslices", "Occurrences")
    assert slices["objectives"][0] == {
        "displayName": "good", "target": 0.99, "timeSliceTarget": 1.0, "timeSliceWindow": "1m",
    }  # fmt: skip
    assert events["timeWindow"] == [{"duration": "7d", "isRolling": True}]
    assert (
        'slo="events-unknown_ids-user"'
        in events["indicator"]["spec"]["ratioMetric"]["good"]["metricSource"]["spec"]["query"]
    )


def test_queries_hold_whatever_a_pipeline_is_called() -> None:
    name = 'the "new"\\shop\nof {x="y"} \u00e9'
    slos = [replace(slo, name=f"{name}-{slo.name}") for slo in SLOS]
    for slo, document in zip(slos, [d for d in openslo.documents(slos, name) if d["kind"] == "SLO"], strict=True):
        for part in ("good", "total"):
            query = document["spec"]["indicator"]["spec"]["ratioMetric"][part]["metricSource"]["spec"]["query"]
            series = promql_parser.parse(query).expr.expr
            assert {(of.name, of.value) for of in series.matchers.matchers} >= {("pipeline", name), ("slo", slo.name)}


def test_a_condition_has_the_long_window_and_says_what_is_lost() -> None:
    found = [d for d in yaml.safe_load_all(openslo.rendered(SLOS[:1], "shop")) if d["kind"] == "AlertCondition"]
    assert found[0]["spec"]["condition"] == {
        "kind": "burnrate", "op": "gt", "threshold": 13.44, "lookbackWindow": "1h", "alertAfter": "0m",
    }  # fmt: skip
    assert "which OpenSLO cannot say" in found[0]["spec"]["description"]
