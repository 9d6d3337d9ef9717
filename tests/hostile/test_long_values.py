"""Values of a megabyte: what is kept of them is short, tells them apart, and is the same on every engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import column, literal

from checks.check import Outcome, Verdict
from checks.clipped import clip, comparable
from checks.window import Window
from monitor import evidence, schema
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.evidence import Collector, Evidence
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

BEFORE = Window(datetime(2026, 3, 3, 10, tzinfo=UTC), datetime(2026, 3, 3, 12, tzinfo=UTC))
NOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))
COLUMNS = {
    "id": "text", "who": "text", "what": "text", "at": "timestamp", "kind": "text", "app": "text", "tone": "text",
    "arm": "text",
}  # fmt: skip
ROLES = {
    "event_id": "id", "user": "who", "item": "what", "event_time": "at", "event_type": "kind", "source": "app",
    "cohort": "arm",
}  # fmt: skip
PER_SOURCE = {"min_rows": 1, "per_source": True}
Maker = Callable[..., Any]


class Bench:
    """A pipeline over rows with two long values, 50 and 50 of each before, and then other numbers."""

    def __init__(self, bench: Any, table: Maker, length: int, before: int, now: tuple[int, int]) -> None:
        self.folder = bench.folder
        self.longs = [("ü" + "x" * length) + end for end in "ab"]
        rows: list[tuple[Any, ...]] = []
        for hour, counts in ((11, (before, before)), (12, now)):
            for long, count in zip(self.longs, counts, strict=True):
                at = datetime(2026, 3, 3, hour, 5)
                arms = ("model", "organic")
                rows += [(f"{long}{hour}{n}", long, long, at, long, "ios", long, arms[n % 2]) for n in range(count)]
        bench.place.fill({"events": table(COLUMNS, rows)})
        dataset = {"roles": ROLES, "features": ["tone"], "sources": ["ios"], **bench.place.dataset("events")}
        self.config = Config.model_validate(
            {
                "engines": bench.place.engines,
                "datasets": {"events": dataset},
                "checks": {
                    "feature_drift": PER_SOURCE,
                    "popularity": PER_SOURCE,
                    "contract": {"min_rows": 1},
                    "feedback_loop": {"min_rows": 1, "exposed": ["model"], "control": ["organic"]},
                },
                "evidence": {"min_group": 1, "reports": False, "columns": ["tone"]},
            }
        )

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder}/state.db", "shop")

    def learn(self) -> None:
        with closing(build(self.config)) as pipeline, closing(self.store) as store:
            Builder(Runner(pipeline, store, ManualClock(NOW.end)), store).build(BEFORE)

    def judge(self) -> tuple[list[Verdict], list[Evidence]]:
        """Return the verdicts of all checks, all of which are kept, and the evidence about the bad ones."""
        with closing(build(self.config)) as pipeline, closing(self.store) as store:
            clock = ManualClock(NOW.end)
            runner = Runner(pipeline, store, clock)
            collector = Collector(runner, store, clock)
            found: list[Verdict] = []
            ids: list[str] = []
            for judged in runner.run("events", [(check, NOW) for check in pipeline.checks["events"]]):
                store.commit(judged)
                ids += collector.after(judged)
                found += judged.verdicts
            pieces = [evidence.find(store, name) for name in ids]
        return found, [piece for piece in pieces if piece is not None]

    def kept(self) -> str:
        """Return all texts of the state."""
        with closing(self.store) as store, store.reading() as connection:
            rows = [row for table in schema.metadata.sorted_tables for row in connection.execute(sa.select(table))]
        return "\n".join(str(cell) for row in rows for cell in row)


def assert_moved(found: list[Verdict]) -> None:
    """Check that drift and popularity say of the long values what they say of short ones: 50 % became 90 and 10."""
    assert not [one.reason for one in found if one.outcome is Outcome.ERROR]
    for source in (None, "ios"):
        (drift,) = [one for one in found if one.check == "feature_drift" and one.source == source]
        assert (drift.outcome, drift.value) == (Outcome.BAD, pytest.approx(0.8446959190362363))
        (popular,) = [one for one in found if one.check == "popularity" and one.source == source]
        assert (popular.outcome, popular.details["l_infinity"]) == (Outcome.BAD, pytest.approx(0.4))
    (loop,) = [one for one in found if one.check == "feedback_loop"]
    # Which of two that are as frequent is the head may stand beyond what an engine sorts by.
    (share,) = {loop.details[arm]["head_share"] for arm in ("exposed", "control")}
    assert (loop.outcome, loop.value) == (Outcome.GOOD, 0.0)
    assert share in (0.1, 0.9)
    (columns,) = [one for one in found if one.check == "contract" and one.feature == "schema"]
    assert columns.outcome is Outcome.GOOD, columns.reason


def as_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def test_long_values_are_told_apart_and_found_on_every_engine(bench: Any, table: Maker) -> None:
    long = Bench(bench, table, 20_000, 50, (90, 10))
    long.learn()
    found, pieces = long.judge()
    assert_moved(found)
    (drift,) = [one for one in found if one.check == "feature_drift" and one.source is None]
    assert {label for label, *_shares in drift.details["moved"][:2]} == {clip(one) for one in long.longs}
    bad = {piece.check: piece for piece in pieces if piece.body["outcome"] == "bad"}
    for check in ("feature_drift", "popularity"):
        assert bad[check].body["bad"] == 90, "the rows with the long value are found again"
        assert {one["value"] for one in bad[check].body["by_column"]["tone"]} <= {clip(one) for one in long.longs}
    kept = long.kept()
    assert as_json(clip(long.longs[0])) in kept
    assert "x" * 1_000 not in kept


def test_of_a_megabyte_a_thousand_characters_are_kept(benches: Any, table: Maker) -> None:
    long = Bench(benches("parquet"), table, 1_000_000, 3, (5, 1))
    long.learn()
    found, _pieces = long.judge()
    assert not [one.reason for one in found if one.outcome is Outcome.ERROR]
    kept = long.kept()
    assert "x" * 1_000 not in kept
    assert as_json(clip(long.longs[0])) in kept
    assert max(map(len, kept.splitlines())) < 50_000


def test_references_that_hold_long_values_as_a_whole_are_as_good(benches: Any, table: Maker) -> None:
    """They were built before long values were cut."""
    long = Bench(benches("duckdb"), table, 20_000, 50, (90, 10))
    long.learn()
    with closing(long.store) as store, store.writing() as connection:
        baselines = schema.baselines
        for row in connection.execute(sa.select(baselines)).all():
            texts = {"frozen": row.frozen, "reference": row.reference}
            for one in long.longs:
                texts = {name: text.replace(as_json(clip(one)), as_json(one)) for name, text in texts.items()}
            here = sa.and_(baselines.c.dataset == row.dataset, baselines.c.check_id == row.check_id)
            connection.execute(baselines.update().where(here).values(texts))
    assert "x" * 20_000 in long.kept()
    found, _pieces = long.judge()
    assert_moved(found)


def test_short_values_are_compared_as_ever() -> None:
    text = column("tone", sa.Text)
    assert comparable(text, ["a", "b" * 999, 7]) is text
    assert comparable(text, ["a", "b" * 1_000]) is not text
    assert clip("b" * 1_000) == "b" * 1_000
    assert clip(clip("b" * 5_000)) == clip("b" * 5_000)
    assert str(comparable(literal("a"), [])) == str(literal("a"))
