"""Freshness: how old the newest row is, by event time and by ingestion time, per source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Text, case, column, func, literal, or_, select

from checks.baseline import Baseline
from checks.check import Check, Outcome, Sample, Verdict
from checks.dataset import Role, TimeUnit
from checks.measure import Aggregate, Counts, Listing, Measure, Merge, Tally
from checks.rows import ALL_SOURCES, Rows
from checks.settings import CheckSettings, Duration, Setting, hours, minutes, seconds
from checks.window import Window, micros, moment

TIMELESS = "timeless"
# What is dated later than this after now is no clock that runs ahead, but no time, or one of another unit.
_FARTHEST = timedelta(days=36525)
_TIMES = {Role.EVENT_TIME: "newest_event", Role.INGESTED_AT: "newest_ingest"}


@dataclass(frozen=True, kw_only=True)
class FreshnessSettings(CheckSettings):
    """Settings of the freshness check."""

    every: Annotated[Duration, Setting("How often the check runs.", 1)] = seconds(30)
    window: Annotated[
        Duration, Setting("How far back a tick looks; a feed older than that is searched for once.", 1)
    ] = hours(1)
    settle: Annotated[
        Duration, Setting("How long after its end a window waits; not at all, since freshness is about the present.", 0)
    ] = seconds(0)
    # One is enough to tell the age, so there is nothing to set.
    min_rows: int = field(init=False, default=1)
    max_age: Annotated[Duration, Setting("Greatest lag that is still fresh.", 1)] = minutes(5)
    max_age_by_source: Annotated[Mapping[str, Duration], Setting("Other limits for single sources.")] = field(
        default_factory=dict
    )
    emergency_factor: Annotated[float, Setting("Times max_age at which the age of the feed pages at once.", 1)] = 6.0
    skew_tolerance: Annotated[
        Duration, Setting("Rows dated later than now plus this are counted as future, not as fresh.", 0)
    ] = seconds(60)
    forget_source: Annotated[Duration, Setting("A source that was silent for longer is no longer expected.", 60)] = (
        hours(24)
    )

    @property
    def emergency(self) -> timedelta:
        """Age of the newest event that pages at once; not yet one that two missed runs explain, as the age grows on."""
        return max(self.emergency_factor * self.max_age, self.max_age + 2 * self.every)


class Freshness(Check[FreshnessSettings]):
    """Tells how long ago the newest event happened and arrived.

    Detects:
        A feed that stalls, as a whole or for one source; producers whose clock runs ahead.

    Does not detect:
        A feed that still delivers, but less than it should: see ``ingestion``.

    When it fires:
        The lag of the dataset exceeds ``max_age``. A source that is frequent enough to tell is bad by
        itself when its own does, for the page and ``recwatch check``; the objective, and so whoever is
        told, goes by the dataset alone, whose newest row any source may bring. A table without any row is
        ``unknown``, not very stale; one of whose rows none has a time is an ``error``.
    """

    id = "freshness"
    settings_type = FreshnessSettings
    formula = "lag = now - newest event_time not later than now + skew_tolerance; never below 0"
    limit_setting = "max_age"
    uses = (Role.EVENT_TIME, Role.INGESTED_AT)
    catches_up = False

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the newest times and the number of rows dated ahead, per source."""
        latest = micros(rows.window.end + self.settings.skew_tolerance)
        times = _dated(rows)
        derived: dict[str, ColumnElement[Any]] = {f"{name}_us": case((at <= latest, at)) for name, at in times.items()}
        marks = {"is_ahead": or_(*(at > latest for at in times.values()))}
        future = Aggregate.rows(column("is_ahead", Boolean).is_(True))
        aggregates = {name: Aggregate(func.max(column(f"{name}_us", BigInteger)), Merge.MAX) for name in times}
        seen = Measure(
            _visible(rows), {**aggregates, "rows": Aggregate(func.count()), "future": future}, derived | marks
        )
        # What is ingested ahead is counted by itself: mostly there is none, and the window's rows share one scan.
        after = replace(rows, window=Window(rows.window.end, rows.window.end + _FARTHEST))
        can_tell = Role.INGESTED_AT in rows.dataset.roles and not rows.is_past
        ahead = [Measure(after, {"future_ingested": future}, marks)] if can_tell else []
        search = self._search(rows, latest, baseline.previous)
        has_been_seen = baseline.previous is not None and _newest(self._found(baseline.previous)) is not None
        return (seen, *ahead, search, *(() if has_been_seen else (self._timeless(rows),)))

    def _search(self, rows: Rows, latest: int, previous: Tally | None) -> Listing:
        """Return the search through everything older, for a feed that is silent since long.

        Nothing older than the newest row that an earlier tick has found can be newer than it.
        """
        columns: list[Any] = [func.max(case((at <= latest, at))).label(name) for name, at in _dated(rows).items()]
        known = None if previous is None else self._found(previous).get(_TIMES[rows.clock_role])
        # A time of before 1970 is as good as none, and may be none that a date can hold.
        since = moment(int(known)) if known and known > 0 else None
        older = rows.within(rows.clock_role, since, rows.window.end)
        statement = select(*columns).select_from(rows.dataset.table).where(older)
        return Listing("older", rows, statement, 1, only_if=lambda tally: _newest(tally.counts) is None)

    def _timeless(self, rows: Rows) -> Listing:
        """Return the search for one row without the time that tells the age, for a table that seems empty.

        It ends at the first one.
        """
        role = Role.EVENT_TIME if Role.EVENT_TIME in rows.dataset.roles else rows.clock_role
        # The column itself, where it can be, so that an index serves.
        at: Any = rows.micros(role) if rows.dataset.time_units[role] is TimeUnit.TEXT else rows.column(role)
        is_timeless = or_(at.is_(None), rows.within(role, rows.window.end + _FARTHEST, None))
        named: Any = literal(role.value, Text), literal(rows.dataset.roles[role], Text)
        statement = select(*named).select_from(rows.dataset.table).where(is_timeless).limit(1)
        return Listing(TIMELESS, rows, statement, 1, only_if=self._seems_empty)

    def _seems_empty(self, tally: Tally) -> bool:
        return not _future(tally.counts) and _newest(self._found(tally)) is None

    def carry(self, previous: Tally, tally: Tally) -> Tally:
        """Return the tally with the newest times of sources that are silent now."""
        horizon = micros(tally.window.end - self.settings.forget_source)
        by_source = {}
        for source in {**previous.by_source, **tally.by_source}:
            counts = _later(previous.by_source.get(source, {}), tally.by_source.get(source, {}))
            if (_newest(counts) or 0) >= horizon or _future(counts):
                by_source[source] = counts
        counts = _later(self._found(previous), tally.counts)
        return replace(tally, counts=counts, by_source=by_source)

    def _found(self, tally: Tally) -> Counts:
        """Return the counts of a tick with what its search has found."""
        if not tally.listings.get("older"):
            return tally.counts
        return _later(dict(zip(self._times(tally), tally.listings["older"][0], strict=False)), tally.counts)

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the dataset, then on each source, worst first."""
        counts = self._found(tally)
        sources = [
            self._verdict(tally, source_counts, source)
            for source, source_counts in tally.by_source.items()
            if source != ALL_SOURCES and any(source_counts.values())
        ]
        sources.sort(key=lambda verdict: -(verdict.value or 0))
        whole = self._verdict(tally, counts, None)
        if sources:
            slowest = {str(verdict.source): verdict.value for verdict in sources}
            whole = replace(whole, details={**whole.details, "lag_seconds_by_source": slowest})
        return (whole, *sources)

    def _times(self, tally: Tally) -> tuple[str, ...]:
        return tuple(name for name in _TIMES.values() if name in tally.merges)

    def _verdict(self, tally: Tally, counts: Counts, source: str | None) -> Verdict:
        limit = self.settings.max_age_by_source.get(source or "", self.settings.max_age)
        now, newest = micros(tally.window.end), _newest(counts)
        future = _future(counts)
        details: dict[str, Any] = {"future": future}
        for name in self._times(tally):
            at = counts.get(name)
            kind = "event" if name == "newest_event" else "ingest"
            details[f"{kind}_lag_seconds"] = None if at is None else max(0.0, (now - at) / 1e6)
        fields: dict[str, Any] = {"source": source, "limit": limit.total_seconds(), "details": details}
        if newest is None:
            for role, name in tally.listings.get(TIMELESS, ()):
                held = f"column {name} (role {role}) holds none that can be read, or of another unit"
                return self.verdict(tally, Outcome.ERROR, "lag_seconds", reason=f"no row has a time: {held}", **fields)
            reason = "empty: no row at all" if not future else f"all {future:,} rows are dated in the future"
            return self.verdict(tally, Outcome.UNKNOWN, "lag_seconds", reason=reason, **fields)
        lag = max(0.0, (now - newest) / 1e6)
        ahead = f"; {future:,} rows dated in the future" if future else ""
        reason = f"newest event is {age(lag)} old{ahead}"
        if source is not None and not self._is_frequent(counts, limit):
            reason += "; too rare to expect one within the limit"
            return self.verdict(tally, Outcome.UNKNOWN, "lag_seconds", value=lag, reason=reason, **fields)
        outcome = Outcome.GOOD if lag <= limit.total_seconds() else Outcome.BAD
        return self.verdict(tally, outcome, "lag_seconds", value=lag, reason=reason, **fields)

    def _is_frequent(self, counts: Counts, limit: timedelta) -> bool:
        """Return whether a source sends so often that a gap of ``limit`` is no chance.

        At a mean of r rows per limit, chance leaves such a gap with probability exp(-r); at 7
        that is one in a thousand.
        """
        usual = max(counts.get("usual_rows") or 0, counts.get("rows") or 0)
        return usual * (limit / self.settings.window) >= 7

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the newest times as timestamps, so that they keep ageing if anything stops."""
        metrics = {
            "newest_event": "recwatch_newest_event_timestamp_seconds",
            "newest_ingest": "recwatch_newest_ingest_timestamp_seconds",
        }
        emergency = self.settings.emergency.total_seconds()
        samples = [Sample("recwatch_freshness_emergency_seconds", {"dataset": tally.dataset}, emergency)]
        for source, counts in {**tally.by_source, ALL_SOURCES: self._found(tally)}.items():
            for name, metric in metrics.items():
                at = counts.get(name)
                if at is not None:
                    labels = {"dataset": tally.dataset, "source": source}
                    samples.append(Sample(metric, labels, at / 1e6))
        return tuple(samples)


