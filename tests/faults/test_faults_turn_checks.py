"""Each fault turns exactly the checks bad that should notice it, and its end turns them good again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from checks.check import Outcome
from checks.window import Window
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.faults import KINDS, Fault
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
SPAN = timedelta(minutes=2)
HISTORY = 12 * SPAN
CALM = START + HISTORY
# A stalled feed also takes the late rows of the minutes before it.
FAULTY = CALM + 4 * SPAN
# Copies of a retry storm and a held back feed land up to five minutes after their fault.
AFTER = FAULTY + 6 * SPAN
END = AFTER + SPAN
STREAM = Stream(StreamSettings(events_per_second=100, users=20_000, items=1_000))
SECONDS_LATER = timedelta(minutes=6)


def settings() -> dict[str, object]:
    spans = {"every": "2m", "window": "2m", "settle": "0s"}
    names = ("ingestion", "unknown_ids", "contract", "duplicates", "density", "feature_drift", "popularity")
    clicks = {**spans, "shown_types": ["view"], "hit_types": ["click"]}
    return {"freshness": {"max_age": "60s"}, **{name: dict(spans) for name in names}, "click_through": clicks}


def config(folder: Path) -> Config:
    files = {name: f"{folder}/{name}/*.parquet" for name in ("events", "sent", "rejected")}
    roles = ("event_id", "event_type", "event_time", "ingested_at", "value", "source")
    return Config.model_validate(
        {
            "datasets": {
                "events": {
                    "files": files["events"],
                    "roles": {"user": "user_id", "item": "item_id", **{role: role for role in roles}},
                    "features": ["value", "device", "app_version", "position"],
                    **{link: link for link in ("users", "items", "sent", "rejected")},
                },
                "users": {"files": f"{folder}/users.parquet", "roles": {"user": "user_id", "valid_from": "created_at"}},
                "items": {
                    "files": f"{folder}/items.parquet",
                    "roles": {"item": "item_id", "valid_from": "created_at", "valid_to": "retired_at"},
                },
                "sent": {
                    "files": files["sent"],
                    "roles": {"event_time": "bucket_start", "source": "source", "value": "sent"},
                },
                "rejected": {"files": files["rejected"], "roles": {"event_time": "event_time", "source": "source"}},
            },
            "checks": settings(),
        }
    )


@dataclass
class World:
    """Made data of before a fault, and what was learnt from it."""

    folder: Path
    store: Store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("history")
    writer = LiveWriter(STREAM, folder, START)
    # Late rows of the history land within six minutes.
    writer.advance(CALM + SECONDS_LATER)
    store = Store(f"sqlite:///{folder}/state.db", "default")
    pipeline = build(config(folder))
    built = Builder(Runner(pipeline, store, SystemClock()), store).build(Window(START, CALM))
    assert [found.problem for found in built if found.problem] == []
    yield World(folder, store)
    store.close()


def bad_checks(runner: Runner, start: datetime) -> set[str]:
    """Return the checks with a bad verdict on the window that starts then; no check may fail."""
    window = Window(start, start + SPAN)
    judged = runner.run("events", [(check, window) for check in runner.pipeline.checks["events"]])
    verdicts = [verdict for found in judged for verdict in found.verdicts]
    assert [verdict.reason for verdict in verdicts if verdict.outcome is Outcome.ERROR] == []
    assert len(judged) == 9
    return {verdict.check for verdict in verdicts if verdict.outcome is Outcome.BAD}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_turns_the_right_checks_bad(kind: str, world: World, tmp_path: Path) -> None:
    fault = Fault(kind, FAULTY, FAULTY + SPAN)
    writer = LiveWriter(STREAM, tmp_path, CALM, since=START, faults=(fault,))
    writer.advance(END + SECONDS_LATER)
    runner = Runner(build(config(tmp_path)), world.store, SystemClock())
    expected, follow = set(KINDS[kind].seen_by), set(KINDS[kind].may_follow)

    before, during, after = (bad_checks(runner, start) for start in (CALM, FAULTY, AFTER))

    # All files are there from the start of this test, those with another schema too.
    assert before - ({"contract"} if kind == "schema_change" else set()) == set(), "nothing is bad before the fault"
    assert expected <= during, f"{kind} must be seen by {expected}"
    assert during <= expected | follow, f"{kind} must not turn {during - expected - follow} bad"
    # A changed schema stays a breach of the recorded contract until a new one is recorded.
    assert after - ({"contract"} if kind == "schema_change" else set()) == set(), "nothing is bad after its end"
