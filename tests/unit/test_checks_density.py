"""What density shows: the matrix of what is active, and that of the catalogue where there is one."""

from __future__ import annotations

from datetime import UTC, datetime

from checks.check import Outcome, Verdict
from checks.density import Density, DensitySettings
from checks.measure import Tally
from checks.window import Window

WINDOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))
ACTIVE = {"density": 0.5, "users": 4, "items": 6, "cells": 12}
CATALOGUE = {"catalogue_density": 0.012, "catalogue_users": 10, "catalogue_items": 100}


def gauges(details: dict[str, float]) -> dict[tuple[str, str], float]:
    verdict = Verdict("density", "events", WINDOW, Outcome.GOOD, "density", details=details)
    samples = Density(DensitySettings()).gauges(Tally("events", WINDOW), [verdict])
    assert {sample.labels["dataset"] for sample in samples} == {"events"}
    return {(sample.metric, sample.labels["matrix"]): sample.value for sample in samples}


def test_the_matrix_of_what_is_active_and_that_of_the_catalogue_share_their_cells() -> None:
    of_the_active = {
        ("recwatch_matrix_density_ratio", "active"): 0.5, ("recwatch_matrix_users", "active"): 4,
        ("recwatch_matrix_items", "active"): 6, ("recwatch_matrix_cells", "active"): 12,
    }  # fmt: skip
    assert gauges({**ACTIVE, **CATALOGUE}) == of_the_active | {
        ("recwatch_matrix_density_ratio", "catalogue"): 0.012, ("recwatch_matrix_users", "catalogue"): 10,
        ("recwatch_matrix_items", "catalogue"): 100, ("recwatch_matrix_cells", "catalogue"): 12,
    }  # fmt: skip


def test_without_a_catalogue_there_is_no_matrix_of_it() -> None:
    assert {matrix for _, matrix in gauges({**ACTIVE, **dict.fromkeys(CATALOGUE, None)})} == {"active"}


def test_a_catalogue_of_items_alone_has_cells_but_no_density() -> None:
    shown = gauges({**ACTIVE, **dict.fromkeys(CATALOGUE, None), "catalogue_items": 100})
    assert {metric: value for (metric, matrix), value in shown.items() if matrix == "catalogue"} == {
        "recwatch_matrix_items": 100,
        "recwatch_matrix_cells": 12,
    }
