"""The history of one check: a chart for each subject, and what went wrong lately in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

MOST_CHARTS = 12
# Verdicts that are read for what was not good, and lines that are made of them.
MOST_READ, MOST_WRONG = 2_000, 50


@dataclass(frozen=True)
class Spell:
    """Windows in a row, all of one subject and outcome.

    Args:
        verdict: Of the newest window.
        first: The first window.
        windows: How many there are.
    """

    verdict: Verdict
    first: Window
    windows: int


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
        wrong: What was not good, newest first.
    """

    status: Status
    check: CheckStatus
    objectives: tuple[ObjectiveStatus, ...]
    span: Span
    window: Window
    timeline: Timeline | None
    charts: Mapping[str, tuple[Bucket, ...]]
    wrong: tuple[Spell, ...]


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
    if span.cell is None:
        histories = rollups.history(store, about, window, span.bucket)
    else:
        histories = _of_verdicts(store, about, window, span.cell)
    shown = {
        _name(subject): buckets
        for subject, buckets in histories.items()
        if any(b.greatest is not None for b in buckets)
    }
    order = [one.name for one in (*check.subjects, *check.listed)]
    kept = sorted(shown, key=lambda name: (order.index(name) if name in order else len(order), name))[:MOST_CHARTS]
    line = timelines(store, now, span, about).get(about)
    charts = {name: shown[name] for name in kept}
    return History(found, check, own, span, window, line, charts, tuple(_wrong(store, about, window)))


def _name(subject: str) -> str:
    return " ".join(json.loads(subject).values())


def _verdicts(about: tuple[str, str], pipeline: str, window: Window) -> Any:
    table = schema.verdicts
    ours = and_(table.c.pipeline == pipeline, table.c.dataset == about[0], table.c.check_id == about[1])
    return and_(ours, table.c.end_us > micros(window.start), table.c.end_us <= micros(window.end))


def _of_verdicts(
    store: Store, about: tuple[str, str], window: Window, length: timedelta
) -> dict[str, tuple[Bucket, ...]]:
    """Return each subject's verdicts, sources included, in cells of some length."""
    table = schema.verdicts
    names = ("end_us", "subject", "outcome", "measure", "value", "bound", "details")
    statement = select(*(table.c[name] for name in names)).where(_verdicts(about, store.pipeline, window))
    cells: dict[str, dict[datetime, Bucket]] = {}
    with store.reading() as connection:
        for row in connection.execute(statement.order_by(table.c.end_us)):
            start = rollups.floor(moment(row.end_us - 1), length)
            of = cells.setdefault(row.subject, {})
            of[start] = _grown(of.get(start), row, Window(start, start + length))
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


def _wrong(store: Store, about: tuple[str, str], window: Window) -> list[Spell]:
    """Return what was not good in spells, newest first; sources that could not be judged are left out."""
    table = schema.verdicts
    statement = (
        select(table)
        .where(_verdicts(about, store.pipeline, window), table.c.outcome != Outcome.GOOD.value)
        .order_by(table.c.end_us.desc(), table.c.subject)
        .limit(MOST_READ)
    )
    with store.reading() as connection:
        found = [load_verdict(row) for row in connection.execute(statement)]
    spells: list[Spell] = []
    current: dict[tuple[str, Outcome], int] = {}
    for verdict in found:
        if not verdict.is_whole and verdict.outcome is Outcome.UNKNOWN:
            continue
        key = (dump(verdict.subject), verdict.outcome)
        at = current.get(key)
        if at is not None and verdict.window.end >= spells[at].first.start:
            spells[at] = Spell(spells[at].verdict, verdict.window, spells[at].windows + 1)
        else:
            current[key] = len(spells)
            spells.append(Spell(verdict, verdict.window, 1))
    return spells[:MOST_WRONG]


def subject_text(verdict: Verdict) -> str:
    """Return what a verdict is about, in words; ``all rows`` for a dataset as a whole."""
    return " ".join(verdict.subject.values()) or "all rows"
