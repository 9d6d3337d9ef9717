"""Ingestion success: what the producers sent, held against what landed well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from sqlalchemy import ColumnElement, column, func, literal

from checks.baseline import Band, BandSettings, Baseline
from checks.check import NO_SIBLINGS, Check, Outcome, Sample, Siblings, Verdict, ratio_verdict
from checks.contract import ContractSettings, validity
from checks.dataset import Dataset, Role
from checks.measure import Aggregate, Counts, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, Rows, is_source, require
from checks.settings import CheckSettings, Duration, Ratio, Setting, minutes
from checks.suspects import Suspects

SENT, REJECTED = "sent", "rejected"


@dataclass(frozen=True, kw_only=True)
class IngestionSettings(CheckSettings):
    """Settings of the ingestion check."""

    settle: Annotated[Duration, Setting("How long after its end a window waits for late rows.", 0)] = minutes(2)
    max_failed_ratio: Annotated[Ratio, Setting("Greatest share of sent events that may fail to land well.", 0, 1)] = (
        0.001
    )
    min_history: Annotated[int, Setting("Fewest past windows to judge volume by.", 3)] = 8
    deviations: Annotated[float, Setting("Robust deviations that volume may be off.", 1)] = 6.0
    relative_floor: Annotated[Ratio, Setting("Share of the usual volume that it may always be off.", 0, 1)] = 0.5


class Ingestion(Check[IngestionSettings]):
    """Counts how much of what was sent has landed and keeps the event contract.

    Detects:
        Rejected events, events lost without a word, invalid rows, by source; a surplus that points
        to duplicates; where nobody counts sends, a volume unlike that of the same hour.

    Does not detect:
        Events that a producer never sent; late events, as long as they come within ``settle``.

    When it fires:
        The failed share of sent events exceeds ``max_failed_ratio``. With neither sends nor rejects
        known, when the volume leaves its band.
    """

    id = "ingestion"
    settings_type = IngestionSettings
    formula = "good / total; good = landed and valid, total = sent, or landed + rejected"
    limit_setting = "max_failed_ratio"
    late_counts = ("landed", SENT, REJECTED)
    uses = (Role.EVENT_TIME,)
    history = ("landed",)

    def __init__(self, settings: IngestionSettings, siblings: Siblings = NO_SIBLINGS) -> None:
        super().__init__(settings, siblings)
        # Only rows that keep the event contract have landed well.
        self.contract = siblings.get("contract", ContractSettings())

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the rows of each stage by event time, the one clock that all stages share."""
        return [self._stage(stage_rows, stage) for stage, stage_rows in self._rows(rows).items()]

    def _rows(self, rows: Rows) -> dict[str, Rows]:
        """Return the rows of each stage."""
        clock = self.clock(rows.dataset)
        by_event = Role.EVENT_TIME if clock is Role.EVENT_TIME else None
        # What landed later had not landed yet when the window was judged.
        seen_by = rows.window.end + self.settings.settle if rows.is_replayed else None
        found = {}
        for dataset, stage in _stages(rows.dataset):
            if dataset is not rows.dataset:
                require(dataset, Role.EVENT_TIME, Role.INGESTED_AT, Role.VALUE, Role.SOURCE)
            found[stage] = Rows(replace_sources(dataset, rows.dataset), rows.window, by_event, seen_by=seen_by)
        return found

    def arrivals(self, rows: Rows) -> Mapping[str, tuple[Rows, ColumnElement[Any]]]:
        """Return the rows of each stage; one that was counted beforehand counts what it tells."""
        return {stage: (of, _counted(of, stage)) for stage, of in self._rows(rows).items()}

    def clock(self, dataset: Dataset) -> Role | None:
        """Return event time where there are stages to compare that all have it, else the usual clock."""
        found = _stages(dataset)
        by_event = len(found) > 1 and all(Role.EVENT_TIME in stage.roles for stage, _ in found)
        return Role.EVENT_TIME if by_event else dataset.clock

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the rows that landed and break the contract; what never landed leaves no row."""
        landed = Rows(rows.dataset, rows.window, self.clock(rows.dataset))
        broken = validity(landed, self.contract)["broken_rule"].is_not(None)
        return Suspects(landed, broken, what="rows that landed and break the contract")

    def _stage(self, rows: Rows, stage: str) -> Measure:
        if stage == "landed":
            broken: Any = column("broken_rule")
            aggregates = {
                "landed": Aggregate(func.count()),
                "invalid": Aggregate.rows(broken.is_not(None)),
            }
            return Measure(rows, aggregates, validity(rows, self.contract))
        if _is_counted(rows, stage):
            return Measure(
                rows,
                {stage: Aggregate(func.sum(column(f"{stage}_events")))},
                {f"{stage}_events": rows.column(Role.VALUE)},
            )
        return Measure(rows, {stage: Aggregate(func.count())})

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on all sources, then on each."""
        if SENT not in tally.counts and REJECTED not in tally.counts:
            return (self._volume_verdict(tally, baseline),)
        apart = _apart(tally)
        sources = [
            self._ratio_verdict(tally, parts, source) for source, parts in apart.items() if source != ALL_SOURCES
        ]
        return (self._ratio_verdict(tally, _together(apart), None), *sources)

    def _ratio_verdict(self, tally: Tally, parts: Mapping[str, int], source: str | None) -> Verdict:
        good, total = parts["good"], parts["total"]
        details = {name: n for name, n in parts.items() if name not in ("good", "total")}
        failed = ", ".join(
            f"{details[name]:,} {words}"
            for name, words in (
                ("rejected", "rejected"),
                ("silent_drop", "lost without a word"),
                ("invalid", "invalid"),
            )
            if details.get(name)
        )
        reason = f"{good:,} of {total:,} landed well" + (f"; {failed}" if failed else "")
        if details.get("surplus"):
            reason += f"; {details['surplus']:,} more landed than were sent, see duplicates"
        return ratio_verdict(
            self, tally, "failed_ratio", total - good, total, self.settings.max_failed_ratio,
            source=source, reason=reason, details=details,
        )  # fmt: skip

    def _volume_verdict(self, tally: Tally, baseline: Baseline) -> Verdict:
        landed = tally.count("landed")
        details: dict[str, Any] = {"landed": landed, "invalid": tally.count("invalid")}
        settings = self.settings
        width = BandSettings(settings.min_history, settings.deviations, settings.relative_floor, 0.0)
        band = baseline.band("landed", tally.window, width)
        fields: dict[str, Any] = {"value": landed, "details": details}
        if band is None:
            few = f"fewer than {settings.min_history} past windows of this length tell the usual volume"
            reason = f"nobody counts sends, and {few}"
            return self.verdict(tally, Outcome.UNKNOWN, "rows", reason=reason, **fields)
        details.update(expected=band.centre, low=band.low, high=band.high, limit_origin=band.origin)
        usual = f"{band.centre:,.0f} rows are usual"
        if band.centre < settings.min_rows:
            reason = f"{usual}, {settings.min_rows:,} are needed to judge"
            return self.verdict(tally, Outcome.UNKNOWN, "rows", reason=reason, **fields)
        if not landed and landed in band:
            reason = f"no rows; {usual}, but they vary too much to tell whether none is too few"
            return self.verdict(tally, Outcome.UNKNOWN, "rows", reason=reason, **fields)
        outcome = Outcome.GOOD if landed in band else Outcome.BAD
        return self.verdict(
            tally, outcome, "rows", limit=_nearest(band, landed),
            reason=f"{landed:,} rows, {band.centre:,.0f} are usual", **fields,
        )  # fmt: skip

    def figures(self, tally: Tally) -> Mapping[str, float | None]:
        """Return the volume, for the band of later windows."""
        return {"landed": tally.count("landed")}

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return events by source and result, which add up to the verdict on all sources.

        What a source lost and rows of none make up for is no failure, first of those whose source is not told apart.
        """
        samples, apart = [], _apart(tally)
        made_up = _together(apart)["good"] - sum(parts["good"] for parts in apart.values())
        for source, parts in sorted(apart.items(), key=lambda pair: (is_source(pair[0]), pair[0])):
            found = min(made_up, parts.get("silent_drop", 0))
            made_up -= found
            good = parts["good"] + found
            results = {"ok": good, "failed": parts["total"] - good}
            for result, n in results.items():
                labels = {"dataset": tally.dataset, "source": source, "result": result}
                samples.append(Sample("recwatch_ingest_events_total", labels, n))
        return tuple(samples)


def _stages(dataset: Dataset) -> list[tuple[Dataset, str]]:
    linked = [(stage, link) for link in (SENT, REJECTED) if (stage := dataset.linked(link)) is not None]
    return [(dataset, "landed"), *linked]


def _is_counted(rows: Rows, stage: str) -> bool:
    """Return whether a stage was counted beforehand: one row a bucket, with the number of events."""
    return stage != "landed" and Role.VALUE in rows.dataset.roles


def _counted(rows: Rows, stage: str) -> ColumnElement[Any]:
    return rows.column(Role.VALUE) if _is_counted(rows, stage) else literal(1)


def _apart(tally: Tally) -> dict[str, dict[str, int]]:
    """Return the stages of each source; all as one where a stage does not tell sources apart."""
    if ALL_SOURCES in tally.by_source or not tally.by_source:
        return {ALL_SOURCES: stages(tally.counts)}
    return {source: stages(counts) for source, counts in tally.by_source.items()}


def _together(apart: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return the stages of all sources: what one of them lost is not made up for by the surplus of another.

    Rows without a source, or of one that is not told apart, may be of any, so that these are set off against all.
    """
    whole = {name: sum(parts[name] for parts in apart.values()) for name in next(iter(apart.values()))}
    if SENT not in whole:
        return whole
    named = [parts for source, parts in apart.items() if is_source(source) or source == ALL_SOURCES]
    others = [parts for source, parts in apart.items() if not (is_source(source) or source == ALL_SOURCES)]
    lost, more, lost_elsewhere, more_elsewhere = (
        sum(parts[name] for parts in of) for of in (named, others) for name in ("silent_drop", "surplus")
    )
    found = min(lost, more_elsewhere)
    made_up = min(lost_elsewhere, more + more_elsewhere - found)
    # What was found landed well as far as more did than was sent there.
    well, well_elsewhere = (
        sum(parts["landed"] - parts["invalid"] - parts["good"] for parts in of) for of in (named, others)
    )
    recovered = min(found, well_elsewhere) + min(made_up, well + max(0, well_elsewhere - found))
    return {
        **whole,
        "silent_drop": whole["silent_drop"] - found - made_up,
        "surplus": whole["surplus"] - found - made_up,
        "good": whole["good"] + recovered,
    }


