"""Duplicates: surplus copies of an event, in the window and against what came before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy import CTE, ColumnElement, Text, and_, case, column, distinct, func, literal, or_, select, union_all

from checks.baseline import Baseline
from checks.check import Check, Sample, Verdict, percent, ratio_verdict
from checks.dataset import Dataset, Role
from checks.dialect import binary_order, row_key
from checks.measure import Aggregate, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours, minutes, seconds
from checks.suspects import Suspects
from checks.window import MICROSECOND, Window, micros

DAY = hours(24)
SPLITS = ("same_window", "retry", "replay")


@dataclass(frozen=True, kw_only=True)
class DuplicatesSettings(CheckSettings):
    """Settings of the duplicates check."""

    max_ratio: Annotated[Ratio, Setting("Greatest share of surplus copies.", 0, 1)] = 0.005
    max_semantic_ratio: Annotated[Ratio, Setting("Greatest share of semantic repeats.", 0, 1)] = 0.02
    look_back: Annotated[Duration, Setting("How far back earlier copies are looked for.", 0)] = hours(24)
    retry_lag: Annotated[
        Duration, Setting("A copy within this of the first one is a retry, a later one a replay.", 0)
    ] = minutes(15)
    semantic_within: Annotated[
        Duration, Setting("Two events with different ids are one act within this time.", 0, 30)
    ] = seconds(2)


class Duplicates(Check[DuplicatesSettings]):
    """Counts surplus copies: rows whose event was seen before, here or in the look-back.

    Detects:
        Copies within the window, retries, replays; and, where events have ids, semantic repeats: one
        act of one user sent again under a new id.

    Does not detect:
        Copies older than ``look_back``. Rows without a key are counted apart, not as duplicates.

    When it fires:
        Surplus copies exceed ``max_ratio`` of the rows with a key, or semantic repeats exceed
        ``max_semantic_ratio``. The first copy is never surplus: (a, a, a, b) holds two in four.
    """

    id = "duplicates"
    settings_type = DuplicatesSettings
    formula = "surplus copies / rows with a key; the key is event_id, else user, item, type and time"
    limit_setting = "max_ratio"
    late_counts = ("rows",)
    uses = (Role.EVENT_ID, Role.USER, Role.ITEM, Role.EVENT_TYPE)

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: no event id, and not enough roles for the other key."""
        if Role.EVENT_ID not in dataset.roles:
            missing = [role for role in _FALLBACK if role not in dataset.roles and role is not Role.EVENT_TYPE]
            if missing:
                return f"needs the role event_id, or else {' and '.join(missing)}"
        return super().absent(dataset)

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the rows with a key, and the surplus copies by source and split."""
        keyed = _has_key(rows)
        measure = Measure(
            rows,
            {"rows": Aggregate(func.count()), "keyed": Aggregate.rows(column("has_key").is_(True))},
            {"has_key": keyed},
        )
        copies = Listing(
            "copies", rows, self._copies(rows), (len(rows.dataset.sources) + 2) * len(SPLITS),
            only_if=lambda tally: tally.count("keyed") > 0,
        )  # fmt: skip
        if not _can_repeat(rows.dataset):
            return (measure, copies)
        semantic = Listing("semantic", rows, self._semantic(rows), 1, only_if=lambda tally: tally.count("rows") > 1)
        return (measure, copies, semantic)

    def _copies(self, rows: Rows) -> Any:
        """Return surplus copies by source and split.

        A 64-bit key finds the few rows that may be copies; only these are compared exactly.
        """
        whole = rows.since(rows.window.start - self.settings.look_back) if self.settings.look_back else rows
        start = micros(rows.window.start)
        keys, at = _key(rows), rows.micros(rows.clock_role).label("at")
        repeated = self._repeated(rows, whole)
        parts = [part.label(f"k{place}") for place, part in enumerate(keys)]
        copies = (
            select(rows.source.label("source"), at, *parts)
            .where(and_(whole.belongs, _has_key(rows), row_key(*keys).in_(select(repeated.c.k))))
            .cte("_copies")
        )
        same = [copies.c[part.name] for part in parts]
        first = func.min(copies.c.at).over(partition_by=same).label("first")
        place = (
            func.row_number()
            .over(partition_by=same, order_by=(copies.c.at, binary_order(copies.c.source)))
            .label("place")
        )
        ranked = select(copies.c.source, copies.c.at, first, place).cte("_ranked")
        retry_lag = self.settings.retry_lag // MICROSECOND
        split = case(
            (ranked.c.first >= start, literal("same_window", Text)),
            (ranked.c.at - ranked.c.first <= retry_lag, literal("retry", Text)),
            else_=literal("replay", Text),
        ).label("split")
        surplus = select(ranked.c.source, split).where(and_(ranked.c.at >= start, ranked.c.place > 1)).subquery()
        return select(surplus.c.source, surplus.c.split, func.count()).group_by(surplus.c.source, surplus.c.split)

    def _repeated(self, rows: Rows, whole: Rows) -> Any:
        """Return the keys that may stand for more than one row of the window and the look-back."""
        key = row_key(*_key(rows)).label("k")
        if whole.window.duration <= 2 * rows.window.duration:
            # With it come keys that repeat before the window only; to tell them apart costs more than it saves.
            statement = select(key).where(and_(whole.belongs, _has_key(rows))).group_by(key)
            return statement.having(func.count() > 1).cte("_repeated")
        counted = func.count().label("n")
        inside = select(key, counted).where(and_(rows.belongs, _has_key(rows))).group_by(key).cte("_inside")
        before = Rows(rows.dataset, Window(whole.window.start, rows.window.start), rows.clock)
        earlier = select(key).where(and_(before.belongs, _has_key(rows), key.in_(select(inside.c.k))))
        return union_all(select(inside.c.k).where(inside.c.n > 1), earlier).cte("_repeated")

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the rows whose event came more than once, the first copy among them."""
        if verdict.feature is not None:
            return None
        whole = rows.since(rows.window.start - self.settings.look_back) if self.settings.look_back else rows
        repeated = self._repeated(rows, whole)
        is_copy = and_(_has_key(rows), row_key(*_key(rows)).in_(select(repeated.c.k)))
        return Suspects(rows, is_copy, what="rows whose event came more than once")

    def _semantic(self, rows: Rows) -> Any:
        """Return how many more events there are, for the window's rows, that repeat the act before them under a new id.

        So each repeat counts in the window in which the second of the two is first seen, whichever came first.
        Copies of an event count once. Acts and ids are compared by their 64-bit keys: two acts within
        ``semantic_within`` of each other are mistaken for one with a probability of 1 / 2^64.
        """
        within = self.settings.semantic_within // MICROSECOND
        # By event time the two are close. By ingestion they may be as far apart as the two sends of a retry.
        is_by_event = rows.clock_role is Role.EVENT_TIME
        before = (
            self.settings.semantic_within
            if is_by_event
            else max(self.settings.retry_lag, self.settings.semantic_within)
        )
        wide = rows.since(rows.window.start - before)
        usable = and_(wide.belongs, *(rows.present(role) for role in (Role.EVENT_ID, Role.USER, Role.ITEM)))
        act = [rows.column(role) for role in (Role.USER, Role.ITEM, Role.EVENT_TYPE) if role in rows.dataset.roles]
        rows_of_acts = select(
            row_key(*act).label("act"),
            row_key(rows.column(Role.EVENT_ID)).label("event"),
            rows.micros(Role.EVENT_TIME).label("at"),
            case((rows.belongs, 1), else_=0).label("inside"),
        )
        acts = rows_of_acts.where(usable).subquery()
        # In order of time alone, which is half the sorting; the few acts with another close by are then looked at.
        order: dict[str, Any] = {"partition_by": acts.c.act, "order_by": acts.c.at}
        since, until = acts.c.at - func.lag(acts.c.at).over(**order), func.lead(acts.c.at).over(**order) - acts.c.at
        spaced = select(*acts.c, since.label("since"), until.label("until")).subquery()
        event: Any = (spaced.c.act, spaced.c.event)
        close = or_(spaced.c.since <= within, spaced.c.until <= within)
        first, known = func.min(spaced.c.at), func.min(case((spaced.c.inside == 0, spaced.c.at)))
        events = select(*event, first.label("now"), known.label("then")).where(close).group_by(*event).cte("_events")
        now, then = (self._repeats(events, events.c[at], within) for at in ("now", "then"))
        return select(now - then)

    def _repeats(self, events: CTE, at: ColumnElement[int], within: int) -> ColumnElement[int]:
        """Return the number of events whose act had come under another id shortly before."""
        before = func.lag(at).over(partition_by=events.c.act, order_by=(at, events.c.event))
        pairs = select((at - before).label("apart")).where(at.is_not(None)).subquery()
        return select(func.count()).select_from(pairs).where(pairs.c.apart <= within).scalar_subquery()

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on all rows, on semantic repeats, and on each source."""
        copies: dict[str, dict[str, int]] = {}
        for source, split, n in tally.listings.get("copies", ()):
            copies.setdefault(source, dict.fromkeys(SPLITS, 0))[split] = int(n)
        splits = {split: sum(found[split] for found in copies.values()) for split in SPLITS}
        verdicts = [self._verdict(tally, splits, None)]
        if "semantic" in tally.listings:
            verdicts.append(self._semantic_verdict(tally))
        for source in tally.by_source:
            if source != ALL_SOURCES:
                verdicts.append(self._verdict(tally, copies.get(source, dict.fromkeys(SPLITS, 0)), source))
        return tuple(verdicts)

    def _verdict(self, tally: Tally, splits: dict[str, int], source: str | None) -> Verdict:
        counts = tally.by_source[source] if source is not None else tally.counts
        surplus, keyed = sum(splits.values()), int(counts.get("keyed") or 0)
        named = ", ".join(f"{split.replace('_', ' ')} {n:,}" for split, n in splits.items() if n)
        reason = f"{surplus:,} surplus copies of {keyed:,} rows: {named}" if surplus else "no surplus copy"
        details = {**splits, "surplus": surplus, "no_event_id": int(counts.get("rows") or 0) - keyed}
        return ratio_verdict(
            self, tally, "duplicate_ratio", surplus, keyed, self.settings.max_ratio,
            source=source, reason=reason, details=details,
        )  # fmt: skip

    def _semantic_verdict(self, tally: Tally) -> Verdict:
        # An event whose copy tells an earlier time may take one away.
        found = max(0, int((tally.listings["semantic"] or [(0,)])[0][0]))
        rows = tally.count("rows")
        reason = f"{percent(found / rows)} of rows repeat an act under a new id" if found else "no semantic repeat"
        return ratio_verdict(
            self, tally, "semantic_ratio", found, rows, self.settings.max_semantic_ratio,
            feature="semantic", reason=reason, details={"semantic": found},
        )  # fmt: skip

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return rows with a key by whether they are a first or a surplus copy."""
        splits = dict.fromkeys(SPLITS, 0)
        for _source, split, n in tally.listings.get("copies", ()):
            splits[split] += int(n)
        results = {"first": tally.count("keyed") - sum(splits.values()), **splits}
        return tuple(
            Sample("recwatch_dedup_events_total", {"dataset": tally.dataset, "result": result}, n)
            for result, n in results.items()
        )


