"""Feature drift: the distribution of each feature against bins frozen with the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Annotated, Any, Literal

from sqlalchemy import (
    BigInteger,
    Double,
    Text,
    and_,
    cast,
    distinct,
    func,
    literal,
    or_,
    select,
    union_all,
)

from checks import stats
from checks.baseline import Baseline
from checks.bins import ABOVE, BELOW, UNSEEN, Bins, bin_of, categorical, in_bin, numeric
from checks.chance import effect_limit
from checks.check import Check, Outcome, Sample, Verdict
from checks.dataset import ColumnType, Dataset, Kind, Role
from checks.dialect import clipped, is_not_finite
from checks.measure import Aggregate, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, Rows, by_frequency, spelt
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours
from checks.suspects import Suspects

MOVED_BINS = 5
# What a bin that no value of the reference is in is called in a sentence.
OUTSIDE = {
    UNSEEN: "values that the reference lacks",
    BELOW: "values below the reference's",
    ABOVE: "values above the reference's",
}
# The squares of larger numbers have no number.
LARGEST = 1e150
Counts = dict[str, list[int]]
# Up to so many different values, each on so many rows, rows are grouped by value before values find their bins:
# that takes a third of the time. With more it would cost memory.
MOST_GROUPS, LEAST_ROWS_PER_VALUE = 100_000, 10


@dataclass(frozen=True, kw_only=True)
class FeatureDriftSettings(CheckSettings):
    """Settings of the feature drift check."""

    every: Annotated[Duration, Setting("How often the check runs.", 1)] = hours(1)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = hours(1)
    min_rows: Annotated[int, Setting("Fewer rows in the window end in unknown.", 1)] = 500
    method: Annotated[Literal["psi", "js_distance", "l_infinity"], Setting("The statistic that decides.")] = "psi"
    min_effect: Annotated[float | None, Setting("Least change that matters; by default that of the method.", 0)] = None
    bins: Annotated[int, Setting("Quantile bins of a numeric feature.", 2, 100)] = 20
    categories: Annotated[int, Setting("Most frequent values that are told apart.", 2, 500)] = 100
    false_discovery_rate: Annotated[
        Ratio, Setting("Share of false alarms among the alarms of several features.", 0, 1)
    ] = 0.05
    per_source: Annotated[bool, Setting("Whether each source is judged by itself too; twice the work.")] = False


class FeatureDrift(Check[FeatureDriftSettings]):
    """Compares the distribution of each feature with a reference, over all rows.

    Detects:
        A feature whose values moved, lost their spread, became null, or took values never seen.

    Does not detect:
        Changes in how features hang together while each stays as it was.

    When it fires:
        The statistic of a feature exceeds its minimum effect and the 99.9 % point of what chance
        gives at these numbers of rows and bins, and stays significant among all features
        (Benjamini-Hochberg). Without a reference: unknown.
    """

    id = "feature_drift"
    settings_type = FeatureDriftSettings
    formula = "PSI = sum (q - p) ln(q / p) over frozen bins, 0.5 added to each count"
    limit_setting = "min_effect"
    has_reference = True

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: no features are named."""
        return super().absent(dataset) if dataset.features else "needs features: columns to watch"

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the number of rows in each bin of each feature, as one listing."""
        frozen, parts = _frozen(baseline), []
        per_source = self.settings.per_source and Role.SOURCE in rows.dataset.roles
        for place, (name, bins) in enumerate(frozen.items()):
            if name not in rows.dataset.columns:
                continue
            parts.append(_binned(rows, name, bins, place, per_source))
        if not parts:
            return (Measure(rows, {"rows": Aggregate(func.count())}),)
        limit = sum(len(bins.labels) for bins in frozen.values()) * (len(rows.dataset.sources) + 2)
        return (Listing("bins", rows, union_all(*parts), limit),)

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return quantiles and moments of numeric features, and the frequent values of every one."""
        listings: list[Measure | Listing] = [Measure(rows, {"rows": Aggregate(func.count())})]
        for name in rows.dataset.features:
            if name not in rows.dataset.columns:
                raise ValueError(f"features: {rows.dataset.no_column(name)}")
            if rows.dataset.columns[name].kind.is_numeric:
                listings.append(Listing(f"quantiles:{name}", rows, _quantiles(rows, name, self.settings.bins), 110))
                listings.append(Listing(f"moments:{name}", rows, _moments(rows, name), 1))
            value, counted = spelt(rows.dataset, name).label("value"), func.count().label("n")
            each = rows.select(value, counted).where(_finite(rows, name)).group_by(value).subquery().c
            top = select(each.value, each.n).order_by(*by_frequency(each.value, each.n))
            most: Any = top.limit(self.settings.categories + 1).subquery().c
            kept = select(clipped(most.value), most.n).order_by(*by_frequency(most.value, most.n))
            listings.append(Listing(f"values:{name}", rows, kept, self.settings.categories + 1))
        return listings

    def freeze(self, tally: Tally, dataset: Dataset) -> Mapping[str, Any]:
        """Return the bins of each feature; a number with few values is treated as a category."""
        self.enough(tally.count("rows"))
        frozen = {}
        for listing, values in tally.listings.items():
            what, _, name = listing.partition(":")
            if what != "values":
                continue
            quantiles = tally.listings.get(f"quantiles:{name}")
            figures = tally.listings.get(f"moments:{name}", [[0]])[0]
            *moments, different = (float(value or 0) for value in figures)
            if quantiles and different > self.settings.bins:
                bins = numeric([float(row[0]) for row in quantiles], *moments)
                few = different <= MOST_GROUPS and different * LEAST_ROWS_PER_VALUE <= tally.count("rows")
                bins = replace(bins, recurring=few)
            else:
                bins = categorical([str(value) for value, _n in values], self.settings.categories)
            frozen[name] = bins.save()
        return frozen

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return one verdict for each feature."""
        frozen, method = _frozen(baseline), self.settings.method
        if not frozen or baseline.reference is None:
            reason = "no reference yet; build one with: recwatch baseline build"
            return (self.verdict(tally, Outcome.UNKNOWN, method, reason=reason),)
        counts, reference = _counts(tally, frozen), _counts(baseline.reference, frozen)
        few = self.too_few(tally, method, _most(counts))
        # Without a listing there was no column to count.
        if few is not None and "bins" in tally.listings:
            return (few,)
        there = {name: bins for name, bins in frozen.items() if sum(counts[name]) and sum(reference[name])}
        gone = [name for name in frozen if name not in there]
        lost = "the column is gone"
        return (
            *self._compared(tally, there, reference, counts),
            *(self.verdict(tally, Outcome.ERROR, method, feature=name, reason=lost) for name in gone),
            *self._of_sources(tally, there, baseline.reference),
        )

    def _of_sources(self, tally: Tally, frozen: Mapping[str, Bins], reference: Tally) -> Iterator[Verdict]:
        """Yield verdicts for each source, held against the same source in the reference."""
        method = self.settings.method
        for source in sorted({row[1] for row in tally.listings.get("bins", ())} - {ALL_SOURCES}):
            counts, then = _counts(tally, frozen, source), _counts(reference, frozen, source)
            few = self.too_few(tally, method, _most(counts), source=source)
            if few is None and _most(then) < self.settings.min_rows:
                reason = f"the reference has too little of this source: {_most(then):,} rows"
                few = self.verdict(tally, Outcome.UNKNOWN, method, source=source, reason=reason)
            if few is not None:
                yield few
                continue
            yield from self._compared(tally, frozen, then, counts, source)

    def _compared(
        self, tally: Tally, frozen: Mapping[str, Bins], reference: Counts, counts: Counts, source: str | None = None
    ) -> Iterator[Verdict]:
        scores = {name: self._score(bins, reference[name], counts[name]) for name, bins in frozen.items()}
        significant = stats.benjamini_hochberg(
            [score["p_value"] for score in scores.values()], self.settings.false_discovery_rate
        )
        for (name, score), is_significant in zip(scores.items(), significant, strict=True):
            yield self._verdict(tally, name, score, is_significant, source)

    def _score(self, bins: Bins, p: Sequence[int], q: Sequence[int]) -> dict[str, Any]:
        """Return every statistic of one feature, with the limit of the one that decides."""
        m, n = sum(p), sum(q)
        scores: dict[str, Any] = {
            "psi": stats.psi(p, q),
            "js_distance": stats.js_distance(p, q),
            "l_infinity": stats.l_infinity(p, q),
        }
        if bins.edges:
            # The nulls come first, and have no place on the line.
            ordered = slice(1, None)
            # Between numbers near the largest that there are, distances have no number.
            if sum(p[ordered]) and sum(q[ordered]) and all(map(isfinite, bins.closed_edges)):
                scores["ks"] = stats.ks_statistic(p[ordered], q[ordered])
                scores["wasserstein"] = stats.normed_wasserstein(
                    bins.closed_edges, p[ordered], q[ordered], bins.deviation
                )
        chance, p_value = self._chance(p, n, m, scores)
        least = self.settings.min_effect
        floor = stats.MINIMUM_EFFECTS[self.settings.method] if least is None else least
        limit = effect_limit(floor, chance)
        moved = sorted(zip(bins.labels, p, q, strict=True), key=lambda row: -abs(row[2] / n - row[1] / m))
        return {
            "scores": scores, "limit": limit, "rows": n, "reference_rows": m,
            "p_value": p_value, "kind": "numeric" if bins.edges else "categorical",
            "moved": [[label, before / m, now / n] for label, before, now in moved[:MOVED_BINS]],
        }  # fmt: skip

    def _chance(self, p: Sequence[int], n: int, m: int, scores: Mapping[str, float]) -> tuple[float, float]:
        """Return the 99.9 % point of the deciding statistic when nothing has changed, and the chance of its value."""
        method, size = self.settings.method, len(p)
        if method == "psi":
            return stats.psi_limit(n, m, size), stats.psi_p_value(scores[method], n, m, size)
        if method == "js_distance":
            return stats.js_limit(n, m, size), stats.js_p_value(scores[method], n, m, size)
        factor = stats.l_infinity_factor(p)
        return stats.scaled_limit(factor, n, m), stats.l_infinity_p_value(scores[method], p, n, m)

    def _verdict(
        self, tally: Tally, name: str, score: Mapping[str, Any], is_significant: bool, source: str | None
    ) -> Verdict:
        value, limit = score["scores"][self.settings.method], score["limit"]
        bad = value > limit.value and is_significant
        label, before, now = score["moved"][0]
        reason = f"largest change: {OUTSIDE.get(label, label)} from {100 * before:.1f} % to {100 * now:.1f} %"
        details = {
            **score["scores"], "p_value": score["p_value"], "limit_origin": limit.origin, "rows": score["rows"],
            "reference_rows": score["reference_rows"], "kind": score["kind"], "moved": score["moved"],
        }  # fmt: skip
        return self.verdict(
            tally, Outcome.BAD if bad else Outcome.GOOD, self.settings.method, value=value, limit=limit.value,
            feature=name, source=source, reason=reason, details=details,
        )  # fmt: skip

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the rows in the bin that has grown most."""
        feature = verdict.feature or ""
        bins = _frozen(baseline).get(feature)
        grown = [(now - before, label) for label, before, now in verdict.details.get("moved", ()) if now > before]
        if bins is None or not grown or feature not in rows.dataset.columns:
            return None
        label = max(grown)[1]
        is_in = in_bin(rows.dataset, feature, bins, list(bins.labels).index(label))
        return Suspects(rows, is_in, what=f"rows with {feature} {label}")

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return each feature's score, its threshold, and how many are over it."""
        scored = [verdict for verdict in verdicts if verdict.value is not None and verdict.is_whole]
        samples = []
        for verdict in scored:
            labels = {"dataset": tally.dataset, "feature": str(verdict.feature), "method": verdict.measure}
            samples.append(Sample("recwatch_drift_score", labels, verdict.value or 0.0))
            samples.append(Sample("recwatch_drift_threshold", labels, verdict.limit or 0.0))
        over = sum(verdict.outcome is Outcome.BAD for verdict in scored)
        labels = {"dataset": tally.dataset}
        if scored:
            samples.append(Sample("recwatch_drift_sample_size", labels, scored[0].details["rows"]))
            samples.append(Sample("recwatch_drift_features_over_threshold", labels, over))
        return tuple(samples)


