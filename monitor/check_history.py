"""The history of one check: a chart for each subject, and what went wrong lately in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, select

from checks.check import Outcome, Verdict
from checks.window import Window, micros, moment
from monitor import rollups, schema
from monitor.overview import ObjectiveStatus, Span, Timeline, objectives_now, timelines
from monitor.records import dump, load_verdict
from monitor.rollups import Bucket, Counts
from monitor.status import CheckStatus, Status, Watched, status
from monitor.store import Store

# Cells of a chart of one day, and subjects that get a chart.
CELL, MOST_CHARTS = timedelta(minutes=15), 12
MOST_WRONG = 50


@dataclass(frozen=True)
class History:
    """What a page says about one check.

    Args:
        status: The pipeline, with this check alone.
        check: The check as it stands.
        objectives: Its objectives.
        span: How far back it looks.
        window: The same, in whole steps.
        timeline: How it fared; None before it has run.
        charts: The buckets of each subject by its name, in the order of the status page.
        wrong: What was not good lately, newest first.
    """

    status: Status
    check: CheckStatus
    objectives: tuple[ObjectiveStatus, ...]
    span: Span
    window: Window
    timeline: Timeline | None
    charts: Mapping[str, tuple[Bucket, ...]]
    wrong: tuple[Verdict, ...]


def check_history(store: Store, watched: Watched, now: datetime, about: tuple[str, str], span: Span) -> History | None:
    """Return the history of a check; None if there is no such dataset or check.

    Args:
        store: The state.
        watched: What is watched.
        now: The present.
        about: Dataset and check.
        span: How far back.

    Cost:
        For a day its verdicts, for more its hours or days.
    """
    dataset, name = about
    if dataset not in watched.checks:
        return None
    alone = replace(watched, checks={dataset: watched.checks[dataset]})
    found = status(store, alone, now)
    check = next((one for one in found.datasets[dataset] if one.check == name), None)
    if check is None:
        return None
    window = span.window(now)
    own = tuple(one for one in objectives_now(store, alone, now) if one.check == name)
    histories = _of_a_day(store, about, window) if span.length <= rollups.DAY else None
    if histories is None:
        histories = rollups.history(store, about, window, span.bucket)
    shown = {
        _name(subject): buckets
        for subject, buckets in histories.items()
        if any(b.greatest is not None for b in buckets)
    }
    order = [one.name for one in (*check.subjects, *check.listed)]
    kept = sorted(shown, key=lambda name: (order.index(name) if name in order else len(order), name))[:MOST_CHARTS]
    return History(
        found, check, own, span, window, timelines(store, now, span).get(about), {name: shown[name] for name in kept},
        tuple(_wrong(store, about, window)),
    )  # fmt: skip


def _name(subject: str) -> str:
    return " ".join(json.loads(subject).values())


def _verdicts(about: tuple[str, str], pipeline: str, window: Window) -> Any:
    table = schema.verdicts
    ours = and_(table.c.pipeline == pipeline, table.c.dataset == about[0], table.c.check_id == about[1])
    return and_(ours, table.c.end_us > micros(window.start), table.c.end_us <= micros(window.end))


def _of_a_day(store: Store, about: tuple[str, str], window: Window) -> dict[str, tuple[Bucket, ...]]:
    """Return each subject's verdicts, sources included, in cells of a quarter of an hour."""
    table = schema.verdicts
    names = ("end_us", "subject", "outcome", "measure", "value", "bound", "details")
    statement = select(*(table.c[name] for name in names)).where(_verdicts(about, store.pipeline, window))
    cells: dict[str, dict[datetime, Bucket]] = {}
    with store.reading() as connection:
        for row in connection.execute(statement.order_by(table.c.end_us)):
            start = rollups.floor(moment(row.end_us - 1), CELL)
            of = cells.setdefault(row.subject, {})
            of[start] = _grown(of.get(start), row, Window(start, start + CELL))
    return {subject: tuple(of.values()) for subject, of in cells.items()}


def _grown(before: Bucket | None, row: Any, span: Window) -> Bucket:
    """Return a cell with one more verdict in it."""
    is_judged = row.outcome in rollups.JUDGED and row.value is not None
    values = [row.value] if is_judged else []
    counts = Counts(**{row.outcome: 1})
    if before is not None:
        values += [value for value in (before.least, before.greatest) if value is not None]
        counts += before.counts
    return Bucket(
        span, counts, row.measure if is_judged or before is None else before.measure,
        min(values, default=None), max(values, default=None), row.value, row.bound, _band(row.details),
    )  # fmt: skip


def _band(details: str) -> tuple[float, float] | None:
    # Most verdicts have none, and their details may be long.
    if '"low":' not in details:
        return None
    found = json.loads(details)
    low, high = found.get("low"), found.get("high")
    return (low, high) if low is not None and high is not None else None


def _wrong(store: Store, about: tuple[str, str], window: Window) -> Iterable[Verdict]:
    table = schema.verdicts
    statement = (
        select(table)
        .where(_verdicts(about, store.pipeline, window), table.c.outcome != Outcome.GOOD.value)
        .order_by(table.c.end_us.desc(), table.c.subject)
        .limit(MOST_WRONG)
    )
    with store.reading() as connection:
        rows: Sequence[Any] = connection.execute(statement).all()
    return [load_verdict(row) for row in rows]


def subject_text(verdict: Verdict) -> str:
    """Return what a verdict is about, in words; ``all rows`` for a dataset as a whole."""
    return " ".join(verdict.subject.values()) or "all rows"


def subject_key(verdict: Verdict) -> str:
    """Return the subject as the state spells it."""
    return dump(verdict.subject)