_FALLBACK = (Role.USER, Role.ITEM, Role.EVENT_TYPE, Role.EVENT_TIME)


def _key(rows: Rows) -> list[ColumnElement[Any]]:
    if Role.EVENT_ID in rows.dataset.roles:
        return [rows.column(Role.EVENT_ID)]
    return [rows.column(role) for role in _FALLBACK if role in rows.dataset.roles]


def _has_key(rows: Rows) -> ColumnElement[bool]:
    roles = (Role.EVENT_ID,) if Role.EVENT_ID in rows.dataset.roles else (Role.USER, Role.ITEM)
    return and_(*(rows.present(role) for role in roles))


def distinct_keys(rows: Rows) -> Any:
    """Return how many rows have a key, how many different keys, and times of the day, whatever the window.

    Cost:
        One scan, with a set of the keys.
    """
    keys, time_of_day = row_key(*_key(rows)), rows.micros(Role.EVENT_TIME) % (DAY // MICROSECOND)
    counted = select(func.count(), func.count(distinct(keys)), func.count(distinct(time_of_day)))
    return counted.select_from(rows.dataset.table).where(_has_key(rows))


def _can_repeat(dataset: Dataset) -> bool:
    return all(role in dataset.roles for role in (Role.EVENT_ID, Role.USER, Role.ITEM, Role.EVENT_TIME))
