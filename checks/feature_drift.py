"""Feature drift: the distribution of each feature against bins frozen with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from sqlalchemy import (
    BigInteger,
    Double,
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
from checks.bins import Bins, bin_of, categorical, numeric, spelt
from checks.check import Check, Outcome, Sample, Verdict
from checks.dataset import Dataset, Kind
from checks.dialect import is_not_finite
from checks.measure import Aggregate, Listing, Measure, Tally
from checks.rows import Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours

MOVED_BINS = 5
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
        for place, (name, bins) in enumerate(frozen.items()):
            if name not in rows.dataset.columns:
                continue
            parts.append(_binned(rows, name, bins, place))
        if not parts:
            return (Measure(rows, {"rows": Aggregate(func.count())}),)
        limit = sum(len(bins.labels) for bins in frozen.values())
        return (Listing("bins", rows, union_all(*parts), limit),)

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return quantiles and moments of numeric features, and the frequent values of every one."""
        listings: list[Measure | Listing] = [Measure(rows, {"rows": Aggregate(func.count())})]
        for name in rows.dataset.features:
            if name not in rows.dataset.columns:
                continue
            raw = rows.dataset.table.c[name]
            if rows.dataset.columns[name].kind.is_numeric:
                listings.append(Listing(f"quantiles:{name}", rows, _quantiles(rows, name, self.settings.bins), 110))
                listings.append(Listing(f"moments:{name}", rows, _moments(rows, name), 1))
            value, counted = spelt(rows.dataset, name).label("value"), func.count().label("n")
            top = rows.select(value, counted).where(raw.is_not(None)).group_by(value)
            top = top.order_by(counted.desc(), value).limit(self.settings.categories + 1)
            listings.append(Listing(f"values:{name}", rows, top, self.settings.categories + 1))
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
            if quantiles and len(values) > self.settings.bins:
                *moments, different = (float(value or 0) for value in tally.listings[f"moments:{name}"][0])
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
        few = self.too_few(tally, method, max(sum(found) for found in counts.values()))
        # Without a listing there was no column to count.
        if few is not None and "bins" in tally.listings:
            return (few,)
        gone = [name for name in frozen if not sum(counts[name]) or not sum(reference[name])]
        scored = {
            name: self._score(bins, reference[name], counts[name]) for name, bins in frozen.items() if name not in gone
        }
        significant = stats.benjamini_hochberg(
            [score["p_value"] for score in scored.values()], self.settings.false_discovery_rate
        )
        lost = "the column is gone"
        return (
            *(
                self._verdict(tally, name, score, is_significant)
                for (name, score), is_significant in zip(scored.items(), significant, strict=True)
            ),
            *(self.verdict(tally, Outcome.ERROR, method, feature=name, reason=lost) for name in gone),
        )

    def _score(self, bins: Bins, p: Sequence[int], q: Sequence[int]) -> dict[str, Any]:
        """Return every statistic of one feature, with the limit of the one that decides."""
        m, n, size = sum(p), sum(q), len(p)
        psi = stats.psi(p, q)
        scores: dict[str, Any] = {
            "psi": psi,
            "js_distance": stats.js_distance(p, q),
            "l_infinity": stats.l_infinity(p, q),
        }
        if bins.edges:
            ordered = slice(bins.nulls, None)
            if sum(p[ordered]) and sum(q[ordered]):
                scores["ks"] = stats.ks_statistic(p[ordered], q[ordered])
                scores["wasserstein"] = stats.normed_wasserstein(
                    bins.closed_edges, p[ordered], q[ordered], bins.deviation
                )
        chance = self._chance(p, n, m)
        least = self.settings.min_effect
        floor = stats.MINIMUM_EFFECTS[self.settings.method] if least is None else least
        limit = stats.effect_limit(floor, chance)
        moved = sorted(zip(bins.labels, p, q, strict=True), key=lambda row: -abs(row[2] / n - row[1] / m))
        return {
            "scores": scores, "limit": limit, "rows": n, "reference_rows": m,
            "p_value": stats.psi_p_value(psi, n, m, size), "kind": "numeric" if bins.edges else "categorical",
            "moved": [[label, before / m, now / n] for label, before, now in moved[:MOVED_BINS]],
        }  # fmt: skip

    def _chance(self, p: Sequence[int], n: int, m: int) -> float:
        """Return the 99.9 % point of the deciding statistic when nothing has changed."""
        if self.settings.method == "psi":
            return stats.psi_limit(n, m, len(p))
        if self.settings.method == "js_distance":
            return stats.js_limit(n, m, len(p))
        return stats.scaled_limit(stats.null_quantiles(p).l_infinity, n, m)

    def _verdict(self, tally: Tally, name: str, score: Mapping[str, Any], is_significant: bool) -> Verdict:
        value, limit = score["scores"][self.settings.method], score["limit"]
        bad = value > limit.value and is_significant
        label, before, now = score["moved"][0]
        reason = f"largest change: {label} from {100 * before:.1f} % to {100 * now:.1f} %"
        details = {
            **score["scores"], "p_value": score["p_value"], "limit_origin": limit.origin, "rows": score["rows"],
            "reference_rows": score["reference_rows"], "kind": score["kind"], "moved": score["moved"],
        }  # fmt: skip
        return self.verdict(
            tally, Outcome.BAD if bad else Outcome.GOOD, self.settings.method, value=value, limit=limit.value,
            feature=name, reason=reason, details=details,
        )  # fmt: skip

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return each feature's score, its threshold, and how many are over it."""
        scored = [verdict for verdict in verdicts if verdict.value is not None]
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
    # Sorted, since the place of a feature is its number in the listing, whatever JSON did to the order.
    return {name: Bins.load(saved) for name, saved in sorted((baseline.frozen or {}).items())}


