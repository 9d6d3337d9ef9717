"""Evidence about every check that has rows to blame, on each kind of engine: the guilty segment comes first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from checks.check import Outcome
from checks.window import Window
from monitor import evidence
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.evidence import KEY, Collector, pseudonym
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

DAY = "2026-03-03"
BEFORE = Window(datetime(2026, 3, 3, 10, tzinfo=UTC), datetime(2026, 3, 3, 12, tzinfo=UTC))
NOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))
COLUMNS = {
    "id": "text", "who": "text", "what": "integer", "at": "timestamp", "app": "text", "version": "text",
    "price": "number", "mail": "text",
}  # fmt: skip
ROLES = {
    "event_id": "id",
    "user": "who",
    "item": "what",
    "event_time": "at",
    "source": "app",
    "value": "price",
    "cohort": "app",
}
Rows = list[tuple[Any, ...]]


def healthy(hour: int) -> Rows:
    """Return 200 events of 100 users, half of them from an app that has two versions."""
    at = datetime(2026, 3, 3, hour, 5, tzinfo=UTC).replace(tzinfo=None)
    return [
        (f"canary-event-{hour}-{n}", f"canary-user-{n % 100}", n % 20, at, "ios" if n % 4 < 2 else "web",
         ("2.0", "1.0", "w", "w")[n % 4], 5.0, f"canary{n}@mail")
        for n in range(200)
    ]  # fmt: skip


def changed(rows: Rows, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Rows:
    """Return rows of which those of version 2.0 are changed."""
    return [change(row) if row[5] == "2.0" else row for row in rows]


FAULTS: dict[str, Callable[[Rows], Rows]] = {
    "unknown_ids": lambda rows: changed(rows, lambda row: (row[0], None, *row[2:])),
    "contract": lambda rows: changed(rows, lambda row: (*row[:6], -1.0, row[7])),
    "ingestion": lambda rows: changed(rows, lambda row: (*row[:6], -1.0, row[7])),
    "duplicates": lambda rows: rows + [row for row in rows if row[5] == "2.0"],
    "popularity": lambda rows: changed(rows, lambda row: (*row[:2], 7, *row[3:])),
    "feedback_loop": lambda rows: changed(rows, lambda row: (*row[:2], 0, *row[3:])),
    "feature_drift": lambda rows: changed(rows, lambda row: (*row[:6], 900.0, row[7])),
}


@pytest.mark.parametrize("check", sorted(FAULTS))
def test_the_guilty_segment_comes_first(check: str, bench: Any, table: Callable[..., Any]) -> None:
    events = [*healthy(11), *FAULTS[check](healthy(12))]
    bench.place.fill({"events": table(COLUMNS, events), "rejected": table({"at": "timestamp"}, [])})
    dataset = {"roles": ROLES, "features": ["version", "price"], "sources": ["ios", "web"], "rejected": "rejected"}
    rejected = {"roles": {"event_time": "at"}, **bench.place.dataset("rejected")}
    features: dict[str, Any] = {name: {"min_rows": 1} for name in ("feature_drift", "popularity", "feedback_loop")}
    # One of the 20 items is a twentieth of the events.
    features["feedback_loop"] |= {"exposed": ["ios"], "control": ["web"], "head_share": 0.05}
    config = Config.model_validate(
        {
            "engines": bench.place.engines,
            "datasets": {"events": {**dataset, **bench.place.dataset("events")}, "rejected": rejected},
            "checks": {**features, "ingestion": {"min_rows": 1}},
            # A report would go on beside the test; it has tests of its own.
            "evidence": {"min_group": 5, "reports": False},
        }
    )
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, ManualClock(NOW.end))
        if check in features:
            Builder(runner, store).build(BEFORE, [check])
        ours = next(one for one in pipeline.checks["events"] if one.id == check)
        (judged,) = runner.run("events", [(ours, NOW)])
        bad = [one for one in judged.verdicts if one.outcome is Outcome.BAD and one.is_whole]
        assert bad, judged.verdicts
        found = [evidence.find(store, name) for name in Collector(runner, store, ManualClock(NOW.end)).after(judged)]
        normal = [one for one in judged.verdicts if one.outcome is Outcome.GOOD and one.is_whole]
    assert len(found) == min(len(bad) + min(len(normal), 1), 3), "what is normal, one subject a minute"
    piece = found[0]
    assert piece is not None
    first = piece.body["segments"][0]
    assert (first["column"], first["value"]) == ("version", "2.0"), piece.body["segments"]
    assert first["bad"] == piece.body["by_column"]["version"][0]["bad"] > 0
    assert piece.body["statements"], "what was asked is kept"
    said = str(piece)
    assert not [canary for canary in ("canary-user", "canary-event", "@mail") if canary in said]


def test_every_column_that_is_asked_for_is_counted_by(bench: Any, table: Callable[..., Any]) -> None:
    asked, others = [f"s{n}" for n in range(10)], [f"f{n}" for n in range(10)]
    columns = {**COLUMNS, **dict.fromkeys((*asked, *others), "text")}
    rows = [(*row[:6], -1.0, row[7], *["x"] * 20) for row in healthy(12)]
    bench.place.fill({"events": table(columns, rows)})
    dataset = {"roles": ROLES, "features": others, **bench.place.dataset("events")}
    config = Config.model_validate(
        {"engines": bench.place.engines, "datasets": {"events": dataset}, "evidence": {"segments": asked}}
    )
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, ManualClock(NOW.end))
        contract = next(one for one in pipeline.checks["events"] if one.id == "contract")
        (judged,) = runner.run("events", [(contract, NOW)])
        found = [evidence.find(store, name) for name in Collector(runner, store, ManualClock(NOW.end)).after(judged)]
    piece = found[0]
    assert piece is not None
    assert {*asked, "app"} <= set(piece.body["by_column"])


def test_small_groups_are_not_broken_down(bench: Any, table: Callable[..., Any]) -> None:
    """A version that one person uses says who that person is."""
    rows = changed(healthy(12), lambda row: (row[0], "canary-user-1", *row[2:6], -1.0, row[7]))
    bench.place.fill({"events": table(COLUMNS, rows)})
    config = Config.model_validate(
        {
            "engines": bench.place.engines,
            "datasets": {"events": {"roles": ROLES, "features": ["version"], **bench.place.dataset("events")}},
            "evidence": {"columns": ["version", "price"], "sample_rows": 3},
        }
    )
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, ManualClock(NOW.end))
        contract = next(one for one in pipeline.checks["events"] if one.id == "contract")
        (judged,) = runner.run("events", [(contract, NOW)])
        collector = Collector(runner, store, ManualClock(NOW.end))
        (name,) = collector.after(judged)
        assert collector.after(judged) == [], "one piece in ten minutes is enough"
        piece = evidence.find(store, name)
        assert piece is not None
        assert "2.0" not in [one["value"] for one in piece.body["by_column"]["version"]]
        assert len(piece.body["sample"]) == 3
        assert {row[piece.body["columns"].index("version")] for row in piece.body["sample"]} == {"2.0"}
        assert {row[piece.body["columns"].index("price")] for row in piece.body["sample"]} == {"-1"}
        assert "mail" not in piece.body["columns"]
        people = {row[piece.body["columns"].index("who")] for row in piece.body["sample"]}
        assert len(people) == 1
        assert next(iter(people)).startswith("#")
        evidence.prune(store, NOW.end)
        assert evidence.find(store, name) is not None
        evidence.prune(store, NOW.end.replace(year=2027))
        assert evidence.find(store, name) is None


@pytest.mark.parametrize("key", ["of our own", ""])
def test_pseudonyms_are_made_with_the_key(key: str, benches: Any, table: Callable[..., Any]) -> None:
    bench = benches("duckdb")
    bench.place.fill({"events": table(COLUMNS, changed(healthy(12), lambda row: (*row[:6], -1.0, row[7])))})
    config = Config.model_validate(
        {
            "engines": bench.place.engines,
            "datasets": {"events": {"roles": ROLES, **bench.place.dataset("events")}},
            "evidence": {"sample_rows": 50, "key": key},
        }
    )
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, ManualClock(NOW.end))
        contract = next(one for one in pipeline.checks["events"] if one.id == "contract")
        (judged,) = runner.run("events", [(contract, NOW)])
        pieces = []
        for day in range(2):
            # Another process, as after a restart.
            clock = ManualClock(NOW.end + timedelta(days=day))
            pieces.append(evidence.find(store, Collector(runner, store, clock).after(judged)[0]))
        made = store.note(KEY)
    assert (made is None) == bool(key), "one is made where none is configured"
    users = {row[1] for row in healthy(12) if row[5] == "2.0"}
    pseudonyms = {pseudonym((key or made).encode(), user) for user in users}
    for piece in pieces:
        assert piece is not None
        assert piece.body["bad"] == 50
        at = piece.body["columns"].index("who")
        assert {row[at] for row in piece.body["sample"]} == pseudonyms


def test_of_what_is_normal_one_subject_is_looked_at_a_minute(benches: Any, table: Callable[..., Any]) -> None:
    bench, clock = benches("duckdb"), ManualClock(NOW.end)
    bench.place.fill({"events": table(COLUMNS, healthy(12))})
    dataset = {"roles": ROLES, **bench.place.dataset("events")}
    # The item 0 is one here.
    checks = {"unknown_ids": {"placeholders": []}}
    config = Config.model_validate({"engines": bench.place.engines, "datasets": {"events": dataset}, "checks": checks})
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, clock)
        ids = next(one for one in pipeline.checks["events"] if one.id == "unknown_ids")
        (judged,) = runner.run("events", [(ids, NOW)])
        collector, found = Collector(runner, store, clock), []
        for seconds in (0, 59, 1, 60):
            clock.move(timedelta(seconds=seconds))
            pieces = [evidence.find(store, name) for name in collector.after(judged)]
            found.append([piece.body["what"] for piece in pieces if piece is not None])
    users, items = (f"events whose {entity} id leads nowhere" for entity in ("user", "item"))
    assert found == [[users], [], [items], []]


FEATURES = ("a", "b", "c", "d", "e")


def features(hour: int, *shares: int) -> list[tuple[Any, ...]]:
    """Return 100 events with a feature for each share, which is that of its first value in percent."""
    at = datetime(2026, 3, 3, hour, 5, tzinfo=UTC).replace(tzinfo=None)
    return [(at, *("x" if n < share else "y" for share in shares)) for n in range(100)]


@pytest.mark.parametrize(
    ("shares", "looked_at"),
    [((80, 50, 85, 90, 100), ["e", "d", "c"]), ((50, 50, 50, 50, 50), ["a", "b", "c", "d", "e"])],
)
def test_of_many_subjects_the_worst_are_looked_at_and_of_those_that_are_good_each(
    shares: tuple[int, ...], looked_at: list[str], benches: Any, table: Callable[..., Any]
) -> None:
    bench, clock = benches("duckdb"), ManualClock(NOW.end)
    rows = [*features(11, *(50 for _ in FEATURES)), *features(12, *shares)]
    bench.place.fill({"events": table({"at": "timestamp", **dict.fromkeys(FEATURES, "text")}, rows)})
    dataset = {"roles": {"event_time": "at"}, "features": FEATURES, **bench.place.dataset("events")}
    checks = {"feature_drift": {"min_rows": 1}}
    about = {"engines": bench.place.engines, "datasets": {"events": dataset}, "checks": checks}
    config = Config.model_validate({**about, "evidence": {"reports": False}})
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, clock)
        Builder(runner, store).build(Window(BEFORE.start, BEFORE.end), ["feature_drift"])
        drift = next(one for one in pipeline.checks["events"] if one.id == "feature_drift")
        (judged,) = runner.run("events", [(drift, NOW)])
        collector, found = Collector(runner, store, clock), []
        for _ in FEATURES:
            pieces = [evidence.find(store, name) for name in collector.after(judged)]
            found += [piece.subject["feature"] for piece in pieces if piece is not None]
            clock.move(timedelta(minutes=1))
    bad = {one.feature for one in judged.verdicts if one.outcome is Outcome.BAD}
    assert len(bad) in (0, 4)
    assert [name for name in found if name in bad or not bad] == looked_at


def test_what_is_normal_is_kept_once_a_day_without_rows(bench: Any, table: Callable[..., Any]) -> None:
    bench.place.fill({"events": table(COLUMNS, healthy(12))})
    config = Config.model_validate(
        {
            "engines": bench.place.engines,
            "datasets": {"events": {"roles": ROLES, "features": ["version"], **bench.place.dataset("events")}},
            "evidence": {"min_group": 5},
        }
    )
    clock = ManualClock(NOW.end)
    with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{bench.folder}/state.db", "shop")) as store:
        runner = Runner(pipeline, store, clock)
        contract = next(one for one in pipeline.checks["events"] if one.id == "contract")
        (judged,) = runner.run("events", [(contract, NOW)])
        good = next(one for one in judged.verdicts if one.outcome is Outcome.GOOD)
        collector = Collector(runner, store, clock)
        (name,) = collector.after(judged)
        piece = evidence.find(store, name)
        assert piece is not None
        assert (piece.body["outcome"], piece.body["rows"], piece.body["bad"]) == ("good", 200, 0)
        assert piece.body["sample"] == []
        assert evidence.latest(store, good) is None, "nothing was bad"
        assert evidence.recent(store, NOW.start) == {}, "no message links to it"
        clock.move(timedelta(hours=23))
        assert collector.after(judged) == []
        clock.move(timedelta(hours=2))
        assert len(collector.after(judged)) == 1
