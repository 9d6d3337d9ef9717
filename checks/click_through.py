"""Click-through: how often what is shown is hit, against its own past and against people who were shown else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Annotated, Any

from sqlalchemy import ColumnElement, Double, SmallInteger, case, cast, column, func, literal, or_, select

from checks.baseline import Band, BandSettings, Baseline
from checks.chance import DEVIATIONS, TAIL, most_by_chance
from checks.check import Check, Outcome, Sample, Verdict, percent
from checks.dataset import Dataset, Role
from checks.dialect import row_key
from checks.measure import Aggregate, Counts, Listing, Measure, Tally
from checks.rows import ALL_SOURCES, CONTROL, EXPOSED, Rows, is_one_of, spelt
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours

# Of chi-square with one degree of freedom, what chance exceeds once in a thousand: a split further off went wrong.
WORST_SPLIT = NormalDist().inv_cdf(1 - TAIL / 2) ** 2
# Users in both cohorts belong to neither, and are left out; where they are more than this, cohorts are not told apart
# by users, or users were not kept where they were drawn to.
MOST_IN_BOTH = 0.01
# With fewer hits than this the logarithm of a rate is not near enough to normal.
LEAST_HITS = 10
# The median of rare events is below their mean by up to this: that of 0.6 a window is 0.
MEDIAN_BELOW = log(2)
ROUNDING = 1e-12
RATE, UPLIFT = "click_through_ratio", "uplift_ratio"
# What a row is, as the engine tells it. A row for what is shown may say itself whether it was hit.
SHOWN, HIT, BOTH = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class ClickThroughSettings(CheckSettings):
    """Settings of the click-through check."""

    enabled: Annotated[bool, Setting("Whether the check runs; by default where a dataset sets its types.")] = False
    every: Annotated[Duration, Setting("How often the check runs.", 1)] = hours(1)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = hours(1)
    min_rows: Annotated[int, Setting("Fewer shown rows in the window end in unknown.", 1)] = 500
    shown_types: Annotated[tuple[str, ...], Setting("Event types of what is shown, such as impression.")] = ()
    hit_types: Annotated[
        tuple[str, ...], Setting("Event types of what follows, such as click; one may be in both.")
    ] = ()
    min_history: Annotated[int, Setting("Fewest past windows to judge by.", 3)] = 8
    deviations: Annotated[float, Setting("Robust deviations that the rate may be off.", 1)] = 6.0
    relative_floor: Annotated[Ratio, Setting("Share of the usual rate that it may always be off.", 0, 1)] = 0.2
    exposed: Annotated[tuple[str, ...], Setting("Values of the cohort that was shown recommendations.")] = ()
    control: Annotated[tuple[str, ...], Setting("Values of the cohort that was not.")] = ()
    exposed_share: Annotated[
        Ratio, Setting("Share of the users of both cohorts that is to be exposed.", 0.001, 0.999)
    ] = 0.5
    min_users: Annotated[int, Setting("Fewer users in a cohort leave the uplift unknown.", 2)] = 1_000
    max_loss: Annotated[Ratio, Setting("Share of the control's rate that the exposed may lose.", 0, 1)] = 0.0


class ClickThrough(Check[ClickThroughSettings]):
    """Measures the rate of hits to what is shown, and how cohorts differ in it.

    Detects:
        A rate that falls or jumps against its own past, over all and by source: a model that went wrong,
        clicks that are not sent, impressions that are counted twice. With cohorts, recommendations that
        surely do worse than what the control is shown, and users who are not split as they should be.

    Does not detect:
        Why. A decline that is slower than the history behind the band. A hit is not matched with what
        was shown: one that comes in the next window counts there.

    When it fires:
        The rate leaves the band of comparable windows by more than chance does at this number of rows; or,
        about ``uplift``, the upper bound of the exposed cohort's rate over the control's is below
        ``1 - max_loss``. Chance between users, not rows, is allowed for there. Without history, with too few
        users or hits, with users split otherwise than ``exposed_share`` says, or with more than 1 % of them in
        both cohorts, it is ``unknown``. Without the column of cohorts or users the uplift alone is an ``error``.
    """

    id = "click_through"
    settings_type = ClickThroughSettings
    formula = "hits / shown, by event type; uplift = rate of the exposed / rate of the control - 1"
    limit_setting = "deviations"
    uses = (Role.EVENT_TYPE,)
    needs = (Role.EVENT_TYPE,)
    history = ("rate",)
    late_counts = ("rows",)

    def absent(self, dataset: Dataset) -> str | None:
        """Return why the check cannot run: missing types, or a missing role."""
        settings = self.settings
        if not settings.shown_types or not settings.hit_types:
            return "needs shown_types and hit_types"
        if bool(settings.exposed) != bool(settings.control):
            return "needs both exposed and control, or neither"
        known = {*dataset.roles, *dataset.lost}
        missing = [role for role in (Role.COHORT, Role.USER) if settings.exposed and role not in known]
        return super().absent(dataset) or (f"needs the role {' and '.join(missing)}" if missing else None)

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return what is shown and hit, by source, and the spread between users of each cohort."""
        aggregates = {"rows": Aggregate(func.count())}
        for name, kind in (("shown", SHOWN), ("hits", HIT)):
            aggregates[name] = Aggregate.rows(_is(column("click"), kind))
        measure = Measure(rows, aggregates, {"click": self._click(rows)})
        # Without one of them there is no uplift to tell; the rate needs neither.
        is_lost = Role.USER in rows.dataset.lost or Role.COHORT in rows.dataset.lost
        return (measure, self._cohorts(rows)) if self.settings.exposed and not is_lost else (measure,)

    def _click(self, rows: Rows) -> Any:
        name = spelt(rows.dataset, rows.dataset.roles[Role.EVENT_TYPE])
        shown, hit = self.settings.shown_types, self.settings.hit_types
        types = (([one for one in shown if one in hit], BOTH), (shown, SHOWN), (hit, HIT))
        return case(*((is_one_of(name, values), literal(kind, SmallInteger)) for values, kind in types if values))

    def _cohorts(self, rows: Rows) -> Listing:
        """Return for each cohort its users, those who were shown anything, and sums over users of shown and hits.

        Users who are in both cohorts are a third one, without a name.
        """
        cohort = rows.cohort(self.settings.exposed, self.settings.control)
        each = (
            rows.select(
                cohort.label("cohort"), row_key(rows.column(Role.USER)).label("user"), self._click(rows).label("click")
            )
            .where(rows.present(Role.USER))
            .subquery()
        )
        shown, hits = (func.sum(case((_is(each.c.click, kind), 1), else_=0)) for kind in (SHOWN, HIT))
        first, last = func.min(each.c.cohort), func.max(each.c.cohort)
        users = (
            select(
                first.label("first"), last.label("last"), cast(shown, Double).label("s"), cast(hits, Double).label("h")
            )
            .where(each.c.cohort.is_not(None), each.c.click.is_not(None))
            .group_by(each.c.user)
            .subquery()
        )
        s, h, cohort = users.c.s, users.c.h, case((users.c.first == users.c.last, users.c.first))
        sums = [func.sum(of) for of in (case((s > 0, 1), else_=0), s, h, s * s, h * h, s * h)]
        return Listing("cohorts", rows, select(cohort, func.count(), *sums).group_by(cohort), 3)

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the rate of all rows, on the uplift, and on the rate of each source."""
        verdicts = [self._against_history(tally, tally.counts, baseline, None)]
        if "cohorts" in tally.listings:
            verdicts.append(self._uplift(tally))
        elif self.settings.exposed:
            lost = "the column is gone that tells the cohorts or the users apart"
            verdicts.append(self.verdict(tally, Outcome.ERROR, UPLIFT, feature="uplift", reason=lost))
        verdicts += [self._against_history(tally, counts, baseline, source) for source, counts in _of_sources(tally)]
        return tuple(verdicts)

    def _against_history(self, tally: Tally, counts: Counts, baseline: Baseline, source: str | None) -> Verdict:
        settings, (shown, hits) = self.settings, _parts(counts)
        details: dict[str, Any] = {"shown": shown, "hits": hits}
        few = self.too_few(tally, RATE, shown, source=source, details=details)
        if few is not None:
            return few
        rate = hits / shown
        fields: dict[str, Any] = {"value": rate, "source": source, "details": details}
        width = BandSettings(settings.min_history, settings.deviations, settings.relative_floor, 0.0)
        band = baseline.band(_figure(source), tally.window, width)
        found = f"{percent(rate)}: {hits:,} hits of {shown:,} shown"
        if band is None:
            reason = f"{found}; no baseline yet, {settings.min_history} past windows of this length are needed"
            return self.verdict(tally, Outcome.UNKNOWN, RATE, reason=reason, **fields)
        low, high = _by_chance(band, shown)
        origin = band.origin if (low, high) == (band.low, band.high) else f"{band.origin}, and chance at {shown:,} rows"
        details.update(expected=band.centre, low=low, high=high, limit_origin=origin)
        outcome = Outcome.GOOD if low <= rate <= high else Outcome.BAD
        reason = f"{found}, against a usual {percent(band.centre)}"
        limit = low if rate < band.centre else high
        return self.verdict(tally, outcome, RATE, limit=limit, reason=reason, **fields)

    def _uplift(self, tally: Tally) -> Verdict:
        """Return the verdict on the rate of the exposed over that of the control."""
        settings = self.settings
        found = {row[0]: Cohort(*(float(number or 0) for number in row[1:])) for row in tally.listings["cohorts"]}
        exposed, control, both = (found.get(name, Cohort()) for name in (EXPOSED, CONTROL, None))
        details: dict[str, Any] = {"both_users": int(both.shown_users)}
        for name, cohort in ((EXPOSED, exposed), (CONTROL, control)):
            details |= {f"{name}_users": int(cohort.shown_users), f"{name}_shown": int(cohort.shown)}
            details |= {f"{name}_hits": int(cohort.hits), f"{name}_rate": cohort.rate}
        fields: dict[str, Any] = {"feature": "uplift", "details": details}
        reason = self._incomparable(exposed, control, both)
        if reason is not None:
            return self.verdict(tally, Outcome.UNKNOWN, UPLIFT, reason=reason, **fields)
        middle, spread = (
            log(exposed.rate / control.rate),
            DEVIATIONS * sqrt(exposed.log_variance + control.log_variance),
        )
        low, uplift, high = (exp(at) - 1 for at in (middle - spread, middle, middle + spread))
        # Not low and high: these are a band that is usual.
        details.update(uplift_low=low, uplift_high=high, limit_origin="max_loss", bound="at least")
        outcome = Outcome.BAD if high < -settings.max_loss else Outcome.GOOD
        reason = (
            f"the exposed hit {percent(exposed.rate)} of what they are shown, the control {percent(control.rate)}:"
            f" {_signed(uplift)}, between {_signed(low)} and {_signed(high)}"
        )
        return self.verdict(
            tally, outcome, UPLIFT, value=uplift, limit=0.0 - settings.max_loss, reason=reason, **fields
        )

    def _incomparable(self, exposed: Cohort, control: Cohort, both: Cohort) -> str | None:
        """Return why the rates of two cohorts cannot be compared, or None if they can."""
        settings = self.settings
        shared, users = both.shown_users, exposed.shown_users + control.shown_users + both.shown_users
        if shared > MOST_IN_BOTH * users:
            return (
                f"{percent(shared / users)} of {users:,.0f} users are in both cohorts, {percent(MOST_IN_BOTH)} may be"
            )
        for name, cohort in ((EXPOSED, exposed), (CONTROL, control)):
            if cohort.shown_users < settings.min_users:
                found = f"{cohort.shown_users:,.0f} users of the {name} were shown anything"
                return f"{found}, {settings.min_users:,} are needed to judge"
            if cohort.hits < LEAST_HITS:
                return f"{cohort.hits:,.0f} hits of the {name}, {LEAST_HITS} are needed to judge"
        users, share = exposed.shown_users + control.shown_users, settings.exposed_share
        off = exposed.shown_users - users * share
        if off * off > WORST_SPLIT * users * share * (1 - share):
            now = percent(exposed.shown_users / users)
            return f"sample-ratio mismatch: {now} of {users:,.0f} users are exposed, {percent(share)} should be"
        return None

    def figures(self, tally: Tally) -> Mapping[str, float | None]:
        """Return the rate, of each source too, for the bands of later windows."""
        apart = [(None, tally.counts), *_of_sources(tally)]
        parts = {_figure(source): _parts(counts) for source, counts in apart}
        least = self.settings.min_rows
        return {name: hits / shown if shown >= least else None for name, (shown, hits) in parts.items()}

    def counters(self, tally: Tally) -> tuple[Sample, ...]:
        """Return what is shown and what is hit, by source."""
        labels = {"dataset": tally.dataset}
        return tuple(
            Sample("recwatch_click_events_total", {**labels, "source": source, "result": result}, n)
            for source, counts in (tally.by_source or {ALL_SOURCES: tally.counts}).items()
            for result, n in zip(("shown", "hit"), _parts(counts), strict=True)
        )

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the uplift with its bounds, where it could be told."""
        told = [found for found in verdicts if found.feature == "uplift" and found.value is not None]
        return tuple(
            Sample("recwatch_click_uplift_ratio", {"dataset": tally.dataset, "bound": bound}, value)
            for found in told
            for bound, value in (
                ("low", found.details["uplift_low"]),
                ("estimate", found.value),
                ("high", found.details["uplift_high"]),
            )
            if value is not None
        )