def stages(counts: Counts) -> dict[str, int]:
    """Return good, total and the losses between the stages, from the counts of each stage.

    Examples:
        >>> parts = stages({"sent": 1000, "landed": 985, "invalid": 3, "rejected": 10})
        >>> parts["good"], parts["total"], parts["silent_drop"]
        (982, 1000, 5)
    """
    landed, invalid = int(counts.get("landed") or 0), int(counts.get("invalid") or 0)
    rejected = int(counts.get(REJECTED) or 0)
    parts = {"landed": landed, "invalid": invalid, "rejected": rejected}
    arrived = landed + rejected
    if SENT not in counts:
        return {**parts, "good": landed - invalid, "total": arrived}
    sent = int(counts[SENT] or 0)
    surplus = max(0, arrived - sent)
    # A surplus copy is no success: good can't exceed what was sent less what failed.
    good = max(0, min(landed - invalid, sent - rejected - invalid))
    return {
        **parts,
        "sent": sent,
        "silent_drop": max(0, sent - arrived),
        "surplus": surplus,
        "good": good,
        "total": sent,
    }


def replace_sources(dataset: Dataset, like: Dataset) -> Dataset:
    """Return a stage that tells apart the same sources as the dataset it belongs to."""
    if dataset is like or dataset.sources == like.sources:
        return dataset
    return replace(dataset, sources=like.sources)


def _nearest(band: Band, value: float) -> float:
    return band.low if value < band.centre else band.high
