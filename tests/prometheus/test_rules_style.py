"""The rule pack keeps to the conventions that linters of rules ask for, and to the metrics that there are."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from alerts import rules, runbook
from alerts.burn import Tier
from checks import CATALOGUE
from checks.metrics import BY_NAME

PACK = rules.pack()
RULES = [rule for group in PACK["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
LONGEST_RANGE = timedelta(days=15)


def selected(rule: dict[str, Any]) -> set[str]:
    return set(re.findall(r"\b(recwatch_[a-z_]+(?::\w+:\w+)?)", rule["expr"]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_exists(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    found = selected(rule)
    assert found - set(BY_NAME) - RECORDED == set()


def test_every_metric_about_objectives_is_used() -> None:
    used = {name for rule in RULES for name in selected(rule)}
    about = {name for name in BY_NAME if name.startswith("recwatch_slo_")}
    # For people and dashboards: what an alert is held against.
    assert about - used == {"recwatch_slo_objective_ratio", "recwatch_slo_period_seconds"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']} {rule['labels'].get('tier', '')}")
def test_alerts_keep_to_the_conventions(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Recwatch[A-Za-z]{1,32}", rule["alert"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert not any("$value" in text for text in rule["labels"].values()), (
        "a value in a label makes a new alert each time"
    )
    said = rule["annotations"]
    assert re.fullmatch(r"[A-Z][^{}]*\.", said["summary"]), "a fixed sentence"
    assert "{{" in said["description"], "templated"
    assert said["runbook"] == f"recwatch runbook {rule['alert']}"
    assert runbook.text(rule["alert"]) is not None


def test_summaries_are_the_same_within_an_alert() -> None:
    by_name: dict[str, set[str]] = {}
    for rule in ALERTS:
        by_name.setdefault(rule["alert"], set()).add(rule["annotations"]["summary"])
    assert all(len(texts) == 1 for texts in by_name.values())


def test_groups_are_small_and_often() -> None:
    for group in PACK["groups"]:
        assert len(group["rules"]) <= 20
        assert len(group["name"]) <= 40
        assert group["interval"] == "1m"


def test_every_runbook_has_its_alert_and_its_parts() -> None:
    assert set(runbook.names()) == {rule["alert"].lower() for rule in ALERTS}
    for name in runbook.names():
        text = runbook.text(name) or ""
        for part in ("Meaning", "Impact", "First look", "Likely causes", "What to do", "How to silence"):
            assert re.search(
                rf"^## .*{part}|^## Likely causes, and {part.lower()}", text, re.MULTILINE | re.IGNORECASE
            ), part


def test_the_runbook_of_a_budget_that_burns_has_a_section_for_each_check() -> None:
    text = runbook.text("RecwatchSloBudgetBurn") or ""
    assert {check.id for check in CATALOGUE} == set(re.findall(r"^### (\w+)$", text, re.MULTILINE))


def test_ranges_are_within_what_prometheus_keeps() -> None:
    for rule in RULES:
        for number, unit in re.findall(r"\[(\d+)([mhd])\]", rule["expr"]):
            length = timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[unit]: int(number)})
            assert length <= LONGEST_RANGE


def test_joins_survive_a_second_replica() -> None:
    """Whatever the daemon exports is aggregated before it is compared or joined."""
    for rule in ALERTS:
        bare = re.findall(r"(?<![\w(:])(?:on \([^)]*\) )?(recwatch_(?!slo:)\w+)(?!\w*\))", rule["expr"])
        for name in bare:
            at = rule["expr"].index(name)
            before = rule["expr"][:at]
            assert before.count("(") > before.count(")") or "absent" in before, (rule["alert"], name)


def test_tiers_of_ones_own_and_links_are_rendered(tmp_path: Path) -> None:
    own = Tier("page_soon", "critical", timedelta(minutes=2), timedelta(seconds=60), burn_rate=5)
    text = rules.rendered((own,), "https://recwatch.example/runbooks/")
    assert "recwatch_slo:bad_ratio:2m" in text
    assert "runbook_url: https://recwatch.example/runbooks/recwatchslobudgetburn" in text
    (tmp_path / "own.yml").write_text(text)
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "own.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
