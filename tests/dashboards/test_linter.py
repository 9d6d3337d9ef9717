"""The rules of Grafana's dashboard linter, as tests.

Left out: those that demand variables and matchers for ``job`` and ``instance``. A recwatch is found by its pipeline,
which is a label of every series; and the rules about Loki.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from checks.metrics import BY_NAME, Kind
from tests.dashboards.conftest import panels, substituted

Boards = list[dict[str, Any]]
COUNTERS = [metric.name for metric in BY_NAME.values() if metric.kind is Kind.COUNTER]


def views(boards: Boards) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every panel that shows something."""
    for board in boards:
        for panel in panels(board):
            if panel["type"] != "row":
                yield f"{board['uid']}: {panel['title']}", panel


def queries(boards: Boards) -> Iterator[tuple[str, str]]:
    for where, panel in views(boards):
        for target in panel.get("targets", ()):
            yield where, target["expr"]


def test_template_datasource_rule(boards: Boards) -> None:
    for board in boards:
        first = board["templating"]["list"][0]
        assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
        assert first["label"] == "Data source"


def test_template_on_time_change_reload_rule(boards: Boards) -> None:
    for board in boards:
        for variable in board["templating"]["list"]:
            assert variable["type"] == "datasource" or variable["refresh"] == 2


def test_template_label_promql_rule(boards: Boards) -> None:
    for board in boards:
        for variable in board["templating"]["list"][1:]:
            asked = re.fullmatch(r"label_values\((.+), (pipeline|slo)\)", variable["query"])
            assert asked is not None
            promql_parser.parse(substituted(asked[1]))


def test_panel_title_description_rule(boards: Boards) -> None:
    for where, panel in views(boards):
        assert panel["title"], where
        assert len(panel["description"]) > 20, where


def test_panel_datasource_rule(boards: Boards) -> None:
    for where, panel in views(boards):
        if panel["type"] != "text":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"]), where


def test_panel_units_rule(boards: Boards) -> None:
    for where, panel in views(boards):
        if panel["type"] != "text":
            assert panel["fieldConfig"]["defaults"]["unit"], where


def test_panel_no_targets_rule(boards: Boards) -> None:
    for where, panel in views(boards):
        assert panel["type"] == "text" or panel["targets"], where


def test_panel_thresholds(boards: Boards) -> None:
    for where, panel in views(boards):
        if panel["type"] != "text":
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"] is None, where


def test_target_promql_rule(boards: Boards) -> None:
    for where, expression in queries(boards):
        try:
            promql_parser.parse(substituted(expression))
        except ValueError as error:
            pytest.fail(f"{where}: {error}")


def test_target_rate_interval_rule(boards: Boards) -> None:
    for where, expression in queries(boards):
        for function, window in re.findall(r"\b(rate|irate|increase)\([^\[]*\[([^\]]+)\]", expression):
            assert window in ("$__rate_interval", "$__range"), f"{where}: {function} over {window}"


def test_target_counter_agg_rule(boards: Boards) -> None:
    for where, expression in queries(boards):
        for counter in COUNTERS:
            for found in re.finditer(rf"{counter}\b", expression):
                before = expression[: found.start()]
                assert re.search(r"(rate|increase)\($", before), f"{where}: {counter} as it is"


def test_every_query_is_narrowed_to_the_pipelines_chosen(boards: Boards) -> None:
    for where, expression in queries(boards):
        for selector in re.findall(r"\{([^}]*)\}", expression):
            assert 'pipeline=~"$pipeline' in selector, f"{where}: {expression}"


def test_uneditable_dashboard_rule(boards: Boards) -> None:
    assert not any(board["editable"] for board in boards)
