"""Objectives in the state: what each run says about them, and how much of their budgets is left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection, and_, select

from alerts.slo import Kind, Slo
from checks.check import Outcome, Verdict
from checks.window import MICROSECOND, Window, micros, moment
from monitor import queries, schema
from monitor.records import SloPoint, load_verdict, when

if TYPE_CHECKING:
    from monitor.store import Store

HOUR = timedelta(hours=1)
# Below this, a history is too short to tell how many events a whole period will have.
LEAST_OBSERVED = timedelta(hours=1)


def points(slos: Iterable[Slo], verdicts: Sequence[Verdict], at: datetime) -> Iterator[SloPoint]:
    """Yield what the verdicts of one run say about each objective of its check.

    Args:
        slos: Objectives of the check on the dataset.
        verdicts: All verdicts of the run.
        at: When the run finished.
    """
    for slo in slos:
        outcome = slo.outcome(verdicts)
        if outcome is None:
            continue
        end = verdicts[0].window.end
        is_live = at - end <= slo.live_for
        good, total = slo.events(verdicts)
        counted = slo.counters(outcome, good, total) if is_live else ()
        weights: tuple[float, float] = (good, total - good)
        if slo.kind is Kind.SLICES:
            seconds = slo.interval.total_seconds()
            weights = (seconds * (outcome is Outcome.GOOD), seconds * (outcome is Outcome.BAD))
        yield SloPoint(slo.name, at, end, outcome, *weights, is_live, counted)


@dataclass(frozen=True)
class Spell:
    """What was bad for a while.

    Args:
        worst: Of the subject that was furthest from its limit the verdict with the worst value.
        span: From the start of the first bad window, or slice of time, to the end of the last one.
    """

    worst: Verdict
    span: Window


def bad_since(store: Store, slo: Slo, since: datetime) -> Spell | None:
    """Return what live runs found bad of an objective since a time, in which they finished; None without any."""
    table = schema.verdicts
    ours = and_(
        table.c.pipeline == store.pipeline, table.c.dataset == slo.dataset, table.c.check_id == slo.check,
        table.c.end_us >= micros(since - slo.live_for), table.c.finished_us >= micros(since),
        table.c.outcome == Outcome.BAD.value,
    )  # fmt: skip
    times = sa.func.abs(table.c.value / sa.func.nullif(table.c.bound, 0))
    strain = sa.case((times < 1, 1 / sa.func.nullif(times, 0)), else_=times)
    # A run that counts as a slice of time may look further back: freshness, an hour every 30 seconds.
    start = table.c.end_us - slo.interval // MICROSECOND if slo.kind is Kind.SLICES else table.c.start_us
    spans = select(table.c.subject, sa.func.min(start), sa.func.max(table.c.end_us)).where(ours)
    with store.reading() as connection:
        found = {
            subject: Window(moment(start), moment(end))
            for subject, start, end in connection.execute(spans.group_by(table.c.subject))
        }
        kept = [of for of, span in found.items() if slo.covers(_bad(slo, span, of))]
        # A limit that allows for chance differs from window to window.
        value = sa.case((times < 1, -sa.func.abs(table.c.value)), else_=sa.func.abs(table.c.value))
        worst = sa.func.max(strain).over(partition_by=table.c.subject)
        ranked = select(table).where(ours, table.c.subject.in_(kept))
        row = connection.execute(ranked.order_by(worst.desc().nulls_first(), value.desc()).limit(1)).first()
    if row is None:
        return None
    span = Window(min(found[of].start for of in kept), max(found[of].end for of in kept))
    return Spell(load_verdict(row), span)


def _bad(slo: Slo, span: Window, subject: str) -> Verdict:
    return Verdict(slo.check, slo.dataset, span, Outcome.BAD, "", **json.loads(subject))


def record(connection: Connection, pipeline: str, found: Sequence[SloPoint]) -> list[SloPoint]:
    """Write points, each window once, and return those that are new.

    The first judgement of a window stands, whatever late rows change: what has burnt has burnt, and
    nobody is woken by the past. A run that could not judge gives way to one that can.
    """
    new = []
    for point in found:
        row = {
            "pipeline": pipeline, "slo": point.slo, "end_us": micros(point.window_end), "at_us": micros(point.at),
            "outcome": point.outcome.value, "good": point.good, "bad": point.bad, "live": point.is_live,
        }  # fmt: skip
        if connection.execute(queries.ADD_POINT, row).rowcount == 0:
            here = queries.key({name: row[name] for name in ("pipeline", "slo", "end_us")})
            old = connection.execute(queries.OLD_POINT, here).scalar_one()
            if old != Outcome.UNKNOWN or point.outcome is Outcome.UNKNOWN:
                continue
            connection.execute(queries.DROP_POINT, here)
            connection.execute(queries.ADD_POINT, row)
        _spend(connection, pipeline, point)
        if point.is_live:
            _note_latest(connection, pipeline, point)
        new.append(point)
    return new


def _note_latest(connection: Connection, pipeline: str, point: SloPoint) -> None:
    at = micros(point.at)
    judged = None if point.outcome is Outcome.UNKNOWN else at
    row = {"pipeline": pipeline, "slo": point.slo, "outcome": point.outcome.value, "at_us": at, "judged_us": judged}
    connection.execute(queries.WRITE_LATEST_POINT, {**row, "since_us": at})


def _spend(connection: Connection, pipeline: str, point: SloPoint) -> None:
    if not point.good and not point.bad:
        return
    # A window belongs to the hour that it ends in, its end excluded.
    hour = HOUR // timedelta(microseconds=1)
    row = {"pipeline": pipeline, "slo": point.slo, "hour_us": (micros(point.window_end) - 1) // hour * hour}
    connection.execute(queries.SPEND, {**row, "good": point.good, "bad": point.bad})


@dataclass(frozen=True)
class Spent:
    """What an objective has seen over its period: events, or seconds.

    Args:
        good: Good ones.
        bad: Bad ones.
        since: Start of the first hour with any; None if there is none.
    """

    good: float
    bad: float
    since: datetime | None

    def attained_ratio(self) -> float | None:
        """Return the share that was good, from 0 to 1; None without any."""
        total = self.good + self.bad
        return self.good / total if total else None

    def budget_left_ratio(self, slo: Slo, now: datetime) -> float | None:
        """Return the share of the period's budget that is left; below 0 when it is overspent.

        The budget is what the whole period allows. For slices that is a share of its time; for
        events, of as many as the period will have at the rate seen so far.
        """
        if self.since is None:
            return None
        whole = slo.period.total_seconds()
        if slo.kind is Kind.EVENTS:
            observed = min(slo.period, max(now - self.since, LEAST_OBSERVED))
            whole = (self.good + self.bad) * (slo.period / observed)
        return 1 - self.bad / (whole * (1 - slo.objective)) if whole else None


NOTHING_SPENT = Spent(0.0, 0.0, None)


def spent(store: Store, slos: Mapping[str, Slo], now: datetime) -> dict[str, Spent]:
    """Return what each objective has seen over its period."""
    table, found = schema.slo_hours, {}
    periods = {slo.period for slo in slos.values()}
    with store.reading() as connection:
        for period in periods:
            recent = and_(table.c.pipeline == store.pipeline, table.c.hour_us > micros(now - period))
            sums: Any = (sa.func.sum(table.c.good), sa.func.sum(table.c.bad), sa.func.min(table.c.hour_us))
            statement = select(table.c.slo, *sums).where(recent).group_by(table.c.slo)
            for name, good, bad, since in connection.execute(statement):
                if name in slos and slos[name].period == period:
                    found[name] = Spent(good, bad, moment(since))
    return {name: found.get(name, NOTHING_SPENT) for name in slos}


def read_points(store: Store, after: int, since: datetime) -> list[tuple[int, SloPoint]]:
    """Return points with their ids, in the order in which they were written.

    Args:
        store: The state.
        after: Only points with a greater id.
        since: Only points of runs that finished after this.
    """
    table = schema.slo_points
    here = and_(table.c.pipeline == store.pipeline, table.c.id > after, table.c.at_us > micros(since))
    with store.reading() as connection:
        rows = connection.execute(select(table).where(here).order_by(table.c.id)).all()
    return [(row.id, _point(row)) for row in rows]


def _point(row: Any) -> SloPoint:
    outcome = Outcome(row.outcome)
    return SloPoint(row.slo, moment(row.at_us), moment(row.end_us), outcome, row.good, row.bad, row.live)


@dataclass(frozen=True)
class Latest:
    """The last live run of an objective, and when it last could be judged; for /metrics.

    Args:
        outcome: How the last run ended.
        at: When it finished.
        judged_at: When one last ended good or bad; None if none has.
        since: When the first run that is kept finished.
    """

    outcome: Outcome
    at: datetime
    judged_at: datetime | None
    since: datetime


def latest(store: Store) -> dict[str, Latest]:
    """Return the last live run of each objective."""
    table = schema.slo_latest
    with store.reading() as connection:
        rows = connection.execute(select(table).where(table.c.pipeline == store.pipeline)).all()
    return {
        row.slo: Latest(Outcome(row.outcome), moment(row.at_us), when(row.judged_us), moment(row.since_us))
        for row in rows
    }


def prune(store: Store, points_before: datetime, hours_before: datetime) -> None:
    """Forget points that no tier looks back to, and hours that no period reaches."""
    with store.writing() as connection:
        table, hours = schema.slo_points, schema.slo_hours
        connection.execute(
            table.delete().where(table.c.pipeline == store.pipeline, table.c.at_us < micros(points_before))
        )
        connection.execute(
            hours.delete().where(hours.c.pipeline == store.pipeline, hours.c.hour_us < micros(hours_before))
        )