def _frozen(baseline: Baseline) -> dict[str, Bins]:
    return {name: Bins.load(saved) for name, saved in (baseline.frozen or {}).items()}


def _counts(tally: Tally, frozen: Mapping[str, Bins], source: str | None = None) -> Counts:
    """Return the rows in each bin of each feature, of one source or of all."""
    counts = {name: [0] * len(bins.labels) for name, bins in frozen.items()}
    for name, of, at, n in tally.listings.get("bins", ()):
        if name in counts and at is not None and source in (None, of):
            counts[name][int(at)] += int(n)
    return counts


def _most(counts: Counts) -> int:
    return max((sum(found) for found in counts.values()), default=0)


def _binned(rows: Rows, name: str, bins: Bins, place: int, per_source: bool) -> Any:
    """Return the SELECT of how many rows, of each source or of all, are in each bin of one feature."""
    feature = literal(name, Text).label("feature")
    # A name that the feature, which may be called anything, does not have.
    producer, count = f"{name}_source", f"{name}_rows"
    sources = [rows.source.label(producer)] if per_source else []
    # Not every type that is none of the usual ones can be grouped by.
    if not bins.has_cut and (not bins.recurring or rows.dataset.columns[name].kind is Kind.OTHER):
        found: Any = rows.select(*sources, bin_of(rows.dataset, name, bins).label("bin")).subquery(f"f{place}").c
        n: Any = func.count()
    else:
        dataset = rows.dataset
        raw: Any = dataset.table.c[name]
        if bins.has_cut:
            # Cut once a row, not once for each value that it is compared with.
            raw = clipped(spelt(dataset, name)).label(name)
            dataset = replace(dataset, columns={**dataset.columns, name: ColumnType(Kind.TEXT, "TEXT")})
        each: Any = rows.select(raw, *sources).subquery(f"e{place}").c
        values: Any = select(*each, func.count().label(count)).group_by(*each).subquery(f"v{place}")
        kept = [values.c[producer]] if per_source else []
        bin_of_value = bin_of(replace(dataset, table=values), name, bins).label("bin")
        found = select(*kept, bin_of_value, values.c[count].label("n")).subquery(f"f{place}").c
        n = cast(func.sum(found.n), BigInteger)
    of = [found[producer]] if per_source else []
    source = of or [literal(ALL_SOURCES, Text)]
    return select(feature, *source, found.bin, n.label("n")).group_by(*of, found.bin)


