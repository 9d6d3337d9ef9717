"""The event contract: columns and types as recorded, and values that can be true."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import log
from typing import Annotated, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    SmallInteger,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    union_all,
)

from checks.baseline import Baseline
from checks.bins import number
from checks.check import Check, Outcome, Sample, Verdict, percent, ratio_verdict
from checks.clipped import clip
from checks.dataset import Dataset, Kind, Role
from checks.dialect import is_not_finite
from checks.measure import MISSING, Aggregate, Counts, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, Rows, by_frequency
from checks.settings import CheckSettings, Duration, Ratio, Setting, seconds
from checks.suspects import Suspects
from checks.window import MICROSECOND, micros

CLOSED_SETS = (Role.EVENT_TYPE, Role.SOURCE)
MOST_VALUES = 50
# A value counts as vanished when chance would leave it out of the window less often than this.
VANISHED_PROBABILITY = 1e-6


@dataclass(frozen=True, kw_only=True)
class ContractSettings(CheckSettings):
    """Settings of the contract check."""

    max_invalid_ratio: Annotated[Ratio, Setting("Greatest share of invalid rows.", 0, 1)] = 0.001
    epoch_floor: Annotated[datetime, Setting("No event can be older.")] = datetime(1990, 1, 1, tzinfo=UTC)
    skew_tolerance: Annotated[Duration, Setting("How far an event may be dated after its arrival.", 0)] = seconds(60)
    allow_negative_value: Annotated[bool, Setting("Whether the value role may be below zero.")] = False
    ranges: Annotated[Mapping[str, tuple[float, float]], Setting("Least and greatest value of a numeric column.")] = (
        field(default_factory=dict)
    )
    required: Annotated[tuple[str, ...], Setting("Columns that may not be null.")] = ()
    allow_new_columns: Annotated[bool, Setting("Whether a new column keeps the contract.")] = False
    allow_new_values: Annotated[bool, Setting("Whether new values of event_type and source keep the contract.")] = False


def rules(rows: Rows, settings: ContractSettings) -> dict[str, ColumnElement[bool]]:
    """Return the condition under which a row breaks each rule, in the order they are tried."""
    broken: dict[str, ColumnElement[bool]] = {}
    floor = literal(micros(settings.epoch_floor), BigInteger)
    times = [role for role in (Role.EVENT_TIME, Role.INGESTED_AT) if role in rows.dataset.roles]
    for role in times:
        broken[f"{role}_missing"] = rows.micros(role).is_(None)
        broken[f"{role}_before_floor"] = rows.micros(role) < floor
    if len(times) == 2:
        # In the future of its own arrival; no clock is asked, so the answer stays the same later.
        tolerance = literal(settings.skew_tolerance // MICROSECOND, BigInteger)
        broken["event_time_in_future"] = rows.micros(Role.EVENT_TIME) > rows.micros(Role.INGESTED_AT) + tolerance
    if Role.VALUE in rows.dataset.roles:
        broken.update(_value_rules(rows, settings))
    for name in settings.required:
        if name in rows.dataset.columns:
            broken[f"{name}_null"] = rows.dataset.table.c[name].is_(None)
    for name, (low, high) in settings.ranges.items():
        if name in rows.dataset.columns:
            raw, value = rows.dataset.table.c[name], number(rows.dataset, name)
            # What spells no number is in no range.
            broken[f"{name}_out_of_range"] = or_(value < low, value > high, and_(raw.is_not(None), value.is_(None)))
    return broken


def _value_rules(rows: Rows, settings: ContractSettings) -> dict[str, ColumnElement[bool]]:
    name = rows.dataset.roles[Role.VALUE]
    kind, raw, value = rows.dataset.columns[name].kind, rows.dataset.table.c[name], number(rows.dataset, name)
    broken: dict[str, ColumnElement[bool]] = {}
    if not kind.is_numeric and kind is not Kind.BOOLEAN:
        broken["value_not_a_number"] = and_(raw.is_not(None), value.is_(None))
    if kind is Kind.NUMBER:
        broken["value_not_finite"] = is_not_finite(raw)
    if not settings.allow_negative_value:
        broken["value_negative"] = value < 0
    return broken


def validity(rows: Rows, settings: ContractSettings) -> dict[str, ColumnElement[int]]:
    """Return the derived column ``broken_rule``: the number of the first broken rule, else null.

    Shared by the contract and by ingestion, for which only valid rows have landed well.
    """
    conditions = rules(rows, settings).values()
    whens = [(condition, literal(at, SmallInteger)) for at, condition in enumerate(conditions, start=1)]
    return {"broken_rule": case(*whens) if whens else cast(None, SmallInteger)}


class Contract(Check[ContractSettings]):
    """Holds the columns, the closed sets of values and every row against what was agreed.

    Detects:
        Columns added, removed or retyped; new and vanished event types and sources; rows with
        impossible values: times before ``epoch_floor`` or in the future, NaN, infinite or negative
        values, values out of their range, text where a number should be.

    Does not detect:
        A column that newer CSV or JSON files lack while older ones that have it are still there.
        Values that are possible but unusual: see ``feature_drift``.

    When it fires:
        The share of invalid rows exceeds ``max_invalid_ratio``, or the schema differs from the
        recorded contract. ``recwatch baseline build --only contract`` records a new one.
    """

    id = "contract"
    settings_type = ContractSettings
    formula = "invalid rows / rows; a row counts once, under the first rule that it breaks"
    limit_setting = "max_invalid_ratio"
    late_counts = ("rows",)
    looks_at_columns = True
    has_reference = True
    # A contract that renewed itself would accept every change after a day.
    renews_reference = False

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return how many rows break each rule, and the values of the closed sets."""
        broken: Any = column("broken_rule")
        aggregates = {"rows": Aggregate(func.count())}
        for at, name in enumerate(rules(rows, self.settings), start=1):
            aggregates[name] = Aggregate.rows(broken == at)
        measure = Measure(rows, aggregates, validity(rows, self.settings))
        sets = [role for role in CLOSED_SETS if role in rows.dataset.roles]
        return (measure, self._values(rows, sets)) if sets else (measure,)

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the rows that break a rule; a changed schema is nobody's row."""
        if verdict.feature is not None:
            return None
        return Suspects(rows, validity(rows, self.settings)["broken_rule"].is_not(None), what="rows that break a rule")

    def _values(self, rows: Rows, sets: Sequence[Role]) -> Listing:
        """Return the most frequent values of the closed sets, as rows of (role, value, number of rows)."""
        parts = []
        for role in sets:
            value, counted = cast(rows.column(role), Text).label("value"), func.count().label("n")
            each = rows.select(value, counted).group_by(value).subquery().c
            most = select(each.value, each.n).order_by(*by_frequency(each.value, each.n)).limit(MOST_VALUES)
            found = most.subquery()
            parts.append(select(literal(role.value, Text).label("role"), found.c.value, found.c.n))
        return Listing("values", rows, union_all(*parts), MOST_VALUES * len(parts))

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return what the contract is recorded from: the values of the closed sets."""
        return self.measures(rows, Baseline())

    def freeze(self, tally: Tally, dataset: Dataset) -> Mapping[str, Any]:
        """Return the contract: every column with its type, every value with its share."""
        self.enough(tally.count("rows"))
        total = tally.count("rows") or 1
        values: dict[str, dict[str, float]] = {role: {} for role in CLOSED_SETS if role in dataset.roles}
        for role, value, n in tally.listings.get("values", ()):
            if value is not None:
                values[role][str(value)] = n / total
        own = tally.own_columns
        if own is None:
            return {"columns": dict(tally.columns), "values": values}
        columns = {name: tally.columns[name] for name in own if name in tally.columns}
        return {"columns": columns, "types": {name: sorted(types) for name, types in own.items()}, "values": values}

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the rows, on the schema, and on the rows of each source."""
        whole = self._rows_verdict(tally, tally.counts, None)
        sources = [
            self._rows_verdict(tally, counts, source)
            for source, counts in tally.by_source.items()
            if source != ALL_SOURCES
        ]
        return (whole, self._schema_verdict(tally, baseline), *sources)

    def _rows_verdict(self, tally: Tally, counts: Counts, source: str | None) -> Verdict:
        broken = {name: int(n) for name, n in counts.items() if name != "rows" and n}
        bad, total = sum(broken.values()), int(counts["rows"] or 0)
        named = ", ".join(f"{name} {n:,}" for name, n in sorted(broken.items(), key=lambda rule: -rule[1]))
        reason = f"{percent(bad / total)} of rows are invalid: {named}" if bad else "every row is valid"
        limit = self.settings.max_invalid_ratio
        return ratio_verdict(
            self, tally, "invalid_ratio", bad, total, limit,
            source=source, reason=reason, details={"rules": broken},
        )  # fmt: skip

    def _schema_verdict(self, tally: Tally, baseline: Baseline) -> Verdict:
        if baseline.frozen is None:
            reason = "no contract recorded yet"
            return self.verdict(tally, Outcome.UNKNOWN, "changes", feature="schema", reason=reason)
        changes = {**self._column_changes(tally, baseline.frozen), **self._value_changes(tally, baseline.frozen)}
        found = sum(len(names) for names in changes.values())
        reason = "; ".join(f"{what.replace('_', ' ')}: {', '.join(names)}" for what, names in changes.items())
        return self.verdict(
            tally, Outcome.BAD if found else Outcome.GOOD, "changes", feature="schema", value=found, limit=0,
            reason=reason or "columns and closed sets are as recorded", details=changes,
        )  # fmt: skip

    def _column_changes(self, tally: Tally, frozen: Mapping[str, Any]) -> dict[str, list[str]]:
        if "types" in frozen and tally.own_columns is None and not tally.count("rows"):
            # No file tells which columns there would be.
            return {}
        known: Mapping[str, Collection[str]]
        seen: Mapping[str, Collection[str]]
        if tally.own_columns is not None and "types" in frozen:
            known, seen = frozen["types"], tally.own_columns
        else:
            # One of the two is of all files together, or of a table.
            known, seen = (
                {name: [declared] for name, declared in of.items()} for of in (frozen["columns"], tally.columns)
            )
        changed = {
            name: (sorted({*known[name]} - {MISSING}), sorted({*seen[name]} - {*known[name], MISSING}))
            for name in known
            if name in seen
        }
        changes = {
            # What some files never had is missing where a window has only such files.
            "columns_removed": sorted(name for name in known if name not in seen and MISSING not in known[name]),
            "columns_added": [] if self.settings.allow_new_columns else sorted(set(seen) - set(known)),
            "columns_retyped": [
                f"{name} {', '.join(old)} to {', '.join(new)}" for name, (old, new) in changed.items() if old and new
            ],
        }
        return {what: names for what, names in changes.items() if names}

    def _value_changes(self, tally: Tally, frozen: Mapping[str, Any]) -> dict[str, list[str]]:
        changes: dict[str, list[str]] = {}
        rows, listed = tally.count("rows"), tally.listings.get("values", ())
        for role, known in frozen["values"].items():
            recorded = {clip(value): share for value, share in known.items()}
            seen = {str(value) for of, value, _ in listed if of == role and value is not None}
            new = sorted(seen - set(recorded))
            if new and len(recorded) < MOST_VALUES and not self.settings.allow_new_values:
                changes[f"new_{role}_values"] = new
            expected = -log(VANISHED_PROBABILITY)
            gone = sorted(value for value, share in recorded.items() if value not in seen and share * rows >= expected)
            if gone and len(seen) < MOST_VALUES:
                changes[f"vanished_{role}_values"] = gone
        return changes

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return rows by whether they keep the contract, and by rule."""
        total, dataset = tally.count("rows"), tally.dataset
        broken = {name: tally.count(name) for name in tally.counts if name != "rows"}
        invalid = sum(broken.values())
        results = {"valid": total - invalid, "invalid": invalid}
        return (
            *(
                Sample("recwatch_contract_rows_total", {"dataset": dataset, "result": result}, n)
                for result, n in results.items()
            ),
            *(
                Sample("recwatch_contract_broken_total", {"dataset": dataset, "rule": rule}, n)
                for rule, n in broken.items()
            ),
        )
