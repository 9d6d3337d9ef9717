"""Unknown ids: events whose user or item is missing, malformed, not in the catalogue, or retired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy import (
    ColumnElement,
    SmallInteger,
    Text,
    and_,
    case,
    cast,
    column,
    distinct,
    func,
    literal,
    not_,
    or_,
    select,
)

from checks.baseline import Baseline
from checks.check import Check, Sample, Verdict, percent, ratio_verdict
from checks.dataset import Dataset, Kind, Role
from checks.dialect import folded, matches_whole
from checks.measure import Aggregate, Counts, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, Catalogue, Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, minutes
from checks.suspects import Suspects
from checks.window import MICROSECOND

ENTITIES = {"user": (Role.USER, "users"), "item": (Role.ITEM, "items")}
# In the order in which they are tried; the first that holds is the cause.
CAUSES = ("missing", "malformed", "unknown", "retired")
COLD = len(CAUSES) + 1
PLACEHOLDERS = ("null", "none", "undefined", "nan", "0", "-1", "00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, kw_only=True)
class UnknownIdsSettings(CheckSettings):
    """Settings of the unknown ids check."""

    max_ratio: Annotated[Ratio, Setting("Greatest share of events with an unknown id.", 0, 1)] = 0.01
    placeholders: Annotated[tuple[str, ...], Setting("Ids that stand for no id, whatever their case.")] = PLACEHOLDERS
    user_pattern: Annotated[str | None, Setting("Regular expression that a whole user id matches.")] = None
    item_pattern: Annotated[str | None, Setting("Regular expression that a whole item id matches.")] = None
    catalogue_grace: Annotated[Duration, Setting("How long before its catalogue entry an id may be used.", 0)] = (
        minutes(10)
    )


class UnknownIds(Check[UnknownIdsSettings]):
    """Counts events whose user or item id leads nowhere, by cause.

    Detects:
        Null, blank and placeholder ids; ids that fail their pattern; ids that were not in the
        catalogue when the event happened; ids that had ended by then. Users and items apart.

    Does not detect:
        Ids that exist but belong to somebody else. Without a table of users or items only
        missing and malformed ids can be told.

    When it fires:
        The share of events with a bad id exceeds ``max_ratio``, for users or for items. Events are
        counted, not distinct ids: one unknown item with 5 % of the events weighs 5 %.
    """

    id = "unknown_ids"
    settings_type = UnknownIdsSettings
    formula = "bad events / events; the cause is the first of missing, malformed, unknown, retired"
    limit_setting = "max_ratio"
    late_counts = ("rows",)
    uses = (Role.USER, Role.ITEM, Role.EVENT_TIME)

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: neither users nor items have a column."""
        if not any(role in dataset.roles for role, _ in ENTITIES.values()):
            return "needs the role user or item"
        return super().absent(dataset)

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the events by cause, and, where they are too many, the number of distinct unknown ids."""
        derived: dict[str, ColumnElement[Any]] = {}
        aggregates = {"rows": Aggregate(func.count())}
        catalogues: list[Catalogue] = []
        listings = []
        for entity, (role, _link) in ENTITIES.items():
            if role not in rows.dataset.roles:
                continue
            cause, joined = self._cause(rows, entity)
            derived[f"{entity}_cause"] = cause
            catalogues += joined
            at: Any = column(f"{entity}_cause")
            for number, name in enumerate((*CAUSES, "cold"), start=1):
                aggregates[f"{entity}_{name}"] = Aggregate.rows(at == number)
            listings.append(self._distinct(rows, entity, cause, joined))
        return (Measure(rows, aggregates, derived, tuple(catalogues)), *listings)

    def _cause(self, rows: Rows, entity: str) -> tuple[ColumnElement[Any], list[Catalogue]]:
        role, link = ENTITIES[entity]
        missing, joined = self._is_missing(rows.column(role), rows.kind(role)), []
        known = rows.catalogue(link, role, self._is_missing)
        if known is not None:
            joined.append(known)
            # What is in the catalogue is not missing: few rows are left to look at closely.
            missing = and_(known.is_absent, missing)
        whens = [(missing, 1)]
        pattern = self.settings.user_pattern if entity == "user" else self.settings.item_pattern
        if pattern:
            whens.append((not_(matches_whole(cast(rows.column(role), Text), pattern)), 2))
        if known is not None:
            whens += self._against(rows, known)
        vocabulary = rows.catalogue(f"{entity}_vocabulary", role)
        if vocabulary is not None:
            joined.append(vocabulary)
            whens.append((vocabulary.is_absent, COLD))
        return case(*((condition, literal(number, SmallInteger)) for condition, number in whens)), joined

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the events whose id leads nowhere."""
        entity = verdict.entity or "user"
        cause, joined = self._cause(rows, entity)
        return Suspects(rows, cause.between(1, len(CAUSES)), tuple(joined), f"events whose {entity} id leads nowhere")

    def _is_missing(self, id_column: ColumnElement[Any], kind: Kind) -> ColumnElement[bool]:
        if kind is Kind.INTEGER:
            numbers = [int(text) for text in self.settings.placeholders if text.lstrip("-").isdigit()]
            return or_(id_column.is_(None), id_column.in_(numbers))
        spelt = cast(id_column, Text)
        placeholders = {text.lower() for text in ("", *self.settings.placeholders)}
        # Length and ends rule out nearly every id, at a quarter of the cost of a comparison.
        lengths = or_(*(func.length(spelt) == length for length in sorted({len(text) for text in placeholders})))
        possible = or_(lengths, spelt.like(" %"), spelt.like("% "))
        equal = case(dict.fromkeys(sorted(placeholders), 1), value=folded(spelt), else_=0)
        return or_(id_column.is_(None), case((possible, equal), else_=0) == 1)

    def _against(self, rows: Rows, known: Catalogue) -> list[tuple[ColumnElement[bool], int]]:
        """Return the conditions for unknown and retired, as the catalogue stood at event time."""
        absent, whens = known.is_absent, []
        ids = known.ids.c
        timed = Role.EVENT_TIME in rows.dataset.roles
        if timed and "valid_from" in ids:
            grace = self.settings.catalogue_grace // MICROSECOND
            absent = or_(absent, ids.valid_from > rows.micros(Role.EVENT_TIME) + grace)
        whens.append((absent, 3))
        if timed and "valid_to" in ids:
            whens.append((ids.valid_to <= rows.micros(Role.EVENT_TIME), 4))
        return whens

    def _distinct(self, rows: Rows, entity: str, cause: Any, joined: list[Catalogue]) -> Listing:
        role, _link = ENTITIES[entity]
        origin: Any = rows.dataset.table
        for catalogue in joined:
            origin = origin.outerjoin(catalogue.ids, catalogue.condition)
        statement = select(func.count(distinct(rows.column(role)))).select_from(origin)
        statement = statement.where(and_(rows.belongs, cause == 3))
        return Listing(f"{entity}_distinct", rows, statement, 1, only_if=lambda tally: self._explains(tally, entity))

    def _explains(self, tally: Tally, entity: str) -> bool:
        """Return whether the number of distinct unknown ids is worth a join: where they are too many."""
        bad = sum(tally.count(f"{entity}_{cause}") for cause in CAUSES)
        return tally.count(f"{entity}_unknown") > 0 and bad > self.settings.max_ratio * tally.count("rows")

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return a verdict for each entity, then for each entity's sources."""
        verdicts = []
        for entity in ENTITIES:
            if f"{entity}_missing" not in tally.merges:
                continue
            whole = self._verdict(tally, tally.counts, entity, None)
            verdicts.append(whole)
            verdicts += [
                self._verdict(tally, counts, entity, source)
                for source, counts in tally.by_source.items()
                if source != ALL_SOURCES
            ]
        return tuple(verdicts)

    def _verdict(self, tally: Tally, counts: Counts, entity: str, source: str | None) -> Verdict:
        causes = {cause: int(counts.get(f"{entity}_{cause}") or 0) for cause in CAUSES}
        bad, total = sum(causes.values()), int(counts.get("rows") or 0)
        details: dict[str, Any] = {"causes": causes, "cold": int(counts.get(f"{entity}_cold") or 0)}
        if source is None:
            found = tally.listings.get(f"{entity}_distinct") or [(None,)]
            details["distinct_unknown"] = None if found[0][0] is None and causes["unknown"] else int(found[0][0] or 0)
        named = ", ".join(f"{cause} {n:,}" for cause, n in sorted(causes.items(), key=lambda pair: -pair[1]) if n)
        reason = f"no bad {entity} id" if not bad else f"{percent(bad / total)} of events: {named}"
        return ratio_verdict(
            self, tally, "unknown_ratio", bad, total, self.settings.max_ratio,
            entity=entity, source=source, reason=reason, details=details,
        )  # fmt: skip

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return events by whether their id is known, and by cause."""
        samples = []
        for entity in ENTITIES:
            if f"{entity}_missing" not in tally.merges:
                continue
            labels = {"dataset": tally.dataset, "entity": entity}
            causes = {cause: tally.count(f"{entity}_{cause}") for cause in CAUSES}
            bad = sum(causes.values())
            for result, n in (("known", tally.count("rows") - bad), ("unknown", bad)):
                samples.append(Sample("recwatch_id_events_total", {**labels, "result": result}, n))
            for cause, n in causes.items():
                samples.append(Sample("recwatch_id_causes_total", {**labels, "cause": cause}, n))
        return tuple(samples)
