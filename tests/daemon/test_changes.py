"""Deploys that a team lists in a table of its own stand on the timeline, each once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from checks.window import Window
from monitor import chores, happenings
from monitor.changes import read
from monitor.clock import ManualClock
from monitor.config import ChangesConfig, Config
from monitor.crosscheck import crosscheck
from monitor.daemon import Daemon
from monitor.errors import EngineError
from monitor.exposition_slo import about_changes
from monitor.resolve import Pipeline, build
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
DAY = Window(NOON - timedelta(days=2), NOON + timedelta(days=1))
CHANGES = ChangesConfig(dataset="releases", text="version", kind="model")
TABLE = """at,version,by
2026-03-03 11:00:00,ranker 41,ann
2026-03-03 11:30:00,"ranker  42
(canary)",bob
2026-03-01 11:30:00,ranker 39,ann
2026-03-03 11:40:00,,ann
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "releases.csv").write_text(TABLE)
    (tmp_path / "events.csv").write_text("at\n2026-03-03 11:59:00\n")
    return tmp_path


def config(folder: Path) -> Config:
    return Config.model_validate(
        {
            "state": f"sqlite:///{folder}/state.db",
            "datasets": {
                "events": {"files": f"{folder}/events.csv", "roles": {"event_time": "at"}},
                "releases": {"files": f"{folder}/releases.csv", "roles": {"event_time": "at"}},
            },
            "changes": [CHANGES.model_dump()],
        }
    )


@pytest.fixture
def pipeline(folder: Path) -> Iterator[Pipeline]:
    with closing(build(config(folder))) as pipeline:
        yield pipeline


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{folder}/state.db", "default")) as store:
        yield store


def test_each_is_noted_once(pipeline: Pipeline, store: Store, folder: Path) -> None:
    assert read(pipeline, store, CHANGES, NOON) == 2
    assert read(pipeline, store, CHANGES, NOON) == 0
    found = [(one.at, one.kind, one.text, one.source) for one in happenings.between(store, DAY)]
    half_past = NOON - timedelta(minutes=30)
    assert found == [
        (NOON - timedelta(hours=1), "model", "ranker 41", "releases"),
        (half_past, "model", "ranker 42 (canary)", "releases"),
    ]
    with (folder / "releases.csv").open("a") as file:
        file.write("2026-03-03 11:59:00,ranker 43,ann\n")
    assert read(pipeline, store, CHANGES, NOON) == 1
    newest = {sample.labels["kind"]: sample.value for sample in about_changes(store)}
    assert newest == {"deploy": 0, "model": (NOON - timedelta(minutes=1)).timestamp(), "config": 0, "other": 0}


def test_the_dataset_is_not_watched_by_itself(folder: Path) -> None:
    assert config(folder).watched() == ["events"]


def test_a_column_that_is_not_there_is_named(pipeline: Pipeline, store: Store) -> None:
    with pytest.raises(
        EngineError, match=r"dataset releases has no column tag, named by changes; it has at, version, by"
    ):
        read(pipeline, store, CHANGES.model_copy(update={"text": "tag"}), NOON)


def test_a_wrong_reference_is_told_before_anything_runs(folder: Path) -> None:
    found = config(folder)
    wrong = found.model_copy(update={"changes": (CHANGES.model_copy(update={"dataset": "release"}),)})
    (problem,) = crosscheck(wrong)
    assert (problem.where, problem.todo) == (("changes", 0, "dataset"), "did you mean releases?")
    releases = found.datasets["releases"].model_copy(update={"roles": {}})
    timeless = found.model_copy(update={"datasets": {**found.datasets, "releases": releases}})
    assert "must have the role event_time" in crosscheck(timeless)[0].rule


def test_the_daemon_reads_them_and_outlives_a_table_that_is_gone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"""
state: sqlite:///{folder}/state.db
datasets:
  events: {{files: {folder}/events.csv, roles: {{event_time: at}}}}
  releases: {{files: {folder}/releases.csv, roles: {{event_time: at}}}}
changes: [{{dataset: releases, text: version}}]
"""
    (folder / "recwatch.yml").write_text(text)
    daemon = Daemon(folder / "recwatch.yml", ManualClock(NOON))
    try:
        chores.read_changes(daemon, *daemon.live.config.changes)
        assert [one.text for one in happenings.between(daemon.store, DAY)] == ["ranker 41", "ranker 42 (canary)"]
        (folder / "releases.csv").unlink()
        chores.read_changes(daemon, *daemon.live.config.changes)
        assert len(list(happenings.between(daemon.store, DAY))) == 2
    finally:
        daemon.live.watch.close()
        daemon.live.pipeline.close()
        daemon.store.close()
