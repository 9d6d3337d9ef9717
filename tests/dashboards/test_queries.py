"""Every query of every panel runs on a real Prometheus that has seen the demo's faults, and finds numbers."""

from __future__ import annotations

import math
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dashboards import preview
from dashboards.render import BOARDS
from dashboards.views import Query
from tests.dashboards.conftest import VARIABLES, Prometheus

pytestmark = pytest.mark.slow
QUERIES = [
    (board.uid, view.title, query)
    for board in BOARDS for section in board.sections for view in section.views for query in view.queries
]  # fmt: skip
Seen = tuple[Prometheus, datetime, datetime]


@pytest.mark.parametrize(
    ("title", "query"),
    [(title, query) for _uid, title, query in QUERIES],
    ids=[f"{uid}-{title}-{query.legend}".replace(" ", "_") for uid, title, query in QUERIES],
)
def test_a_query_finds_numbers(title: str, query: Query, watched: Seen) -> None:
    prometheus, start, end = watched
    # What was asked for the present is asked over the play, too: a fault is over by the end.
    found = prometheus.over_time(query.expression, start, end)
    assert found, f"{title}: no data for {query.expression}"
    values = [float(value) for series in found for _at, value in series["values"]]
    assert not any(math.isnan(value) or math.isinf(value) for value in values), f"{title}: {query.expression}"


def test_variables_find_their_values(boards: list[dict[str, Any]], watched: Seen) -> None:
    prometheus, _start, _end = watched
    assert prometheus.ask("/api/v1/label/pipeline/values") == ["demo"]
    assert "events-freshness" in prometheus.ask("/api/v1/label/slo/values")


def test_the_faults_can_be_seen(watched: Seen) -> None:
    """What the panels are for: each fault of the play shows in the panel that is about it."""
    prometheus, start, end = watched
    of = {title: query.expression for _uid, title, query in QUERIES if not query.dashed}
    peak = {}
    for title in ("Unknown ids", "Duplicates", "Age of the data", "Burn rate over an hour"):
        found = prometheus.over_time(of[title], start, end)
        peak[title] = max(float(value) for series in found for _at, value in series["values"])
    assert peak["Unknown ids"] > 0.05
    assert peak["Duplicates"] > 0.02
    assert peak["Age of the data"] > 8
    assert peak["Burn rate over an hour"] > 1


def test_previews_show_data_in_their_layout(watched: Seen, tmp_path: Path) -> None:
    prometheus, start, end = watched
    chosen = {**VARIABLES, "$slo": "events-freshness"}
    for board in BOARDS:
        path = tmp_path / f"{board.uid}.png"
        shown = preview.draw(board, preview.Prometheus(prometheus.url, start, end, chosen), path)
        # What asks for the present may find nothing wrong in it any more.
        assert shown >= sum(len(section.views) for section in board.sections) - 2
        assert path.stat().st_size > 50_000, "hardly anything is drawn"
    if "RECWATCH_PREVIEWS" in os.environ:
        shutil.copytree(tmp_path, os.environ["RECWATCH_PREVIEWS"], dirs_exist_ok=True)