def _counts(tally: Tally, frozen: Mapping[str, Bins]) -> dict[str, list[int]]:
    """Return the rows in each bin of each feature."""
    counts = {name: [0] * len(bins.labels) for name, bins in frozen.items()}
    names = list(frozen)
    for place, at, n in tally.listings.get("bins", ()):
        if place is not None and at is not None:
            counts[names[int(place)]][int(at)] = int(n)
    return counts


def _binned(rows: Rows, name: str, bins: Bins, place: int) -> Any:
    """Return the SELECT of how many rows are in each bin of one feature, under its place."""
    feature = literal(place, BigInteger).label("feature")
    # Not every type that is none of the usual ones can be grouped by.
    if not bins.recurring or rows.dataset.columns[name].kind is Kind.OTHER:
        of_row = rows.select(bin_of(rows.dataset, name, bins).label("bin")).subquery(f"f{place}")
        return select(feature, of_row.c.bin, func.count().label("n")).group_by(of_row.c.bin)
    raw: Any = rows.dataset.table.c[name]
    values: Any = rows.select(raw, func.count().label(f"{name}_rows")).group_by(raw).subquery(f"v{place}")
    bin_of_value = bin_of(replace(rows.dataset, table=values), name, bins).label("bin")
    of_value = select(bin_of_value, values.c[f"{name}_rows"].label("n")).subquery(f"f{place}")
    total = cast(func.sum(of_value.c.n), BigInteger).label("n")
    return select(feature, of_value.c.bin, total).group_by(of_value.c.bin)


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
    """Return least and greatest value, mean, standard deviation, and the number of different values."""
    raw = cast(rows.dataset.table.c[name], Double)
    mean = rows.select(func.avg(raw)).where(_finite(rows, name)).scalar_subquery()
    deviation = func.sqrt(func.avg((raw - mean) * (raw - mean)))
    found = (func.min(raw), func.max(raw), func.avg(raw), deviation, func.count(distinct(raw)))
    return rows.select(*found).where(_finite(rows, name))
