"""The shipped files: as rendered, addressable, without overlaps, every link leads somewhere, every metric exists."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from alerts.rules import TIERS, pack
from checks import CATALOGUE
from checks.metrics import BY_NAME
from dashboards import render, shipped
from tests.dashboards.conftest import panels

Boards = list[dict[str, Any]]
MINUTE = timedelta(minutes=1)
# What Prometheus and its client's own collectors add.
THEIRS = {"ALERTS", "process_resident_memory_bytes"}
RECORDED = {rule["record"] for group in pack(TIERS)["groups"] for rule in group["rules"] if "record" in rule}


def test_they_are_rendered_from_the_code_as_it_is(tmp_path: Path) -> None:
    for again in range(2):
        render.main(tmp_path / str(again))
    for first, second in zip(sorted((tmp_path / "0").iterdir()), sorted((tmp_path / "1").iterdir()), strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes() == (shipped.FOLDER / first.name).read_bytes(), "run python -m dashboards.render"
    assert {path.name for path in (tmp_path / "0").iterdir()} == {path.name for path in shipped.FOLDER.iterdir()}


def test_each_has_a_fixed_address_and_numbers_of_its_own(boards: Boards) -> None:
    assert [board["uid"] for board in boards] == [
        "recwatch-debug", "recwatch-executive", "recwatch-on-call", "recwatch-slo",
    ]  # fmt: skip
    for board in boards:
        numbers = [panel["id"] for panel in panels(board)]
        assert len(set(numbers)) == len(numbers)
        assert len(board["uid"]) <= 40, "Grafana refuses a longer one"


def test_no_panel_covers_another(boards: Boards) -> None:
    for board in boards:
        places = [panel["gridPos"] for panel in panels(board)]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        cells = [
            (column, row)
            for place in places
            for column in range(place["x"], place["x"] + place["w"])
            for row in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells), board["uid"]
        rows = sorted((place["y"], place["h"]) for place in places if place["x"] == 0)
        assert all(y + h == after for (y, h), (after, _h) in pairwise(rows)), f"{board['uid']}: a hole"


def test_links_lead_to_dashboards_that_are_here(boards: Boards) -> None:
    known = {board["uid"] for board in boards}
    for board in boards:
        written = " ".join([
            *(link["url"] for panel in panels(board) for link in panel.get("links", ())),
            *(panel["options"]["content"] for panel in panels(board) if panel["type"] == "text"),
        ])  # fmt: skip
        assert set(re.findall(r"/d/([\w-]+)", written)) <= known - {board["uid"]}
        assert "/d/" in written


def test_every_metric_is_exposed_or_recorded(boards: Boards) -> None:
    for board in boards:
        asked = [target["expr"] for panel in panels(board) for target in panel.get("targets", ())]
        asked += [mark["expr"] for mark in board["annotations"]["list"]]
        asked += [entry["query"] for entry in board["templating"]["list"] if entry["type"] == "query"]
        for expression in asked:
            # Names of labels stand within braces and after by, on and group_left; those of metrics before { or [.
            names = set(re.findall(r"([a-zA-Z_:][\w:]*)\{", expression))
            names |= set(re.findall(r"label_values\((\w+)", expression))
            names |= set(re.findall(r"(?:recwatch|process)_[\w:]+", expression))
            assert names <= {*BY_NAME, *RECORDED, *THEIRS}, expression


@pytest.mark.parametrize("metric", sorted(BY_NAME))
def test_what_is_exposed_can_be_seen(metric: str, boards: Boards) -> None:
    """Each metric is on some dashboard, or in a rule that is: nobody exports what nobody looks at."""
    rules = " ".join(rule["expr"] for group in pack(TIERS)["groups"] for rule in group["rules"])
    drawn = " ".join(str(board) for board in boards)
    assert metric in drawn + rules or metric in {
        "recwatch_newest_ingest_timestamp_seconds",  # the age of arrival; the age of the event is what is promised
        "recwatch_contract_rows_total",  # the contract's objective counts them; its rules are drawn
        "recwatch_check_last_success_timestamp_seconds",
        "recwatch_check_enabled",
        "recwatch_drift_sample_size",
        "recwatch_drift_features_over_threshold",
        "recwatch_catalogue_effective_items",
        "recwatch_signal_value",  # what is judged is recwatch_check_value; by source it has a unit of its own
        "recwatch_leader",
        "recwatch_slo_observed_seconds",
    }, f"{metric} is neither drawn nor alerted on"


def test_a_rate_is_taken_over_no_less_than_the_time_between_two_counts(boards: Boards) -> None:
    """Of a counter that grows once an hour a rate over minutes is nothing most of the time."""
    every = {check.id: check.settings_type().every for check in CATALOGUE}
    seldom = {name for name, metric in BY_NAME.items() if every.get(metric.check or "", MINUTE) > MINUTE}
    found = [
        (panel["title"], panel.get("interval"), every[str(BY_NAME[name].check)])
        for board in boards for panel in panels(board) for target in panel.get("targets", ())
        for name in set(re.findall(r"rate\((\w+)\{", target["expr"])) & seldom
    ]  # fmt: skip
    assert found == [("Click-through", "1h", timedelta(hours=1))]
