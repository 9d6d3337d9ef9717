"""Three public data sets, through ``init`` without editing a line, against their published figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
Recwatch = Callable[..., Any]


@pytest.fixture
def checked(recwatch: Recwatch, tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    """Initialise a data set and run the checks; return the verdicts by check and subject."""

    def run(name: str, *arguments: str) -> dict[str, dict[str, Any]]:
        if not (DATA / name).is_dir():
            pytest.skip(f"the data set {name} is not beside the checkout")
        path = tmp_path / "recwatch.yml"
        if not path.exists():
            assert recwatch("init", str(DATA / name), "-o", str(path)).code == 0
            assert recwatch("validate", "-c", str(path)).code == 0
        said = recwatch("check", "-c", str(path), "--json", *(arguments or ("--all",)))
        rows = [json.loads(line) for line in said.out.splitlines()]
        return {" ".join(filter(None, (row["check"], row.get("entity"), row.get("feature")))): row for row in rows}

    return run


def test_movielens_100k(checked: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = checked("ml-100k")
    density = found["density"]["details"]
    assert (density["users"], density["items"], density["cells"]) == (943, 1_682, 100_000)
    assert density["density"] == pytest.approx(0.0630467, abs=5e-8)
    assert found["duplicates"]["details"]["surplus"] == 0
    assert found["duplicates"]["total"] == 100_000
    assert [found[f"unknown_ids {entity}"]["good"] for entity in ("user", "item")] == [100_000, 100_000]
    assert found["popularity"]["details"]["gini"] == pytest.approx(0.629, abs=5e-4)


def test_deskdrop(checked: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = checked("deskdrop")
    density = found["density"]["details"]
    assert (density["users"], density["items"], density["cells"]) == (1_895, 2_987, 40_710)
    assert found["contract"]["total"] == 72_312
    assert found["duplicates"]["details"]["surplus"] == 2_284
    assert found["popularity"]["details"]["gini"] == pytest.approx(0.557811, abs=5e-7)


def test_deskdrop_nulls_drift_by_month(
    checked: Callable[..., dict[str, dict[str, Any]]], recwatch: Recwatch, tmp_path: Path
) -> None:
    checked("deskdrop")
    config = str(tmp_path / "recwatch.yml")
    built = recwatch(
        "baseline", "build", "-c", config, "--from", "2016-03-01", "--to", "2016-05-01", "--only", "feature_drift"
    )
    assert built.code == 0, built.err
    published = {5: 0.21, 6: 0.52, 7: 0.19, 8: 0.17, 9: 0.13, 10: 0.0, 11: 0.0}
    outcomes = {}
    for month, share in published.items():
        found = checked(
            "deskdrop", "--from", f"2016-{month:02}-01", "--to", f"2016-{month + 1:02}-01", "--only", "feature_drift"
        )
        row = found["feature_drift userCountry"]
        outcomes[month] = row["verdict"]
        moved = {label: now for label, _before, now in row["details"]["moved"]}
        if "null" in moved:
            assert moved["null"] == pytest.approx(share, abs=0.006)
    assert outcomes[6] == outcomes[10] == outcomes[11] == "bad"
    assert outcomes[5] == outcomes[7] == outcomes[8] == "good"


def test_deskdrop_ids_survive_exactly(checked: Callable[..., dict[str, dict[str, Any]]]) -> None:
    """Signed 64-bit ids; a float cast would merge some of them and change these counts."""
    import duckdb

    found = checked("deskdrop")
    top = [item for item, _change in found["popularity"]["details"].get("movers", [])]
    with duckdb.connect() as connection:
        query = f"SELECT count(DISTINCT personId), min(personId) FROM '{DATA}/deskdrop/interactions.parquet'"
        users, lowest = connection.execute(query).fetchone() or (0, 0)
    assert users == found["density"]["details"]["users"]
    assert lowest < -(2**62)
    assert all(str(int(item)) == item for item in top)


def test_open_bandit_runs_with_what_is_there(
    checked: Callable[..., dict[str, dict[str, Any]]], recwatch: Recwatch, tmp_path: Path
) -> None:
    found = checked("obd-all")
    assert found["contract"]["total"] == 20_000
    assert found["popularity"]["details"]["items"] == 80
    assert found["unknown_ids item"]["verdict"] == "good", "item 0 is a real item"
    assert "density" not in found
    said = recwatch("check", "-c", str(tmp_path / "recwatch.yml"), "--all")
    assert "density on impressions is disabled: it needs the role user" in said.out
    assert "duplicates on impressions is disabled" in said.out
