"""Dashboards, panels and queries held against Grafana's published JSON Schemas, whose objects are closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.dashboards.conftest import panels

SCHEMAS = Path(__file__).parents[2].parent / "shared" / "data" / "grafana-schemas"
pytestmark = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"Grafana's schemas are not at {SCHEMAS}")
FILES = {"state-timeline": "statetimeline", "status-history": "statushistory"}
Boards = list[dict[str, Any]]


def problems(value: Any, file: str, definition: str) -> list[str]:
    """Return what a value breaks of one definition of a schema file."""
    schema = json.loads((SCHEMAS / f"{file}.jsonschema.json").read_text())
    for name, key in (("MatcherConfig", "options"), ("DynamicConfigValue", "value")):
        if name in schema["definitions"]:
            # The schema wants an object; Grafana takes a text for the name of a column, say, or for a unit.
            schema["definitions"][name]["properties"][key] = {"type": ["object", "string"]}
    if definition not in schema["definitions"]:
        return []
    validator = Draft7Validator({"$ref": f"#/definitions/{definition}", "definitions": schema["definitions"]})
    return [f"{'/'.join(map(str, found.absolute_path))}: {found.message}" for found in validator.iter_errors(value)]


def test_dashboards(boards: Boards) -> None:
    for board in boards:
        assert problems(board, "dashboard", "Dashboard") == []


def test_panels_and_queries(boards: Boards) -> None:
    checked = 0
    for board in boards:
        for panel in panels(board):
            if panel["type"] == "row":
                continue
            file = FILES.get(panel["type"], panel["type"])
            where = f"{board['uid']}: {panel['title']}"
            assert problems(panel["options"], file, "Options") == [], where
            custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {})
            assert problems(custom, file, "FieldConfig") == [], where
            for target in panel.get("targets", ()):
                assert problems(target, "prometheus", "Dataquery") == [], where
                checked += 1
    assert checked > 50


def test_the_schemas_do_catch_a_misspelt_key(boards: Boards) -> None:
    panel = next(panel for panel in panels(boards[0]) if panel["type"] == "timeseries")
    assert problems({**panel["options"], "legnd": {}}, "timeseries", "Options")
    assert problems({**panel["targets"][0], "exprr": ""}, "prometheus", "Dataquery")
    assert problems({**boards[0], "schemaVersion": "42"}, "dashboard", "Dashboard")


def test_units_are_grafanas(boards: Boards) -> None:
    written = json.loads((SCHEMAS / "units.jsonschema.json").read_text())["definitions"]
    known = {unit["const"] for unit in written.values() if "const" in unit}
    used = {
        panel["fieldConfig"]["defaults"]["unit"]
        for board in boards
        for panel in panels(board)
        if "unit" in panel.get("fieldConfig", {}).get("defaults", {})
    }
    assert used <= known
