"""Puts a firing alarm into words and figures: what is wrong, how bad, since when, and what contributes most."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote

from alerts.burn import Tier
from alerts.evaluate import BLIND, BURN, CHECK_OVERDUE, FRESHNESS_EMERGENCY, INGESTION_DOWN, NO_DATA, Sign
from alerts.incidents import Firing
from alerts.message import Link, Problem, State
from alerts.slo import Kind, Slo
from alerts.track import Track
from alerts.wording import clock
from checks.check import Outcome, Verdict, percent
from monitor.config_alerting import NotifyConfig
from monitor.objectives import Spell, Spent
from monitor.wording import duration_words, told_apart, unit_text, value_text

MOST_CONTRIBUTORS = 3
# What a removed objective ends; the others are about a dataset or a check.
OF_AN_OBJECTIVE = (BURN, INGESTION_DOWN, NO_DATA)
# What spends the budget of its objective.
SPENDS = (BURN, INGESTION_DOWN)
NOT_JUDGED = (Outcome.ERROR, Outcome.UNKNOWN)
# Causes that a verdict's details count, with the words for them.
CAUSES = {
    "missing": "missing", "malformed": "malformed", "unknown": "not in the catalogue", "retired": "retired",
    "same_window": "copies in the same window", "retry": "retries", "replay": "replays",
    "rejected": "rejected", "silent_drop": "lost without a word", "invalid": "invalid",
}  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What is known at the moment of an evaluation.

    Args:
        slos: Objectives by name.
        verdicts: Verdicts of the newest window of each check.
        spent: What each objective has spent.
        tracks: What each objective has seen lately.
        now: The moment.
        watched: Datasets and checks that run.
        evidence: Id of the newest evidence by dataset, check and subject.
        bad_since: Returns what was bad of an objective since a time; None if nothing was.
    """

    slos: Mapping[str, Slo]
    verdicts: Sequence[Verdict]
    spent: Mapping[str, Spent]
    tracks: Mapping[str, Track]
    now: datetime
    watched: Collection[tuple[str, str]]
    evidence: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    bad_since: Callable[[Slo, datetime], Spell | None] = lambda _slo, _since: None


