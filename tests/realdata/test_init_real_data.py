"""What ``init`` makes of three public data sets, and that it runs as it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from checks.check import Verdict
from checks.window import Window
from monitor.clock import SystemClock
from monitor.config import Config, TimeColumn
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# Long enough for all three.
ALWAYS = Window(datetime(1997, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
Written = Callable[[str], tuple[Config, str]]
Key = tuple[str, str | None]


@pytest.fixture
def written(recwatch: Callable[..., Any], tmp_path: Path) -> Written:
    """Write the configuration of a data set; return it, read again, and its text."""

    def run(name: str) -> tuple[Config, str]:
        if not (DATA / name).is_dir():
            pytest.skip(f"the data set {name} is not beside the checkout")
        path = tmp_path / "recwatch.yml"
        said = recwatch("init", str(DATA / name), "-o", str(path))
        assert said.code == 0, said
        return load(path), path.read_text()

    return run


def roles(config: Config, name: str) -> dict[str, str]:
    declared = config.datasets[name].roles
    return {role: found.column if isinstance(found, TimeColumn) else found for role, found in declared.items()}


def judged(config: Config) -> tuple[Mapping[Key, Verdict], dict[str, str]]:
    """Run every check over all of the data; return verdicts by check and subject, and what is disabled."""
    pipeline = build(config)
    runner = Runner(pipeline, None, SystemClock())
    (name,) = config.watched()
    found = runner.run(name, [(check, ALWAYS) for check in pipeline.checks[name]])
    pipeline.close()
    verdicts = {
        (verdict.check, verdict.entity or verdict.feature): verdict for each in found for verdict in each.verdicts
    }
    return verdicts, {entry.check: entry.reason for entry in runner.disabled.values()}


def test_movielens_100k(written: Written) -> None:
    config, text = written("ml-100k")
    assert roles(config, "interactions") == {
        "user": "user_id", "item": "item_id", "event_time": "timestamp", "value": "rating",
    }  # fmt: skip
    assert config.datasets["interactions"].links == {"users": "users", "items": "items"}
    assert config.datasets["interactions"].features == ("rating",)
    assert roles(config, "items") == {"item": "item_id"}
    assert roles(config, "users") == {"user": "user_id"}
    assert "event_time: {column: timestamp, unit: s}  # sure" in text

    verdicts, disabled = judged(config)
    density = verdicts["density", None].details
    assert verdicts["contract", None].total == 100_000
    assert (density["users"], density["items"], density["cells"]) == (943, 1_682, 100_000)
    assert density["density"] == pytest.approx(0.0630467, abs=5e-8)
    assert verdicts["duplicates", None].details["surplus"] == 0
    for entity in ("user", "item"):
        verdict = verdicts["unknown_ids", entity]
        assert (verdict.good, verdict.total) == (100_000, 100_000)
    assert disabled == {}


def test_deskdrop(written: Written) -> None:
    config, text = written("deskdrop")
    assert roles(config, "interactions") == {
        "user": "personId", "item": "contentId", "event_time": "timestamp", "event_type": "eventType",
    }  # fmt: skip
    assert config.datasets["interactions"].features == ("userAgent", "userRegion", "userCountry")
    assert "# event_id: no column found" in text, "a sessionId is none"
    assert "# items: no table found" in text

    verdicts, _disabled = judged(config)
    density = verdicts["density", None].details
    assert verdicts["contract", None].total == 72_312
    assert (density["users"], density["items"], density["cells"]) == (1_895, 2_987, 40_710)
    assert verdicts["duplicates", None].details["surplus"] == 2_284


def test_open_bandit(written: Written) -> None:
    config, text = written("obd-all")
    assert roles(config, "impressions") == {"item": "item_id", "event_time": "timestamp", "event_type": "click"}
    found = config.datasets["impressions"]
    assert found.links == {"items": "items"}
    assert len(found.features) == 20
    assert {"policy", "position"} <= set(found.features)
    assert "at most 20 are chosen" in text
    placeholders = found.checks.unknown_ids.placeholders  # type: ignore[attr-defined]
    assert "0" not in placeholders, "there is an item 0"
    assert "'0' stands for no id elsewhere, but is an id of the table" in text
    assert "# user: no column found; disabled without it: duplicates, density" in text

    verdicts, disabled = judged(config)
    assert verdicts["contract", None].total == 20_000
    assert verdicts["unknown_ids", "item"].good == 20_000
    clicked = verdicts["click_through", None].details
    assert (clicked["shown"], clicked["hits"]) == (20_000, 80)
    assert disabled == {
        "duplicates": "needs the role event_id, or else user", "density": "needs the role user",
    }  # fmt: skip
