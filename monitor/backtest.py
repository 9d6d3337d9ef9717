"""Replays the schedule over past data with a virtual clock, through the very code that the daemon runs.

A window is judged when the daemon would have judged it, over what had been ingested by then: rows
belong to windows by their ingestion time where there is one. Nothing is delivered; the state is a
temporary one.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from alerts.incidents import Member
from alerts.message import Problem, State
from checks.check import Outcome
from checks.window import Window
from monitor.alerting import Alerting
from monitor.baselines import Builder, is_due, reference_span
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.errors import RecwatchError
from monitor.records import Judged
from monitor.resolve import Pipeline, build
from monitor.runner import Runner, worst
from monitor.schedule import due
from monitor.store import Store

# How often references are looked after, in virtual time.
RENEW_EVERY = timedelta(hours=6)
# Called with the virtual time after each step.
Progress = Callable[[datetime], None]


@dataclass(frozen=True)
class Transition:
    """One moment at which somebody would have been told: an alert begins or ends."""

    at: datetime
    state: State
    problem: Problem

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        problem = self.problem
        kind = "entity" if problem.check == "unknown_ids" else "feature"
        about = {kind: problem.subject} if problem.subject else {}
        return {
            "at": self.at.isoformat(), "slo": problem.name, "alert": problem.alert, "check": problem.check,
            "dataset": problem.dataset, **about, "severity": problem.severity.value, "tier": problem.tier,
            "state": self.state.value, "value": problem.value, "limit": problem.limit, "reason": problem.sentence,
        }  # fmt: skip


@dataclass
class Replayed:
    """What a replay found.

    Args:
        span: What was replayed.
        transitions: Alerts that somebody would have been told of, in order.
        explained: Alarms that an alarm upstream explained, by objective.
        runs: Runs of checks by outcome.
        bad: Bad runs by check and dataset.
    """

    span: Window
    transitions: list[Transition] = field(default_factory=list)
    explained: set[str] = field(default_factory=set)
    runs: dict[str, int] = field(default_factory=dict)
    bad: Counter[str] = field(default_factory=Counter)

    def totals(self) -> dict[str, Any]:
        """Return the last line of the JSON: how many pages and tickets, in all and a week."""
        weeks = self.span.duration / timedelta(weeks=1)
        began = [t.problem.severity.value for t in self.transitions if t.state is State.FIRING]
        counts = {severity: began.count(severity) for severity in ("page", "ticket")}
        return {
            "totals": {
                "from": self.span.start.isoformat(), "to": self.span.end.isoformat(), "weeks": round(weeks, 3),
                "pages": counts["page"], "tickets": counts["ticket"],
                "pages_per_week": round(counts["page"] / weeks, 3),
                "tickets_per_week": round(counts["ticket"] / weeks, 3),
                "explained": sorted(self.explained), "runs": self.runs, "bad": dict(self.bad),
            }
        }  # fmt: skip

    def spans(self) -> Iterator[tuple[Transition, datetime | None]]:
        """Yield the beginning of each alert with the time of its end, None for one that still fires."""
        ends: dict[tuple[str, str, str], list[datetime]] = {}
        for transition in self.transitions:
            if transition.state is State.RESOLVED:
                ends.setdefault(_identity(transition.problem), []).append(transition.at)
        for transition in self.transitions:
            if transition.state is State.FIRING:
                found = ends.get(_identity(transition.problem))
                yield transition, found.pop(0) if found else None


def _identity(problem: Problem) -> tuple[str, str, str]:
    return problem.alert, problem.name, problem.severity.value


def replay(config: Config, span: Window, step: timedelta, progress: Progress = lambda _at: None) -> Replayed:
    """Return whom the daemon would have told what, had it run over a span of the past.

    Args:
        config: A valid configuration; its state is left alone.
        span: What to replay; references are learnt from ``baselines.span`` before it, as far as there is data.
        step: How far the clock moves at once; windows due in between are judged then, in order.
        progress: Called after each step.

    Raises:
        EngineError: The data cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="recwatch-backtest-") as folder:
        pipeline = build(config)
        store = Store(f"sqlite:///{Path(folder)}/state.db", config.pipeline)
        try:
            return _Replay(pipeline, store, span, step).run(progress)
        finally:
            store.close()
            pipeline.close()


class _Replay:
    def __init__(self, pipeline: Pipeline, store: Store, span: Window, step: timedelta) -> None:
        self._pipeline, self._store, self._step = pipeline, store, step
        self._clock = ManualClock(span.start)
        self._runner = Runner(pipeline, store, self._clock)
        self._runner.replays = True
        self._alerting = Alerting(store, pipeline, span.start)
        self._watermarks: dict[str, dict[str, datetime | None]] = {
            dataset: {check.id: span.start for check in checks} for dataset, checks in pipeline.checks.items()
        }
        self._renewed: datetime | None = None
        self._told: dict[str, Member] = {}
        self._found = Replayed(span)

    def run(self, progress: Progress) -> Replayed:
        """Replay step by step."""
        end = self._found.span.end
        while self._clock.now() < end:
            now = self._clock.move(min(self._step, end - self._clock.now()))
            self._renew(now)
            for dataset in self._pipeline.checks:
                self._judge(dataset, now)
            self._alerting.evaluate(now)
            self._note(now)
            progress(now)
        return self._found

    def _judge(self, dataset: str, now: datetime) -> None:
        marks, checks = self._watermarks[dataset], self._pipeline.checks[dataset]
        most = max(1, int(self._step / min(check.settings.every for check in checks))) + 1
        for pairs in due(checks, marks, now, most):
            for judged in self._runner.run(dataset, pairs):
                self._store.commit(judged)
                self._count(judged)
            marks.update({check.id: window.end for check, window in pairs})

    def _count(self, judged: Judged) -> None:
        outcome = worst(judged.verdicts).value
        self._found.runs[outcome] = self._found.runs.get(outcome, 0) + 1
        if outcome == Outcome.BAD:
            self._found.bad[f"{judged.check} on {judged.dataset}"] += 1

    def _renew(self, now: datetime) -> None:
        """Build references as the daemon does, from what there was by then."""
        if self._renewed is not None and now - self._renewed < RENEW_EVERY:
            return
        self._renewed, settings = now, self._pipeline.config.baselines
        builder = Builder(self._runner, self._store)
        for dataset, checks in self._pipeline.checks.items():
            for check in checks:
                try:
                    if is_due(self._store.saved_baseline(dataset, check.id), check, now, settings.refresh):
                        builder.build_reference(dataset, check, reference_span(check, now, settings.span), pinned=False)
                except RecwatchError:
                    # Too few rows so far; the check says so itself.
                    continue

    def _note(self, now: datetime) -> None:
        """Note which alerts have begun and ended since the step before."""
        incidents = self._alerting.memory.board.incidents
        told = {
            key: member for incident in incidents for key, member in incident.members.items() if member.until is None
        }
        for key in sorted(told.keys() - self._told.keys()):
            self._found.transitions.append(Transition(now, State.FIRING, told[key].problem))
        for key in sorted(self._told.keys() - told.keys()):
            self._found.transitions.append(Transition(now, State.RESOLVED, self._told[key].problem))
        self._told = told
        self._found.explained |= {why.text for why in self._alerting.memory.board.explained.values() if why.text}
