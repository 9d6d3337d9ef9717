"""From what deviated to the most likely cause: rules in the order in which causes lie upstream of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from checks.check import Outcome, Verdict
from checks.window import Window

# What the contract says of columns, against what it says of values.
COLUMN_CHANGES = ("columns_removed", "columns_added", "columns_retyped")
LOST_COLUMN = (") is not in the data", "the column is gone")


def fell_short(verdict: Verdict) -> bool:
    """Return whether a value was bad for being less than its limit."""
    value, limit = verdict.value, verdict.limit
    return verdict.outcome is Outcome.BAD and value is not None and limit is not None and value < limit


def strain(verdict: Verdict) -> float:
    """Return how many times over its limit a value was, or under one that it fell short of; infinite where one is 0."""
    value, limit = verdict.value or 0.0, verdict.limit or 0.0
    if fell_short(verdict) and limit > 0:
        return limit / value if value > 0 else float("inf")
    return abs(value / limit) if limit else float("inf")


@dataclass(frozen=True)
class Deviation:
    """What one check has found wrong about one subject over a while.

    Args:
        verdict: The worst of its bad verdicts.
        first: The first window that was bad.
        last: The last one.
        windows: How many were bad.
    """

    verdict: Verdict
    first: Window
    last: Window
    windows: int

    @property
    def began(self) -> datetime:
        """When it may have begun: with its first window, or, of an age, when it was young enough for the last time."""
        if self.verdict.measure == "lag_seconds":
            return self.first.end - timedelta(seconds=self.verdict.limit or 0.0)
        return self.first.start

    @property
    def was_worse(self) -> bool:
        """Whether it was worse before than in its last window."""
        return self.verdict.outcome is Outcome.BAD and self.verdict.window != self.last

    @property
    def strain(self) -> float:
        """How far the value was from its limit."""
        return strain(self.verdict)

    @property
    def fell_short(self) -> bool:
        """Whether the value was bad for being less than its limit."""
        return fell_short(self.verdict)


@dataclass(frozen=True)
class Cause:
    """The most likely cause.

    Args:
        kind: Its name, such as ``stalled feed``.
        says: What speaks for it, in one sentence.
        deviation: The finding that it rests on.
    """

    kind: str
    says: str
    deviation: Deviation


def likely(found: Sequence[Deviation], first: Deviation | None = None) -> Cause | None:
    """Return the cause that lies furthest upstream among those that were there from the beginning, or None.

    A deviation that began after the first one was over explains nothing of it, and is a consequence at most.

    Args:
        found: What deviated.
        first: The one of them that is to be explained; None for the earliest.
    """
    if not found:
        return None
    first = first or min(found, key=lambda deviation: deviation.first.end)
    ended = first.first.end + first.first.duration
    early = [deviation for deviation in found if deviation is first or deviation.began < ended]
    # What could not run says nothing of the data, unless the reason is in the data.
    for rule in RULES:
        for deviation in early:
            failed = deviation.verdict.outcome is Outcome.ERROR
            named = rule(deviation.verdict) if not failed or rule is _schema else None
            if named is not None:
                return Cause(*named, deviation)
    worst = max(early, key=lambda deviation: (deviation.verdict.outcome is Outcome.BAD, deviation.strain))
    failed = worst.verdict.outcome is Outcome.ERROR
    return Cause("check that cannot run" if failed else "unknown", worst.verdict.reason, worst)


Named = tuple[str, str]
Rule = Callable[[Verdict], Named | None]


def _schema(verdict: Verdict) -> Named | None:
    if verdict.outcome is Outcome.ERROR:
        return ("schema change", verdict.reason) if any(said in verdict.reason for said in LOST_COLUMN) else None
    if (verdict.check, verdict.feature) != ("contract", "schema"):
        return None
    return ("schema change", verdict.reason) if any(verdict.details.get(name) for name in COLUMN_CHANGES) else None


def _stalled(verdict: Verdict) -> Named | None:
    return ("stalled feed", verdict.reason) if verdict.check == "freshness" else None


def _ids(verdict: Verdict) -> Named | None:
    if verdict.check != "unknown_ids":
        return None
    causes: Mapping[str, int] = verdict.details.get("causes") or {}
    named = {
        "missing": "client release dropping ids", "malformed": "client release garbling ids",
        "unknown": f"late catalogue of {verdict.entity}s", "retired": f"retired {verdict.entity}s still served",
    }  # fmt: skip
    worst = max(causes, key=lambda cause: causes[cause], default="missing")
    return named[worst], verdict.reason


def _corrupt(verdict: Verdict) -> Named | None:
    if verdict.check != "contract" or verdict.feature is not None:
        return None
    rules: Mapping[str, int] = verdict.details.get("rules") or {}
    ahead = rules.get("event_time_in_future", 0)
    return ("clocks ahead" if 2 * ahead > sum(rules.values()) else "corrupted values"), verdict.reason


def _new_values(verdict: Verdict) -> Named | None:
    is_schema = (verdict.check, verdict.feature) == ("contract", "schema")
    return ("new or vanished values", verdict.reason) if is_schema else None


def _lost(verdict: Verdict) -> Named | None:
    if verdict.check != "ingestion":
        return None
    counts = {name: int(verdict.details.get(name) or 0) for name in ("silent_drop", "rejected", "invalid")}
    kind = {"rejected": "events rejected", "invalid": "corrupted values"}
    worst = max(counts, key=lambda name: counts[name])
    if worst == "silent_drop" and counts[worst] and verdict.details.get("landed") == 0:
        # Freshness says so only when the last that came has grown old.
        return "stalled feed", verdict.reason
    return (kind.get(worst, "events lost on the way") if counts[worst] else "less traffic"), verdict.reason


def _copies(verdict: Verdict) -> Named | None:
    if verdict.check != "duplicates":
        return None
    if verdict.feature == "semantic":
        return "clients send twice under new ids", verdict.reason
    again = sum(int(verdict.details.get(name) or 0) for name in ("same_window", "retry"))
    return (
        "retry storm" if again >= int(verdict.details.get("replay") or 0) else "replay of old events"
    ), verdict.reason


def _feature(verdict: Verdict) -> Named | None:
    if verdict.check != "feature_drift":
        return None
    grown: dict[Any, float] = {label: now - before for label, before, now in verdict.details.get("moved", ())}
    is_null = grown.get("null", 0.0) > 0 and max(grown, key=lambda label: grown[label]) == "null"
    return (f"{verdict.feature} has become null" if is_null else f"{verdict.feature} has shifted"), verdict.reason


def _popularity(verdict: Verdict) -> Named | None:
    if verdict.check != "popularity":
        return None
    movers = [(change, item) for item, change in verdict.details.get("movers", ()) if change > 0]
    # One item that gains alone is hot; where many gain, the rest of the catalogue loses.
    if movers and 2 * max(movers)[0] > sum(change for change, _item in movers):
        return f"hot item {max(movers)[1]}", verdict.reason
    return "catalogue narrows or ranking turns over", verdict.reason


def _loop(verdict: Verdict) -> Named | None:
    return ("feedback loop", verdict.reason) if verdict.check == "feedback_loop" else None


def _matrix(verdict: Verdict) -> Named | None:
    if verdict.check != "density":
        return None
    return "traffic concentrates or thins out", verdict.reason


def _click_through(verdict: Verdict) -> Named | None:
    if verdict.check != "click_through":
        return None
    if verdict.feature == "uplift":
        return "recommendations do worse than the control", verdict.reason
    fell = (verdict.value or 0.0) < verdict.details.get("expected", 0.0)
    return ("click-through fell" if fell else "click-through jumped"), verdict.reason


# Upstream first: what stands later can follow from what stands before. ``alerts.incidents`` says the same of alarms.
RULES: tuple[Rule, ...] = (
    _schema, _stalled, _corrupt, _new_values, _ids, _copies, _lost, _popularity, _loop, _feature, _matrix,
    _click_through,
)  # fmt: skip


def in_order(found: Iterable[Deviation]) -> Iterator[Deviation]:
    """Yield deviations by when they began, the worst first among those that began together."""
    yield from sorted(found, key=lambda one: (one.first.end, -one.strain, one.verdict.check))
