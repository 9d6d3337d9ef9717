"""Popularity drift: how events spread over the items, against a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy import Text, case, cast, column, func, select

from checks import concentration as spread
from checks import stats
from checks.baseline import Baseline
from checks.chance import effect_limit
from checks.check import NO_SIBLINGS, Check, Outcome, Sample, Siblings, Verdict, percent
from checks.clipped import clip, comparable
from checks.dataset import Dataset, Role
from checks.density import DensitySettings
from checks.interactions import frequent_items, interactions, part, ranked_items, top_items
from checks.measure import Aggregate, Listing, Measure, Tally
from checks.rows import Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours
from checks.suspects import Suspects

MOVERS = 10
# Chance may reach this part of the minimum effect.
QUIET = 0.7
# Items with the change of their share, and whether that is only the least that it can be.
Movers = list[tuple[str, float, bool]]


@dataclass(frozen=True, kw_only=True)
class PopularitySettings(CheckSettings):
    """Settings of the popularity check."""

    every: Annotated[Duration, Setting("How often the check runs.", 1)] = hours(1)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = hours(1)
    min_rows: Annotated[int, Setting("Fewer rows in the window end in unknown.", 1)] = 500
    ranking_size: Annotated[int, Setting("Items of the reference that are told apart.", 10, 10_000)] = 1_000
    head_share: Annotated[Ratio, Setting("Share of the reference events on head items.", 0, 1)] = 0.5
    torso_share: Annotated[Ratio, Setting("Share of the reference events on head and torso.", 0, 1)] = 0.8
    min_js_distance: Annotated[Ratio, Setting("Least JS distance that matters.", 0, 1)] = 0.1
    min_l_infinity: Annotated[Ratio, Setting("Least change of one item's share that matters.", 0, 1)] = 0.02
    per_source: Annotated[bool, Setting("Whether each source is judged by itself too; costs a scan.")] = False


class Popularity(Check[PopularitySettings]):
    """Compares which items get the events with a reference, and says how concentrated they are.

    Detects:
        One item that takes over (L-infinity, by name); a catalogue that narrows or a ranking that
        turns over (JS distance); the Gini coefficient over the whole catalogue, its effective size
        and its coverage are reported beside them.

    Does not detect:
        Why: a campaign, a feedback loop and a broken cache look alike here. What an item below the ranking of the
        reference gains, up to the share of the last one in it.

    When it fires:
        The JS distance or the L-infinity distance exceeds both its minimum effect and the 99.9 %
        point of what chance alone gives at this number of events. Without a reference: unknown.
    """

    id = "popularity"
    settings_type = PopularitySettings
    formula = "JS distance (base 2) and max |q - p| over item shares, against the frozen ranking"
    limit_setting = "min_js_distance"
    has_reference = True
    uses = (Role.ITEM,)
    needs = (Role.ITEM,)

    def __init__(self, settings: PopularitySettings, siblings: Siblings = NO_SIBLINGS) -> None:
        super().__init__(settings, siblings)
        # The matrix is read once for both checks, so both look back equally far.
        self.look_back = siblings.get("density", DensitySettings()).look_back

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the matrix of the window, and the events on each item of the ranking."""
        ranking = [key for key, _count in frozen_ranking(baseline)]
        matrix = interactions(rows, self.look_back, [str(key) for key in ranking])
        if not ranking or not self.settings.per_source or Role.SOURCE not in rows.dataset.roles:
            return (matrix,)
        item = comparable(rows.column(Role.ITEM), ranking)
        named = case((item.in_(ranking), cast(item, Text))).label("item")
        each = rows.select(rows.source.label("source"), named).where(rows.present(Role.ITEM)).subquery()
        counted = select(each.c.source, each.c.item, func.count()).group_by(each.c.source, each.c.item)
        return (matrix, Listing("items_by_source", rows, counted, (len(rows.dataset.sources) + 2) * (len(ranking) + 1)))

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return the ranking of the reference."""
        present = rows.present(Role.ITEM)
        total = Measure(rows, {"events": Aggregate.rows(column("has_item").is_(True))}, {"has_item": present})
        return (total, frequent_items(rows, present, self.settings.ranking_size))

    def freeze(self, tally: Tally, dataset: Dataset) -> Mapping[str, Any]:
        """Return the ranking, most frequent first, and how far chance moves its largest share."""
        self.enough(tally.count("events"))
        ranking = [[key, int(count)] for key, count in tally.listings["ranking"]]
        counts = [count for _key, count in ranking]
        rest = max(0, tally.count("events") - sum(counts))
        factor = stats.l_infinity_factor([*counts, rest]) if sum(counts) else 0.0
        return {"ranking": ranking, "l_infinity_factor": factor}

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the window's item shares."""
        details = concentration(part(tally, "items"))
        events = int(details["events"])
        few = self.too_few(tally, "js_distance", events, details=details)
        if few is not None:
            return (few,)
        if baseline.frozen is None or baseline.reference is None:
            reason = "no reference yet; build one with: recwatch baseline build"
            return (self.verdict(tally, Outcome.UNKNOWN, "js_distance", reason=reason, details=details),)
        ranking = [str(key) for key, _count in frozen_ranking(baseline)]
        then = int(concentration(part(baseline.reference, "items"))["events"])
        p = _with_rest([count for _key, count in frozen_ranking(baseline)], then)
        found = ranked_items(tally)
        q = _with_rest([found.get(key, 0) for key in ranking], events)
        movers = _movers(ranking, p, q, top_items(tally))
        factor = baseline.frozen.get("l_infinity_factor", 0.0)
        whole = self._against(tally, (p, q), movers, factor, details)
        return (whole, *self._of_sources(tally, baseline.reference, ranking))

    def _of_sources(self, tally: Tally, reference: Tally, ranking: Sequence[str]) -> Iterator[Verdict]:
        """Yield a verdict for each source, held against the same source in the reference."""
        then = _by_source(reference, ranking)
        for source, q in sorted(_by_source(tally, ranking).items()):
            few = self.too_few(tally, "js_distance", sum(q), source=source)
            p = then.get(source, ())
            if few is None and sum(p) < self.settings.min_rows:
                reason = f"the reference has too little of this source: {sum(p):,} events"
                few = self.verdict(tally, Outcome.UNKNOWN, "js_distance", source=source, reason=reason)
            if few is not None:
                yield few
                continue
            factor = stats.l_infinity_factor(p)
            yield self._against(tally, (p, q), _movers(ranking, p, q), factor, {"events": sum(q)}, source)

    def _against(
        self, tally: Tally, counts: Any, movers: Movers, factor: float, details: dict[str, Any],
        source: str | None = None,
    ) -> Verdict:  # fmt: skip
        """Return the verdict on counts of ranked items, and of the rest, before and now."""
        p, q = counts
        m, n = sum(p), sum(q)
        spike = max((abs(change) for _item, change, _least in movers), default=0.0)
        apart = self._told_apart(n, m, len(p) - 1)
        js = stats.js_distance(_with_rest(p[:apart], m), _with_rest(q[:apart], n))
        js_limit = effect_limit(self.settings.min_js_distance, stats.js_limit(n, m, apart + 1))
        spike_limit = effect_limit(self.settings.min_l_infinity, stats.scaled_limit(factor, n, m))
        details.update(
            js_distance=js, js_limit=js_limit.value, js_limit_origin=js_limit.origin,
            l_infinity=spike, l_infinity_limit=spike_limit.value, l_infinity_limit_origin=spike_limit.origin,
            items_told_apart=apart, **self._shares(p, q), movers=[[item, change] for item, change, _least in movers],
        )  # fmt: skip
        name, value, limit = "js_distance", js, js_limit
        if spike / spike_limit.value > js / js_limit.value:
            name, value, limit = "l_infinity", spike, spike_limit
        outcome = Outcome.BAD if value > limit.value else Outcome.GOOD
        top = ""
        for item, change, is_least in movers[:1]:
            top = f"; {item} moved by {'at least ' if is_least else ''}{100 * change:+.2f} points"
        shares = f"head {percent(details['head_share'])}, was {percent(details['head_share_reference'])}"
        return self.verdict(
            tally, outcome, name, value=value, limit=limit.value, source=source, reason=shares + top, details=details
        )

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the events on the item that has gained most."""
        gained = [(change, item) for item, change in verdict.details.get("movers", ()) if change > 0]
        if not gained:
            return None
        item = max(gained)[1]
        is_it = comparable(cast(rows.column(Role.ITEM), Text), [item]) == item
        return Suspects(rows, is_it, what=f"events on item {item}")

    def _told_apart(self, n: int, m: int, most: int) -> int:
        """Return how many items of the ranking to tell apart; the rest is pooled.

        As many as leave what chance gives clearly below the minimum effect. With more, the many
        rare items would drown the signal, and events that come in bursts (a user who looks at one
        item thrice) would read as drift: with no change, 100,000 items and a million events give 0.2.
        """
        least, most_apart = 1, most
        while least < most_apart:
            middle = (least + most_apart + 1) // 2
            if stats.js_limit(n, m, middle + 1) <= QUIET * self.settings.min_js_distance:
                least = middle
            else:
                most_apart = middle - 1
        return least

    def _shares(self, p: Sequence[int], q: Sequence[int]) -> dict[str, float]:
        """Return the shares of head, torso and tail, by the reference's ranking."""
        m, n = sum(p), sum(q)
        shares = dict.fromkeys(
            (f"{name}_share{of}" for name in ("head", "torso", "tail") for of in ("", "_reference")), 0.0
        )
        seen = 0.0
        for at, count in enumerate(p):
            name = "tail"
            if at < len(p) - 1 and seen < self.settings.torso_share:
                name = "head" if seen < self.settings.head_share else "torso"
            seen += count / m
            shares[f"{name}_share"] += q[at] / n
            shares[f"{name}_share_reference"] += count / m
        return shares

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return concentration, and the drift scores where there is a reference."""
        details, labels = verdicts[0].details, {"dataset": tally.dataset}
        named = {
            "gini": "recwatch_popularity_gini_ratio",
            "coverage": "recwatch_catalogue_coverage_ratio",
            "effective_items": "recwatch_catalogue_effective_items",
            "top_share": "recwatch_popularity_top_share_ratio",
        }
        samples = [
            Sample(metric, labels, details[name]) for name, metric in named.items() if details.get(name) is not None
        ]
        for method, limit in (("js_distance", "js_limit"), ("l_infinity", "l_infinity_limit")):
            if method in details:
                scored = {**labels, "method": method}
                samples.append(Sample("recwatch_popularity_drift_score", scored, details[method]))
                samples.append(Sample("recwatch_popularity_drift_threshold", scored, details[limit]))
        return tuple(samples)


def frozen_ranking(baseline: Baseline) -> list[tuple[Any, int]]:
    """Return the items of the reference with their events; long ids as they are kept now, whenever it was built."""
    found = (baseline.frozen or {}).get("ranking", ())
    return [(clip(key) if isinstance(key, str) else key, count) for key, count in found]


def _movers(
    ranking: Sequence[str], p: Sequence[int], q: Sequence[int], newcomers: Sequence[tuple[str, int]] = ()
) -> Movers:
    """Return the items whose share changed most; newcomers outside the ranking included.

    How many events of the reference an item below the ranking had is not known, only that they were no more than those
    of the last ranked item, and of all that are below together: what it has gained beyond that is the least.
    """
    m, n = sum(p), sum(q)
    changes = {key: (q[at] / n - p[at] / m, False) for at, key in enumerate(ranking)}
    most = min(p[-2:])
    for key, count in newcomers:
        changes.setdefault(key, (max(0.0, count / n - most / m), most > 0))
    found = [(key, change, is_least) for key, (change, is_least) in changes.items()]
    return sorted(found, key=lambda mover: (-abs(mover[1]), mover[0]))[:MOVERS]


def _by_source(tally: Tally, ranking: Sequence[str]) -> dict[str, list[int]]:
    """Return for each source the events of each ranked item, and of all others as one more."""
    places = {key: place for place, key in enumerate(ranking)}
    counts: dict[str, list[int]] = {}
    for source, item, count in tally.listings.get("items_by_source", ()):
        of_source = counts.setdefault(source, [0] * (len(ranking) + 1))
        of_source[len(ranking) if item is None else places[clip(item)]] += int(count)
    return counts


def _with_rest(counts: Sequence[int], total: int) -> list[int]:
    """Return counts with what is missing to the total as one more."""
    return [*counts, max(0, total - sum(counts))]


def concentration(items: Mapping[str, float | None] | None) -> dict[str, Any]:
    """Return events, items, and how the events concentrate on the catalogue, from the numbers of ``SPREAD``.

    Without a table of items the catalogue is the items seen, and coverage is unknown. Items that were seen and are not
    in the table are no part of coverage; evenness counts them beside the others.
    """
    items = items or {}
    events, seen = items.get("events") or 0, int(items.get("items") or 0)
    size = items.get("catalogue")
    # Tallies of before the known items were counted have none.
    known = min(seen, int(size or 0)) if items.get("known") is None else int(items["known"] or 0)
    catalogue = int(size) + seen - known if size else seen
    found: dict[str, Any] = {"events": int(events), "items": seen, "catalogue_items": catalogue}
    if not seen:
        return found
    found["gini"] = spread.gini(items["rank_weighted"] or 0, events, seen, catalogue)
    found["effective_items"] = spread.effective_size(events, items["n_log_n"] or 0.0)
    found["coverage"] = spread.coverage(known, int(size)) if size else None
    found["top_share"] = (items["top_events"] or 0) / events
    return found
