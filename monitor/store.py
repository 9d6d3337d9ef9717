"""The state: windows, verdicts, counters, gauges, watermarks and baselines, in one database.

A window's tally, verdicts, counters and watermark are written in one transaction. Killed at any
instant, either all of a window is there or nothing; judged again, it replaces itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table, and_, select

from checks.baseline import Baseline, Past
from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.window import Window, micros, moment
from monitor import objectives, queries, rollups, schema
from monitor.clock import Clock
from monitor.database import Database
from monitor.records import (
    Figure,
    Judged,
    Point,
    Run,
    SavedBaseline,
    dump,
    dump_tally,
    load_tally,
    load_verdict,
    series_name,
    when,
)

# What a check looks at for what is normal: its newest windows, and those of the same hour of days and weeks before.
PAST_WINDOWS = 1_000
# So long a new series stays at 0, unless more is counted: Prometheus sees no first increase of what is born above it.
EXPOSED_FOR = timedelta(minutes=2)


class Store(Database):
    """The state of one pipeline.

    Args:
        url: SQLAlchemy URL of the state database; SQLite and PostgreSQL are supported.
        pipeline: Which pipeline's rows are read and written.
        clock: Tells when a corrupt file was put aside; without one it stays where it is, and is an error.

    Raises:
        StateError: The database cannot be opened, or its schema is of another age.
    """

    def __init__(self, url: str, pipeline: str, clock: Clock | None = None) -> None:
        super().__init__(url, clock)
        self.pipeline = pipeline
        # Called first in every transaction that counts or tells something; raises if it must not.
        self.guard: Callable[[Connection], None] = lambda _connection: None
        # Since when counts are known to be held back, by metric and labels.
        self._held_since: dict[tuple[str, str], datetime] = {}

    def _is(self, table: Table, dataset: str, check: str) -> Any:
        of = table.c
        return and_(of.pipeline == self.pipeline, of.dataset == dataset, of.check_id == check)

    def _inside(self, dataset: str, check: str, span: Window) -> Any:
        ours, of = self._is(schema.windows, dataset, check), schema.windows.c
        return and_(ours, of.start_us >= micros(span.start), of.end_us <= micros(span.end))

    def _key(self, dataset: str, check: str) -> dict[str, str]:
        return {"pipeline": self.pipeline, "dataset": dataset, "check_id": check}

    # -- writing ---------------------------------------------------------------------------------

    def commit(self, *round_of: Judged) -> None:
        """Write all of some judged windows, or nothing of any."""
        with self.writing() as connection:
            self.guard(connection)
            for judged in round_of:
                self._commit(connection, judged)

    def _commit(self, connection: Connection, judged: Judged) -> None:
        key = self._key(judged.dataset, judged.check)
        span = {"start_us": micros(judged.window.start), "end_us": micros(judged.window.end)}
        self._replace_verdicts(connection, judged, key, span)
        if judged.tally is None:
            # No window to replace: every failed run counts.
            self._count(connection, _by_series(judged.increments), {})
        else:
            self._replace_window(connection, judged, judged.tally, {**key, **span})
            self._replace_gauges(connection, judged, key)
        for point in objectives.record(connection, self.pipeline, judged.points):
            self._count(connection, _by_series(point.counted), {})
        self._touch_run(connection, judged, key)

    def commit_past(self, judged: Judged) -> None:
        """Write a window of history for baselines: nothing is counted, and no run is noted."""
        key = self._key(judged.dataset, judged.check)
        span = {"start_us": micros(judged.window.start), "end_us": micros(judged.window.end)}
        with self.writing() as connection:
            self._replace_verdicts(connection, judged, key, span)
            if judged.tally is not None:
                self._replace_window(connection, judged, judged.tally, {**key, **span})

    def _replace_verdicts(
        self, connection: Connection, judged: Judged, key: dict[str, str], span: dict[str, int]
    ) -> None:
        connection.execute(queries.DROP_VERDICTS, queries.key({**key, **span}))
        finished = micros(judged.finished_at)
        rows = [
            {
                **key, **span, "subject": dump(verdict.subject), "outcome": verdict.outcome.value,
                "measure": verdict.measure, "value": verdict.value, "bound": verdict.limit,
                "good": verdict.good, "total": verdict.total, "reason": verdict.reason,
                "details": dump(verdict.details), "finished_us": finished,
            }
            for verdict in judged.verdicts
        ]  # fmt: skip
        connection.execute(queries.ADD_VERDICTS, rows)
        rollups.record(connection, key, judged)

    def _replace_window(self, connection: Connection, judged: Judged, tally: Tally, key: Mapping[str, Any]) -> None:
        old = connection.execute(queries.OLD_WINDOW, queries.key(key)).first()
        counted = _by_series(judged.increments)
        before: dict[str, int] = json.loads(old.increments) if old else {}
        self._count(connection, counted, before)
        # A counter never falls: where a re-run counts less than before, the difference stays counted.
        kept = {**before, **{name: max(n, before.get(name, 0)) for name, n in counted.items()}}
        accepted = all(verdict.outcome is not Outcome.BAD for verdict in judged.verdicts)
        if accepted and old and not old.accepted:
            # It was bad, or was dropped by hand; what was dropped stays so, however many late rows come.
            accepted = key["end_us"] > (self._noted(connection, _dropped(judged.dataset, judged.check)) or 0)
        row = {
            **key, "version": (old.version if old else 0) + 1, "accepted": accepted,
            "tally": dump_tally(tally), "figures": dump(judged.figures), "increments": dump(kept),
        }  # fmt: skip
        connection.execute(queries.WRITE_WINDOW, row)

    def _count(self, connection: Connection, counted: Mapping[str, int], before: Mapping[str, int]) -> None:
        """Add what is new of a window to the counters; a new series starts at 0."""
        rows = []
        for name, n in counted.items():
            metric, labels = name.split(" ", 1)
            added = max(0, n - before.get(name, 0))
            rows.append({"pipeline": self.pipeline, "metric": metric, "labels": labels, "value": 0, "held": added})
        if rows:
            connection.execute(queries.COUNT, rows)

    def count_one(self, connection: Connection, metric: str, labels: Mapping[str, str]) -> None:
        """Add one to a counter, in the caller's transaction."""
        self._count(connection, {series_name(Sample(metric, labels, 1)): 1}, {})

    def release(self, connection: Connection, now: datetime) -> None:
        """Add what is held back of series that were exposed at 0 for long enough, in the caller's transaction."""
        of, names = schema.counters.c, map(tuple, connection.execute(queries.HELD, {"pipeline": self.pipeline}))
        self._held_since = {name: min(self._held_since.get(name, now), now) for name in names}
        due = [(metric, labels) for (metric, labels), since in self._held_since.items() if now - since >= EXPOSED_FOR]
        if due:
            here = and_(of.pipeline == self.pipeline, sa.tuple_(of.metric, of.labels).in_(due))
            connection.execute(schema.counters.update().where(here).values(value=of.value + of.held, held=0))

    def _replace_gauges(self, connection: Connection, judged: Judged, key: dict[str, str]) -> None:
        connection.execute(queries.DROP_GAUGES, queries.key(key))
        rows = [
            {**key, "metric": sample.metric, "labels": dump(sample.labels), "value": float(sample.value)}
            for sample in judged.gauges
        ]
        if rows:
            connection.execute(queries.ADD_GAUGES, rows)

    def _touch_run(self, connection: Connection, judged: Judged, key: dict[str, str]) -> None:
        finished = micros(judged.finished_at)
        error = next((v.reason or "failed" for v in judged.verdicts if v.outcome is Outcome.ERROR), None)
        row = {
            **key, "watermark_us": micros(judged.window.end) if judged.advances else None, "finished_us": finished,
            "succeeded_us": None if error else finished, "duration_seconds": judged.duration_seconds, "error": error,
        }  # fmt: skip
        connection.execute(queries.WRITE_RUN, row)

    # -- reading ---------------------------------------------------------------------------------

    def watermarks(self, dataset: str) -> dict[str, datetime | None]:
        """Return the end of the newest window that each check has judged, of those that have run."""
        with self.reading() as connection:
            rows = connection.execute(queries.WATERMARKS, {"pipeline": self.pipeline, "dataset": dataset}).all()
        return {row.check_id: when(row.watermark_us) for row in rows}

    def runs(self) -> list[Run]:
        """Return how each check last ran."""
        table = schema.runs
        with self.reading() as connection:
            rows = connection.execute(select(table).where(table.c.pipeline == self.pipeline)).all()
        return [
            Run(
                row.dataset, row.check_id, when(row.watermark_us), moment(row.finished_us),
                when(row.succeeded_us), row.duration_seconds, row.error,
            )
            for row in rows
        ]  # fmt: skip

    def latest(self) -> list[Verdict]:
        """Return the verdicts of the newest window of each check that has run."""
        with self.reading() as connection:
            rows = connection.execute(queries.LATEST, {"pipeline": self.pipeline}).all()
        return [load_verdict(row) for row in rows]

    def latest_figures(self) -> list[Figure]:
        """Return the same without their words."""
        with self.reading() as connection:
            return [Figure(*row) for row in connection.execute(queries.LATEST_FIGURES, {"pipeline": self.pipeline})]

    def histories(self, verdicts: Sequence[Verdict], at_most: int) -> list[tuple[Point, ...]]:
        """Return, for the subject of each verdict, its last verdicts without their words, oldest first."""
        found = []
        with self.reading() as connection:
            for verdict in verdicts:
                key = {**self._key(verdict.dataset, verdict.check), "subject": dump(verdict.subject)}
                rows = connection.execute(queries.HISTORY, {**key, "at_most": at_most}).all()
                points = [Point(moment(end), Outcome(outcome), *rest) for end, outcome, *rest in rows]
                found.append(tuple(reversed(points)))
        return found

    def window_ends(self, dataset: str, check: str, span: Window) -> set[datetime]:
        """Return the ends of the windows of a check that are kept and lie in a span."""
        with self.reading() as connection:
            rows = connection.execute(select(schema.windows.c.end_us).where(self._inside(dataset, check, span))).all()
        return {moment(row.end_us) for row in rows}

    def figures(self, dataset: str, check: str, span: Window, name: str) -> dict[Window, float]:
        """Return one figure of each window that is kept and lies in a span."""
        columns = (schema.windows.c[name] for name in ("start_us", "end_us", "figures"))
        with self.reading() as connection:
            rows = connection.execute(select(*columns).where(self._inside(dataset, check, span))).all()
        found = {Window(moment(row.start_us), moment(row.end_us)): json.loads(row.figures).get(name) for row in rows}
        return {window: value for window, value in found.items() if value is not None}

    def accepted_windows(self, dataset: str, check: str) -> int:
        """Return how many past windows may make up a band."""
        statement = select(sa.func.count()).where(self._is(schema.windows, dataset, check), schema.windows.c.accepted)
        with self.reading() as connection:
            return int(connection.execute(statement).scalar_one())

    def counters(self) -> list[Sample]:
        """Return every counter with its labels."""
        return self._samples(schema.counters)

    def gauges(self) -> list[Sample]:
        """Return every gauge that a check has set."""
        return self._samples(schema.gauges)

    def _samples(self, table: Table) -> list[Sample]:
        with self.reading() as connection:
            rows = connection.execute(select(table).where(table.c.pipeline == self.pipeline)).all()
        return [Sample(row.metric, json.loads(row.labels), row.value) for row in rows]

    def series(self) -> list[tuple[str, float]]:
        """Return the name, see ``series_name``, and the value of every counter and gauge, read at little cost."""
        with self.reading() as connection:
            read = [connection.execute(statement, {"pipeline": self.pipeline}).all() for statement in queries.SERIES]
        return [(name, value) for rows in read for name, value in rows]

    def baseline(
        self, dataset: str, check: str, window: Window,
        *, with_past: bool = True, with_previous: bool = True, with_reference: bool = True,
    ) -> Baseline:  # fmt: skip
        """Return what a check may know of the time before a window.

        Args:
            dataset: Name of a watched dataset.
            check: Name of a check.
            window: What it is about to judge.
            with_past: Whether it looks at figures of past windows of the same length: the newest, and comparable ones.
            with_previous: Whether it looks at the tally of the window before.
            with_reference: Whether it looks at what was frozen.

        Cost:
            1 to 4 us for each past window.
        """
        table = schema.windows
        before = and_(self._is(table, dataset, check), table.c.end_us <= micros(window.end))
        newest_first = table.c.end_us.desc()
        past, previous = list[Any](), None
        saved = self.saved_baseline(dataset, check) if with_reference else None
        with self.reading() as connection:
            if with_past:
                # A day has not as many rows as an hour.
                length_us = micros(window.end) - micros(window.start)
                alike = and_(before, table.c.accepted, table.c.end_us - table.c.start_us == length_us)
                accepted = select(table.c.end_us, table.c.figures).where(alike).order_by(newest_first)
                past = list(connection.execute(accepted.limit(PAST_WINDOWS)))
                if len(past) == PAST_WINDOWS:
                    newest, key = past[-1].end_us, queries.key(self._key(dataset, check))
                    # Each hour is found by the key; one condition for all of them would read all that is between.
                    for start, end in queries.comparable_hours(window.end):
                        hour = {"start": start, "end": min(end, newest), "length": length_us}
                        past += connection.execute(queries.PAST_HOUR, {**key, **hour})
                past.sort(key=lambda row: row.end_us)
            if with_previous:
                earlier = select(table).where(before, table.c.start_us < micros(window.start))
                previous = connection.execute(earlier.order_by(newest_first).limit(1)).first()
        figures = [json.loads(row.figures) for row in past]
        names = {name for row in figures for name in row}
        values = {name: [row.get(name) for row in figures] for name in names}
        return Baseline(
            Past([moment(row.end_us) for row in past], values),
            load_tally(dataset, previous, previous.tally) if previous else None,
            saved.frozen if saved else None,
            saved.reference if saved else None,
        )

    # -- baselines -------------------------------------------------------------------------------

    def save_baseline(self, saved: SavedBaseline) -> None:
        """Replace the reference of a check."""
        table = schema.baselines
        row = {
            **self._key(saved.dataset, saved.check),
            "start_us": micros(saved.window.start), "end_us": micros(saved.window.end),
            "built_us": micros(saved.built_at), "pinned": saved.pinned,
            "frozen": dump(saved.frozen), "reference": dump_tally(saved.reference),
        }  # fmt: skip
        with self.writing() as connection:
            connection.execute(table.delete().where(self._is(table, saved.dataset, saved.check)))
            connection.execute(table.insert().values(row))

    def saved_baseline(self, dataset: str, check: str) -> SavedBaseline | None:
        """Return the reference of a check, or None before it is built."""
        return next(iter(self.saved_baselines(self._is(schema.baselines, dataset, check))), None)

    def saved_baselines(self, *conditions: Any) -> list[SavedBaseline]:
        """Return every reference that fulfils all conditions."""
        table = schema.baselines
        with self.reading() as connection:
            rows = connection.execute(select(table).where(table.c.pipeline == self.pipeline, *conditions)).all()
        return [
            SavedBaseline(
                row.dataset, row.check_id, Window(moment(row.start_us), moment(row.end_us)),
                moment(row.built_us), row.pinned, json.loads(row.frozen), load_tally(row.dataset, row, row.reference),
            )
            for row in rows
        ]  # fmt: skip

    def pin_baseline(self, dataset: str, check: str, pinned: bool) -> bool:
        """Pin or unpin a reference; return whether there is one."""
        pin = schema.baselines.update().where(self._is(schema.baselines, dataset, check)).values(pinned=pinned)
        with self.writing() as connection:
            return connection.execute(pin).rowcount > 0

    def drop_baseline(self, dataset: str, check: str) -> bool:
        """Forget a reference and the accepted history of a check; return whether there was any."""
        with self.writing() as connection:
            saved, past = schema.baselines, schema.windows
            dropped = connection.execute(saved.delete().where(self._is(saved, dataset, check))).rowcount
            newest = connection.execute(select(sa.func.max(past.c.end_us)).where(self._is(past, dataset, check)))
            self.note_within(connection, _dropped(dataset, check), newest.scalar())
            here = and_(self._is(past, dataset, check), past.c.accepted)
            return dropped + connection.execute(past.update().where(here).values(accepted=False)).rowcount > 0

    # -- small notes -----------------------------------------------------------------------------

    def note(self, key: str) -> Any:
        """Return a small value kept under a key, or None."""
        with self.reading() as connection:
            return self._noted(connection, key)

    def _noted(self, connection: Connection, key: str) -> Any:
        here = schema.meta.c.key == f"{self.pipeline}:{key}"
        found = connection.execute(select(schema.meta.c.value).where(here)).scalar()
        return None if found is None else json.loads(found)

    def set_note(self, key: str, value: Any) -> None:
        """Keep a small value under a key."""
        with self.writing() as connection:
            self.note_within(connection, key, value)

    def note_within(self, connection: Connection, key: str, value: Any) -> None:
        """Keep a small value under a key, in the caller's transaction."""
        key = f"{self.pipeline}:{key}"
        connection.execute(schema.meta.delete().where(schema.meta.c.key == key))
        connection.execute(schema.meta.insert().values(key=key, value=dump(value)))

    def prune(self, before: datetime) -> int:
        """Forget windows and verdicts that ended before a moment; return how many rows that were."""

        def old(table: Table) -> Any:
            return table.delete().where(table.c.pipeline == self.pipeline, table.c.end_us < micros(before))

        with self.writing() as connection:
            return sum(connection.execute(old(table)).rowcount for table in (schema.windows, schema.verdicts))


def _dropped(dataset: str, check: str) -> str:
    """Return the key of the end of the newest window that was dropped."""
    return f"dropped:{dataset}:{check}"


def _by_series(samples: Iterable[Sample]) -> dict[str, int]:
    return {series_name(sample): int(sample.value) for sample in samples}