class Briefing:
    """Describes alarms; see ``alerts.incidents.Describe``."""

    def __init__(self, figures: Figures, notify: NotifyConfig, pipeline: str) -> None:
        self._figures, self._notify, self._pipeline = figures, notify, pipeline

    def __call__(self, found: Firing, state: State, since: datetime, until: datetime | None) -> Problem:
        """Return the problem that a message tells of."""
        sign, figures = found.sign, self._figures
        slo = figures.slos.get(sign.name)
        last, began = self._last(found, slo), self._began(found, since)
        # The figures of an end are those of what was worst, not of the good run that ended it.
        is_over = state is State.RESOLVED
        spell = self._spell(sign.alert, slo, began or since) if is_over else None
        bad = spell.worst if spell is not None else None if is_over else last
        value, limit, baseline = _held_against(bad) if bad is not None else ("", "", "")
        if sign.alert == FRESHNESS_EMERGENCY:
            # Its age has grown since the last run, and its limit is its own.
            value, limit = duration_words(sign.value), duration_words(sign.threshold)
        if sign.alert == INGESTION_DOWN:
            value, limit = value if is_over else percent(sign.value), percent(sign.threshold)
        verdict = bad or last
        burn = slo is not None and sign.alert == BURN
        spent = figures.spent.get(sign.name)
        return Problem(
            sign.name, sign.alert, sign.severity, state, self._sentence(found, slo, last, spell, state), since,
            check=sign.check, dataset=sign.dataset,
            subject=" ".join(verdict.subject.values()) if verdict is not None else "",
            tier=sign.tier, until=until, value=value, limit=limit, baseline=baseline,
            objective=slo.objective if slo is not None else None,
            bad_ratio=sign.value if burn else None,
            burn_rate=sign.value / (1 - slo.objective) if slo is not None and burn else None,
            budget_left_ratio=spent.budget_left_ratio(slo, figures.now) if spent and slo else None,
            budget_spent_ratio=self._spent(slo, found, since, began) if slo and sign.alert in SPENDS else None,
            contributors=tuple(self._contributors(verdict)) if verdict is not None else (),
            runbook_url=self._runbook(sign.alert, slo), began=began,
            is_watched=self._is_watched(sign, slo),
            is_calm=not is_over and last is not None and last.outcome is Outcome.GOOD,
        )  # fmt: skip

    def _is_watched(self, sign: Sign, slo: Slo | None) -> bool:
        is_there = slo is not None or sign.alert not in OF_AN_OBJECTIVE
        return is_there and (sign.dataset, sign.check) in self._figures.watched

    def _began(self, found: Firing, since: datetime) -> datetime | None:
        """Return when the trouble began: with the window of the first bad run, or as long ago as an age says."""
        sign, slo = found.sign, self._figures.slos.get(found.sign.name)
        track = self._figures.tracks.get(sign.name)
        first = track.bad_since(since) if track is not None and sign.alert not in BLIND else None
        if first is not None:
            # All that is about one objective began at one time.
            spell = self._spell(sign.alert, slo, first)
            return min(since, spell.span.start) if spell is not None else first
        if sign.alert in SPENDS:
            return None
        return min(since, self._figures.now - timedelta(seconds=sign.value))

    def _spell(self, alert: str, slo: Slo | None, since: datetime) -> Spell | None:
        """Return what was bad for as long as an alarm tells of it; None if it is about something else."""
        return self._figures.bad_since(slo, since) if slo is not None and alert not in BLIND else None

    def _last(self, found: Firing, slo: Slo | None) -> Verdict | None:
        """Return the last verdict behind an alarm, the worst of several."""
        ours = [v for v in self._figures.verdicts if (v.dataset, v.check) == (found.sign.dataset, found.sign.check)]
        covered = [v for v in ours if slo.covers(v)] if slo is not None else [v for v in ours if v.is_whole]
        order = (Outcome.BAD, Outcome.ERROR, Outcome.GOOD, Outcome.UNKNOWN)
        return min(covered or ours, key=lambda verdict: order.index(verdict.outcome), default=None)

    def _sentence(
        self, found: Firing, slo: Slo | None, verdict: Verdict | None, spell: Spell | None, state: State
    ) -> str:
        sign, lately = found.sign, _lately(verdict)
        if not self._is_watched(sign, slo):
            return f"{sign.name} is not watched any more"
        if sign.alert == FRESHNESS_EMERGENCY:
            age, limit = duration_words(sign.value), duration_words(sign.threshold)
            is_over = state is State.RESOLVED
            # The age goes on to grow while nobody can look.
            newest = "the newest event seen" if verdict is None or verdict.outcome in NOT_JUDGED else "the newest event"
            said = f"{newest} {'was' if is_over else 'is'} {age} old, more than {limit} is an emergency"
            return said + _then(lately if is_over or newest.endswith("seen") else "")
        if spell is not None:
            lasted = duration_words(spell.span.duration.total_seconds())
            return f"bad for {lasted}, until {clock(spell.span.end)}; at worst {spell.worst.reason}{_then(lately)}"
        if sign.alert == INGESTION_DOWN:
            return f"{percent(sign.value)} of events did not land lately{_then(lately)}"
        if sign.alert != BURN or slo is None:
            what = "has not succeeded" if sign.alert == CHECK_OVERDUE else "could not judge"
            limit = duration_words(sign.threshold)
            return f"{sign.check} {what} for {duration_words(sign.value)}, at most {limit} is normal{_then(lately)}"
        tier = _tier(slo, sign.tier)
        over = duration_words(tier.long.total_seconds()) if tier is not None else "a while"
        of = "events were bad" if slo.kind is Kind.EVENTS else "the time was bad"
        return f"{percent(sign.value)} of {of} over the last {over}{_then(lately)}"

    def _spent(self, slo: Slo, found: Firing, since: datetime, began: datetime | None) -> float:
        """Return the share of the budget that has been spent since the window that began it all."""
        tier = _tier(slo, found.sign.tier)
        length = self._figures.now - since + (tier.long if tier is not None else since - (began or since))
        seen = self._figures.tracks[slo.name].over(self._figures.now, length)
        part = length.total_seconds() if slo.kind is Kind.EVENTS else seen.events
        return (seen.bad_ratio or 0.0) * part / slo.period.total_seconds() / (1 - slo.objective)

    def _contributors(self, verdict: Verdict) -> Iterable[str]:
        """Yield the sources, features or causes that contribute most, the worst first."""
        same = [
            v for v in self._figures.verdicts
            if (v.dataset, v.check) == (verdict.dataset, verdict.check) and v.outcome is Outcome.BAD and v.subject
            and v.subject != verdict.subject and (v.entity, v.measure) == (verdict.entity, verdict.measure)
            # Of an end the newest run is not the one that was worst.
            and v.window == verdict.window
        ]  # fmt: skip
        same.sort(key=lambda v: (v.total or 0) - (v.good or 0) or (v.value or 0.0) / (v.limit or 1.0), reverse=True)
        found = []
        for part in same:
            value, limit, _ = _held_against(part)
            kind, name = next(reversed(part.subject.items()))
            found.append(f"{kind} {name}: {value} (limit {limit})")
        counts = [(verdict.details.get(name) or 0, words) for name, words in CAUSES.items()]
        causes = sorted((entry for entry in counts if isinstance(entry[0], int | float) and entry[0] > 0), reverse=True)
        found += [f"{count:,.0f} {words}" for count, words in causes]
        return found[:MOST_CONTRIBUTORS]

    def _runbook(self, alert: str, slo: Slo | None) -> str:
        if slo is not None and slo.runbook_url:
            return slo.runbook_url
        base = self._notify.external_url.rstrip("/")
        return f"{base}/runbooks/{alert.lower()}" if base else ""

    def links(self, problems: Iterable[Problem]) -> tuple[Link, ...]:
        """Return where to look: the status page, the dashboard and the runbook of the worst problem."""
        found, first = [], next(iter(problems), None)
        if self._notify.external_url:
            found.append(Link("Status page", self._notify.external_url))
        if self._notify.dashboard_url and first is not None:
            filled = {"{pipeline}": self._pipeline, "{slo}": first.name}
            url = self._notify.dashboard_url
            for mark, name in filled.items():
                url = url.replace(mark, quote(name, safe=""))
            found.append(Link("Dashboard", url))
        about = (first.dataset, first.check, first.subject) if first is not None else ("", "", "")
        proof = self._figures.evidence.get(about)
        if proof and self._notify.external_url:
            found.append(Link("Evidence", f"{self._notify.external_url.rstrip('/')}/evidence/{proof}"))
        if first is not None and first.runbook_url:
            found.append(Link("Runbook", first.runbook_url))
        return tuple(found)

    def team(self, name: str) -> str:
        """Return who owns an objective."""
        slo = self._figures.slos.get(name)
        return slo.team if slo is not None else ""


