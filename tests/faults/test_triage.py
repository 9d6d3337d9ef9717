"""Triage names the cause of each kind of fault, and the segment that it comes from, before anything else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor import happenings
from monitor.baselines import Builder
from monitor.clock import ManualClock, SystemClock
from monitor.evidence import Collector
from monitor.faults import Fault
from monitor.happenings import Happening
from monitor.records import Judged
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings
from monitor.triage import Triage, postmortem, told, triage
from tests.faults.test_faults_turn_checks import CALM, FAULTY, SECONDS_LATER, SPAN, START, config

# Two worlds: of different size, ids and habits.
SHOPS = {
    "large": StreamSettings(events_per_second=100, users=20_000, items=1_000),
    "small": StreamSettings(events_per_second=70, users=6_000, items=400, seed=77),
}
CAUSES = {
    "lost_clicks": "click-through fell",
    "missing_users": "client release dropping ids",
    "unknown_items": "late catalogue of items",
    "hot_item": "hot item",
    "narrow_catalogue": "catalogue narrows",
    "fewer_users": "traffic concentrates",
    "new_event_type": "new or vanished values",
    "device_shift": "device has shifted",
    "price_shift": "value has shifted",
    "null_feature": "device has become null",
    "corrupt_values": "corrupted values",
    "future_clock": "clocks ahead",
    "semantic_retry": "clients send twice under new ids",
    "dropped_rows": "events lost on the way",
    "rejects": "events rejected",
    "retry_storm": "retry storm",
    "schema_change": "schema change",
    "stalled_feed": "stalled feed",
    "delayed_feed": "stalled feed",
}
# The same kinds at another strength, some of them with one source alone, which triage has to name.
OTHERWISE: dict[str, tuple[float | None, str | None]] = {
    "lost_clicks": (0.7, "ios"), "missing_users": (0.4, "web"), "unknown_items": (0.4, "web"), "hot_item": (0.2, None),
    "narrow_catalogue": (0.9, None),
    "fewer_users": (0.9, None), "new_event_type": (0.1, None), "device_shift": (0.5, None), "price_shift": (1.0, None),
    "null_feature": (0.8, None), "corrupt_values": (0.3, "android"), "future_clock": (0.2, "ios"),
    "semantic_retry": (0.4, None), "dropped_rows": (0.2, None), "rejects": (0.2, None), "retry_storm": (0.6, "android"),
}  # fmt: skip
SMALL = (
    "missing_users", "unknown_items", "hot_item", "new_event_type", "null_feature", "corrupt_values", "dropped_rows",
    "rejects", "retry_storm", "stalled_feed", "schema_change",
)  # fmt: skip
CASES = [
    *(("large", kind, None, None) for kind in CAUSES),
    *(("large", kind, *found) for kind, found in OTHERWISE.items()),
    *(("small", kind, None, None) for kind in SMALL),
    *(("small", kind, *OTHERWISE[kind]) for kind in SMALL if kind in OTHERWISE),
]


@dataclass
class Shop:
    """A made-up shop, and the state with what was learnt from its calm time."""

    stream: Stream
    state: Path


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shop]:
    made: dict[str, Shop] = {}

    def shop(name: str) -> Shop:
        if name not in made:
            folder, stream = tmp_path_factory.mktemp(name), Stream(SHOPS[name])
            LiveWriter(stream, folder, START).advance(CALM + SECONDS_LATER)
            with (
                closing(Store(f"sqlite:///{folder}/state.db", "default")) as store,
                closing(build(config(folder))) as pipeline,
            ):
                built = Builder(Runner(pipeline, store, SystemClock()), store).build(Window(START, CALM))
                assert [found.problem for found in built if found.problem] == []
            made[name] = Shop(stream, folder / "state.db")
        return made[name]

    return shop


def broken(shop: Shop, fault: Fault, folder: Path) -> Iterator[Store]:
    """Yield the state after the fault was judged, with its evidence."""
    LiveWriter(shop.stream, folder, CALM, since=START, faults=(fault,)).advance(FAULTY + SPAN + SECONDS_LATER)
    shutil.copy(shop.state, folder / "state.db")
    with closing(Store(f"sqlite:///{folder}/state.db", "default")) as store, closing(build(config(folder))) as pipeline:
        clock = ManualClock(FAULTY + SPAN)
        runner = Runner(pipeline, store, clock)
        collector = Collector(runner, store, clock)
        collector._reporter.close()
        judged = runner.run("events", [(check, Window(FAULTY, FAULTY + SPAN)) for check in pipeline.checks["events"]])
        for found in judged:
            store.commit(found)
            if found.check != "feature_drift":
                collector.after(found)
        yield store


def looked_into(store: Store) -> Triage:
    return triage(store, Window(FAULTY - timedelta(minutes=1), FAULTY + SPAN + timedelta(minutes=1)))


@pytest.mark.slow
@pytest.mark.parametrize(("shop", "kind", "strength", "source"), CASES)
def test_the_cause_and_its_segment_come_first(
    shop: str, kind: str, strength: float | None, source: str | None, shops: Callable[[str], Shop], tmp_path: Path
) -> None:
    fault = Fault(kind, FAULTY, FAULTY + SPAN, strength, source)
    for store in broken(shops(shop), fault, tmp_path):
        found = looked_into(store)
        assert found.cause is not None
        assert found.cause.kind.startswith(CAUSES[kind]), told(found)
        if source is not None:
            assert source in found.segment, told(found)
        said = told(found)
        assert said.index("Most likely") < said.index("What deviated")
        assert found.cause.kind in postmortem(found, FAULTY)


@pytest.mark.slow
def test_a_deploy_stands_on_the_timeline(shops: Callable[[str], Shop], tmp_path: Path) -> None:
    for store in broken(shops("large"), Fault("missing_users", FAULTY, FAULTY + SPAN), tmp_path):
        happenings.add(store, Happening(FAULTY - timedelta(minutes=3), "deploy", "ios  8.3.0\nto everyone"))
        happenings.add(store, Happening(FAULTY - timedelta(hours=3), "deploy", "long ago"))
        lines = told(looked_into(store)).splitlines()
        first = lines.index("What deviated, first to last (first window ending)") + 1
        assert lines[first].strip() == f"{FAULTY - timedelta(minutes=3):%H:%M:%S} UTC  deploy: ios 8.3.0 to everyone"
        assert "unknown_ids user" in lines[first + 1]
        assert "long ago" not in "".join(lines)


@pytest.mark.slow
def test_a_model_that_was_rolled_out_is_the_cause_of_what_it_can_cause(
    shops: Callable[[str], Shop], tmp_path: Path
) -> None:
    model = Happening(FAULTY - timedelta(minutes=2), "model", "ranker v7")
    for name, kind, cause in (("hot", "hot_item", "model roll-out"), ("ids", "missing_users", "client release")):
        folder = tmp_path / name
        folder.mkdir()
        for store in broken(shops("small"), Fault(kind, FAULTY, FAULTY + SPAN), folder):
            happenings.add(store, model)
            found = looked_into(store).cause
            assert found is not None
            assert found.kind.startswith(cause)
            assert ("ranker v7" in found.says) == (name == "hot")


def test_calm_is_calm(shops: Callable[[str], Shop], tmp_path: Path) -> None:
    shutil.copy(shops("small").state, tmp_path / "state.db")
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        assert "no check has judged this time yet" in told(looked_into(store)), "history for baselines judges nothing"
        window = Window(FAULTY, FAULTY + SPAN)
        good = Verdict("freshness", "events", window, Outcome.GOOD, "lag_seconds", 3.0, 300.0)
        store.commit(Judged("freshness", "events", window, [good], window.end, 0.1, Tally("events", window)))
        found = looked_into(store)
        assert found.cause is None
        assert "Nothing has deviated" in told(found)
        assert "Nothing has deviated" in postmortem(found, FAULTY)


def test_an_event_must_say_something(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        for kind, text, says in (
            ("deploy", "  ", "needs a text that says what was done"),
            ("party", "yes", "is one of deploy, model, config, other, got party"),
        ):
            with pytest.raises(ValueError, match=says):
                happenings.add(store, Happening(FAULTY, kind, text))