@dataclass(frozen=True)
class Cohort:
    """Sums over the users of a cohort.

    Args:
        users: Users with anything shown or hit.
        shown_users: Users with anything shown.
        shown: Rows shown.
        hits: Hits.
        shown_squares: Sum over users of the square of the rows shown.
        hit_squares: Sum over users of the square of the hits.
        products: Sum over users of rows shown times hits.
    """

    users: float = 0.0
    shown_users: float = 0.0
    shown: float = 0.0
    hits: float = 0.0
    shown_squares: float = 0.0
    hit_squares: float = 0.0
    products: float = 0.0

    @property
    def rate(self) -> float:
        """Hits over shown; 0 where nothing was shown."""
        return self.hits / self.shown if self.shown else 0.0

    @property
    def log_variance(self) -> float:
        """The variance of the rate's logarithm, where users are drawn independently.

        References:
            Deng, Knoblich and Lu (2018), Applying the Delta Method in Metric Analytics, KDD '18.
        """
        rate = self.rate
        residual = self.hit_squares - 2 * rate * self.products + rate * rate * self.shown_squares
        # Where all users have the same rate, rounding is all that is left.
        residual = residual if residual > ROUNDING * self.hit_squares else 0.0
        return residual * self.users / (self.users - 1) / self.hits**2


def _signed(ratio: float) -> str:
    return f"{'+' if ratio > 0 else ''}{percent(ratio)}"


def _is(click: ColumnElement[Any], kind: int) -> ColumnElement[bool]:
    return or_(click == kind, click == BOTH)


def _by_chance(band: Band, shown: int) -> tuple[float, float]:
    """Return a band that is at least as wide as what chance gives at a number of rows.

    Hits may follow what is shown more than once, so they are taken for a number of rare events, not for a share.
    """
    expected = band.centre * shown
    least = max(0.0, expected - DEVIATIONS * sqrt(expected))
    return min(band.low, least / shown), max(band.high, most_by_chance(expected + MEDIAN_BELOW) / shown)


def _parts(counts: Counts) -> tuple[int, int]:
    return int(counts.get("shown") or 0), int(counts.get("hits") or 0)


def _of_sources(tally: Tally) -> Iterator[tuple[str, Counts]]:
    return ((source, counts) for source, counts in tally.by_source.items() if source != ALL_SOURCES)


def _figure(source: str | None) -> str:
    return "rate" if source is None else f"rate of {source}"