def _lately(verdict: Verdict | None) -> str:
    """Return what the last run said."""
    if verdict is None:
        return ""
    if verdict.outcome is Outcome.GOOD:
        return "the last run was good"
    what = {Outcome.BAD: "was bad", Outcome.ERROR: "failed"}.get(verdict.outcome, "could not judge")
    return f"the last run {what}" + (f": {verdict.reason}" if verdict.reason else "")


def _then(text: str) -> str:
    return f"; {text}" if text else ""


def _tier(slo: Slo, name: str) -> Tier | None:
    return next((tier for tier in slo.tiers if tier.name == name), None)


def _held_against(verdict: Verdict) -> tuple[str, str, str]:
    """Return a verdict's value, limit and baseline as texts; empty where there is none."""
    value, limit = told_apart(verdict.measure, verdict.value, verdict.limit)
    said = [f"{text} {unit_text(verdict.measure, text)}".rstrip() for text in (value, limit)]
    low, high, expected = (verdict.details.get(name) for name in ("low", "high", "expected"))
    baseline = ""
    if expected is not None and low is not None and high is not None:
        low, high, expected = (value_text(verdict.measure, number) for number in (low, high, expected))
        baseline = f"{expected} is usual, {low} to {high} normal"
    return said[0] if verdict.value is not None else "", said[1] if verdict.limit is not None else "", baseline