def _finite(rows: Rows, name: str) -> Any:
    raw = rows.dataset.table.c[name]
    if rows.dataset.columns[name].kind is Kind.NUMBER:
        return and_(raw.is_not(None), or_(is_not_finite(raw).is_(None), ~is_not_finite(raw)))
    return raw.is_not(None)


def _quantiles(rows: Rows, name: str, bins: int) -> Any:
    """Return the values at the ends of equally filled bins, the last of them the maximum."""
    raw = cast(rows.dataset.table.c[name], Double)
    place = func.row_number().over(order_by=raw).label("place")
    inner = rows.select(raw.label("x"), place, func.count().over().label("n")).where(_finite(rows, name))
    ordered = inner.subquery()
    bin_now = func.floor(cast(ordered.c.place * bins, Double) / ordered.c.n)
    bin_before = func.floor(cast((ordered.c.place - 1) * bins, Double) / ordered.c.n)
    return select(ordered.c.x).where(bin_now != bin_before).order_by(ordered.c.place)


def _moments(rows: Rows, name: str) -> Any:
    """Return least and greatest value, standard deviation, and the number of different values.

    One value whose square has no number any more would leave all without a deviation, or the engine without an answer.
    """
    raw = cast(rows.dataset.table.c[name], Double)
    usual = and_(_finite(rows, name), raw.between(-LARGEST, LARGEST))
    mean = rows.select(func.avg(raw)).where(usual).scalar_subquery()
    deviation = func.sqrt(func.avg((raw - mean) * (raw - mean)))
    found = (func.min(raw), func.max(raw), deviation, func.count(distinct(raw)))
    return rows.select(*found).where(usual)