def _visible(rows: Rows) -> Rows:
    """Return the rows that could be seen at the window's end.

    By ingestion time these are the rows ingested before it. Without that role nothing tells
    when a row became visible, so rows dated ahead are looked at too, and counted as future; of
    the past they are just what came later.
    """
    if Role.INGESTED_AT in rows.dataset.roles or rows.is_past:
        return rows
    return replace(rows, window=replace(rows.window, end=rows.window.end + _FARTHEST))


def _dated(rows: Rows) -> dict[str, ColumnElement[int]]:
    """Return the times that a row has."""
    return {name: rows.micros(role) for role, name in _TIMES.items() if role in rows.dataset.roles}


def _future(counts: Counts) -> int:
    """Return how many rows are dated ahead, by either time."""
    return sum(int(counts.get(name) or 0) for name in ("future", "future_ingested"))


def _newest(counts: Counts) -> float | None:
    """Return the newest event time; the newest ingestion time where there is no event time."""
    at = counts.get("newest_event", counts.get("newest_ingest"))
    return None if at is None else float(at)


def _later(previous: Counts, counts: Counts) -> dict[str, Any]:
    """Return counts with the later of both newest times, and the usual number of rows."""
    merged: dict[str, Any] = {name: 0 for name in previous if name not in _TIMES.values()}
    merged.update(counts)
    for name in _TIMES.values():
        if name in previous or name in counts:
            merged[name] = Merge.MAX(previous.get(name), counts.get(name))
    usual = [previous.get("usual_rows"), previous.get("rows"), counts.get("rows")]
    merged["usual_rows"] = max(value or 0 for value in usual)
    return merged


def age(lag_seconds: float) -> str:
    """Return a lag as people say it.

    Examples:
        >>> age(0.391), age(42), age(400), age(90000)
        ('0.4 s', '42 s', '6.7 min', '1.0 d')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if lag_seconds >= size:
            return f"{lag_seconds / size:.1f} {unit}"
    return f"{lag_seconds:.1f} s" if lag_seconds < 10 else f"{lag_seconds:.0f} s"
