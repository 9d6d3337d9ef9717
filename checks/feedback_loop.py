"""Feedback loop: whether recommendations pull more and more events to the items that had most of them already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Any

from sqlalchemy import Double, Text, and_, case, cast, func, literal, null, select, union_all

from checks.baseline import Baseline
from checks.chance import DEVIATIONS, effect_limit
from checks.check import NO_SIBLINGS, Check, Outcome, Sample, Siblings, Verdict, percent
from checks.clipped import comparable
from checks.dataset import Dataset, Role
from checks.interactions import SPREAD, frequent_items, ranked, spread
from checks.measure import Listing, Measure, Tally
from checks.popularity import concentration, frozen_ranking
from checks.rows import CONTROL, EXPOSED, Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours
from checks.suspects import Suspects

NAME = "feedback_loop"
MEASURE = "bias_ratio"
COHORTS = (EXPOSED, CONTROL)
FIGURES = ("head_share", "gini", "effective_items", "coverage", "top_share")
# Those of them that are ratios.
BIASES = ("head_share", "gini", "coverage", "top_share")
Cohorts = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class FeedbackLoopSettings(CheckSettings):
    """Settings of the feedback loop check."""

    enabled: Annotated[bool, Setting("Whether the check runs; by default where it is named.")] = False
    every: Annotated[Duration, Setting("How often the check runs.", 1)] = hours(24)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = hours(24)
    min_rows: Annotated[
        int, Setting("Fewer events of a cohort, in the window or in the reference, end in unknown.", 1)
    ] = 500
    exposed: Annotated[tuple[str, ...], Setting("Values of the cohort of those who see recommendations.")] = ()
    control: Annotated[tuple[str, ...], Setting("Values of the cohort that these are held against.")] = ()
    head_share: Annotated[Ratio, Setting("Share of the reference events on head items.", 0.01, 1)] = 0.5
    ranking_size: Annotated[int, Setting("Most items that the head can have.", 10, 10_000)] = 1_000
    max_bias: Annotated[Ratio, Setting("Greatest bias that is still good.", 0, 1)] = 0.05


class FeedbackLoop(Check[FeedbackLoopSettings]):
    """Compares how the head's share of events has changed with recommendations and without.

    Detects:
        Recommendations that show what is clicked and are clicked for being shown: the exposed move to
        the items that were popular before, and the control does not. The same difference of changes
        of Gini, effective size, coverage and the share of the top 1 % is reported beside it.

    Does not detect:
        What moves both cohorts alike: a campaign, a season. A loop that the control learns from, too.
        How far chance reaches where few users have most of the events: these are taken as independent.

    When it fires:
        The bias exceeds both ``max_bias`` and the 99.9 % point of what chance alone gives at this
        number of events. A negative bias is good. Without a reference: unknown.
    """

    id = "feedback_loop"
    settings_type = FeedbackLoopSettings
    formula = "change of the head's share of events since the reference: that of the exposed, less the control's"
    limit_setting = "max_bias"
    has_reference = True
    # A slow loop would become normal.
    renews_reference = False
    uses = (Role.ITEM, Role.COHORT)
    needs = (Role.ITEM, Role.COHORT)

    def __init__(self, settings: FeedbackLoopSettings, siblings: Siblings = NO_SIBLINGS) -> None:
        super().__init__(settings, siblings)
        values = {EXPOSED: sorted(settings.exposed), CONTROL: sorted(settings.control)}
        # What a reference that was built otherwise can't be held against.
        self._terms: dict[str, Any] = {**values, "head_share": settings.head_share}

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: a missing role, or a cohort without values."""
        is_named = self.settings.exposed and self.settings.control
        return super().absent(dataset) or (None if is_named else "needs exposed and control")

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return how the events of each cohort spread over the items, and how many are on the head."""
        return (self._spread(rows, self._head(baseline)),)

    def learns(self, rows: Rows) -> Sequence[Measure | Listing]:
        """Return the ranking of both cohorts together, and how many events each has."""
        present = and_(rows.present(Role.ITEM), rows.cohort(self.settings.exposed, self.settings.control).is_not(None))
        return (self._spread(rows, ()), frequent_items(rows, present, self.settings.ranking_size))

    def _head(self, baseline: Baseline) -> list[str]:
        """Return the most frequent items that together have the head's share of the reference, spelt as text."""
        head, seen, frozen = list[str](), 0, baseline.frozen or {}
        for key, count in frozen_ranking(baseline):
            if seen / frozen["events"] >= self.settings.head_share:
                break
            head.append(str(key))
            seen += count
        return head

    def _spread(self, rows: Rows, head: Sequence[str]) -> Listing:
        """Return the listing of the cohorts: the name, the numbers of ``SPREAD``, and the events on head items.

        Cost:
            One scan of the window, grouped by cohort and item.
        """
        named = (
            rows.cohort(self.settings.exposed, self.settings.control).label("cohort"),
            rows.column(Role.ITEM).label("key"),
        )
        each = rows.select(*named).where(rows.present(Role.ITEM)).subquery().c
        counted = (
            select(each.cohort, each.key, func.count().label("n"))
            .where(each.cohort.is_not(None))
            .group_by(each.cohort, each.key)
            .subquery()
            .c
        )
        on_head: Any = null()
        if head:
            on_head = case((comparable(cast(counted.key, Text), head).in_(head), counted.n), else_=0)
        # Names of common table expressions start with _, as no dataset's does.
        both = select(counted.cohort, counted.key, counted.n, cast(on_head, Double).label("on_head")).cte("_cohorts")
        parts = []
        for name in COHORTS:
            items = ranked(select(both).where(both.c.cohort == name).subquery()).cte(f"_{name}")
            numbers = (*spread(rows, items), func.sum(items.c.on_head))
            labelled = [cast(number, Double).label(f"n{at}") for at, number in enumerate(numbers)]
            parts.append(select(literal(name, Text).label("cohort"), *labelled).select_from(items))
        return Listing(NAME, rows, union_all(*parts), len(COHORTS))

    def freeze(self, tally: Tally, dataset: Dataset) -> Mapping[str, Any]:
        """Return the ranking, most frequent first, of how many events, and what it was built for."""
        cohorts = _cohorts(tally)
        few = self._few(cohorts, "reference")
        if few:
            raise ValueError(f"{few}; choose a longer span")
        ranking = [[key, int(count)] for key, count in tally.listings["ranking"]]
        return {"ranking": ranking, "events": sum(cohorts[name]["events"] for name in COHORTS), **self._terms}

    def _few(self, cohorts: Cohorts, where: str) -> str:
        """Return which cohort has fewer events than ``min_rows``; empty if none has."""
        least = self.settings.min_rows
        for name in COHORTS:
            if (found := cohorts[name]["events"]) < least:
                return f"{f'only {found:,}' if found else 'no'} {name} events in the {where}, {least:,} are needed"
        return ""

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the bias of the head's share."""
        now = _cohorts(tally)
        then = _cohorts(baseline.reference) if baseline.reference is not None else {}
        reason = self._few(now, "window") or self._unlike(baseline) or self._few(then, "reference")
        if reason:
            return (self.verdict(tally, Outcome.UNKNOWN, MEASURE, reason=reason, details=now),)
        bias = {figure: _bias(figure, now, then) for figure in FIGURES}
        value = float(bias["head_share"] or 0.0)
        limit = effect_limit(self.settings.max_bias, _by_chance([*now.values(), *then.values()]))
        details = {
            **now, "reference": then, "bias": bias, "head_items": len(self._head(baseline)),
            "limit_origin": limit.origin,
        }  # fmt: skip
        outcome = Outcome.BAD if value > limit.value else Outcome.GOOD
        said = _said(now, then, value)
        return (self.verdict(tally, outcome, MEASURE, value=value, limit=limit.value, reason=said, details=details),)

    def _unlike(self, baseline: Baseline) -> str:
        """Return why there is no reference to hold a window against; empty if there is one."""
        if baseline.frozen is None or baseline.reference is None:
            return "no reference yet; build one with: recwatch baseline build"
        if any(baseline.frozen.get(name) != term for name, term in self._terms.items()):
            changed = "exposed, control or head_share has changed since the reference was built"
            return f"{changed}; build it anew with: recwatch baseline build --only {self.id}"
        return ""

    def suspects(self, rows: Rows, verdict: Verdict, baseline: Baseline) -> Suspects | None:
        """Return the events of the exposed on head items."""
        head = self._head(baseline)
        if not head:
            return None
        is_head = comparable(cast(rows.column(Role.ITEM), Text), head).in_(head)
        return Suspects(
            rows,
            and_(rows.cohort(self.settings.exposed, self.settings.control) == EXPOSED, is_head),
            what="exposed events on head items",
        )

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the bias of each figure that is a ratio, and the threshold, where there is a reference."""
        verdict, labels = verdicts[0], {"dataset": tally.dataset}
        biases = verdict.details.get("bias", {})
        samples = [
            Sample("recwatch_feedback_loop_bias_ratio", {**labels, "figure": figure}, biases[figure])
            for figure in BIASES
            if biases.get(figure) is not None
        ]
        if verdict.limit is not None:
            samples.append(Sample("recwatch_feedback_loop_threshold_ratio", labels, verdict.limit))
        return tuple(samples)


def _cohorts(tally: Tally) -> Cohorts:
    """Return the figures of each cohort; of one without events only that it has none."""
    found: Cohorts = {}
    for name, *row in tally.listings.get(NAME, ()):
        numbers = dict(zip((*SPREAD, "on_head"), row, strict=True))
        on_head = numbers.pop("on_head")
        found[name] = concentration(numbers)
        if on_head is not None and found[name]["events"]:
            found[name]["head_share"] = on_head / found[name]["events"]
    return {name: found.get(name) or concentration(None) for name in COHORTS}


def _bias(figure: str, now: Cohorts, then: Cohorts) -> float | None:
    """Return the change of a figure among the exposed, less that among the control; None where one is not known."""
    known = [cohorts[name].get(figure) for name in COHORTS for cohorts in (now, then)]
    if None in known:
        return None
    exposed, exposed_then, control, control_then = (float(value or 0.0) for value in known)
    return (exposed - exposed_then) - (control - control_then)


def _by_chance(cohorts: Sequence[Mapping[str, Any]]) -> float:
    """Return the bias that chance stays below but for once in a thousand times, from the shares and their events."""
    variance = 0.0
    for found in cohorts:
        n = found["events"]
        # With one event more on the head and one more beside it, a share of 0 or 1 has a variance, too.
        share = (found["head_share"] * n + 1) / (n + 2)
        variance += share * (1 - share) / n
    return DEVIATIONS * sqrt(variance)


def _said(now: Cohorts, then: Cohorts, bias: float) -> str:
    """Return the shares and their bias as a sentence."""
    exposed, control = (
        f"{percent(now[name]['head_share'])} of the {events}, were {percent(then[name]['head_share'])}"
        for name, events in zip(COHORTS, ("exposed events", "control's"), strict=True)
    )
    points = round(100 * bias, 2)
    pull = f"{abs(points):g} points {'further to' if points > 0 else 'away from'}" if points else "no further to"
    return f"head items have {exposed}; {control}: recommendations pull {pull} the head"
