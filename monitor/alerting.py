"""Evaluates the objectives from the state, and writes what is to be told into the outbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from alerts import alarms as alarm
from alerts import evaluate, incidents
from alerts.alarms import Alarm
from alerts.evaluate import CHECK_OVERDUE, NO_DATA, Sign
from alerts.incidents import UPSTREAM, Board, Context, Firing, Incident
from alerts.message import Alert, Problem, Severity
from alerts.slo import Kind, Slo
from alerts.track import Track
from checks.check import Check, Outcome
from monitor import evidence, objectives, outbox, silences
from monitor.briefing import Briefing, Figures
from monitor.channels import told
from monitor.records import Run, SloPoint
from monitor.resolve import Pipeline
from monitor.store import Store
from monitor.triage import brief

STATE = "alerting"
# Tracks look back as far as the longest window of any tier, without one as far as that, and a little further.
LONGEST, SPARE = timedelta(days=3), timedelta(hours=2)
# A reload or a quick restart is no time in which nobody looked.
BREAK = timedelta(minutes=2)


@dataclass(frozen=True)
class Memory:
    """What is kept from one evaluation to the next, across restarts.

    Args:
        alarms: By their key.
        board: Incidents, and what is explained.
        evaluated: When that was.
        began: Since when there has been no break in which nobody looked; checks may be overdue from then on.
        burns: How many times too fast the budget of each objective burns, over some lengths in seconds.
    """

    alarms: Mapping[str, Alarm] = field(default_factory=dict)
    board: Board = field(default_factory=Board)
    evaluated: datetime | None = None
    began: datetime | None = None
    burns: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


_MEMORY = TypeAdapter(Memory)


class Alerting:
    """Turns objectives into alarms, incidents and messages.

    Args:
        store: The state.
        pipeline: Objectives and checks.
        started: When the daemon began, or began to lead, or read its configuration.
    """

    def __init__(self, store: Store, pipeline: Pipeline, started: datetime) -> None:
        self._store, self.pipeline = store, pipeline
        self._tracks = {name: Track(slo) for name, slo in pipeline.slos.items()}
        longs = [tier.long for slo in pipeline.slos.values() for tier in slo.active]
        self._longest = max(evaluate.HELD_FOR, max(longs, default=LONGEST)) + SPARE
        self._read_to = 0
        saved = store.note(STATE)
        self.memory = _MEMORY.validate_python(saved) if saved else Memory()
        board = self.memory.board
        incidents_now = tuple(map(self._readdressed, board.incidents))
        self.memory = replace(self.memory, board=replace(board, incidents=incidents_now))
        last = self.memory.evaluated
        # One that lies ahead is that of a clock that ran ahead.
        began = self.memory.began
        if began is None or began > started or last is None or started - last > BREAK:
            self.memory = replace(self.memory, began=started)
            if last is not None:
                self._mark_gap(last)

    def _mark_gap(self, last: datetime) -> None:
        """Write down that nothing was known while no daemon ran: what was last seen does not hold until now."""
        seen = objectives.latest(self._store)
        gaps = [SloPoint(name, last, last, Outcome.UNKNOWN) for name in self._tracks if name in seen]
        with self._store.writing() as connection:
            objectives.record(connection, self._store.pipeline, gaps)

    def evaluate(self, now: datetime) -> list[Alert]:
        """Evaluate everything once; return the messages that were written into the outbox.

        Raises:
            StateError: The state cannot be read or written.
            LeaseLostError: Another daemon leads; nothing was written.
        """
        self._catch_up(now)
        config = self.pipeline.config
        runs = self._store.runs()
        alarms = alarm.step(self.memory.alarms, self._signs(runs, now), now, config.notify.keep_firing)
        firing = list(self._firing(alarms, runs, now))
        context = self._context(now)
        board, messages = incidents.step(self.memory.board, firing, context)
        burns = {name: self._burns(slo, now) for name, slo in self.pipeline.slos.items()}
        memory = Memory(alarms, board, now, min(self.memory.began or now, now), burns)
        with self._store.writing() as connection:
            self._store.guard(connection)
            self._store.release(connection, now)
            for incident, alert in messages:
                there = [channel for channel in incident.channels if channel in config.channels]
                outbox.put(connection, self._store.pipeline, alert, there)
            self._store.note_within(connection, STATE, _MEMORY.dump_python(memory, mode="json"))
        self.memory = memory
        return [alert for _incident, alert in messages]

    def channels(self, name: str, severity: Severity) -> tuple[str, ...]:
        """Return who is told of alerts of an objective now."""
        slo = self.pipeline.slos.get(name)
        return told(self.pipeline.config, severity, slo.channels if slo is not None else ())

    def _readdressed(self, incident: Incident) -> Incident:
        """Return an incident with those who are told now beside channels that are gone."""
        known = self.pipeline.config.channels
        if incident.channels and all(channel in known for channel in incident.channels):
            return incident
        name = next((member.found.sign.name for member in incident.members.values()), "")
        # One that is gone may come back, and is to hear of the end.
        return replace(
            incident, channels=tuple(dict.fromkeys((*incident.channels, *self.channels(name, incident.severity))))
        )

    def _catch_up(self, now: datetime) -> None:
        """Read what runs have said since the last evaluation."""
        if self.memory.evaluated is not None and now < self.memory.evaluated:
            # The clock ran ahead, and what it dated is read again with the times that it had.
            self._tracks, self._read_to = {name: Track(slo) for name, slo in self.pipeline.slos.items()}, 0
        read = objectives.read_points(self._store, self._read_to, now - self._longest)
        for (number, point), at in zip(read, _finished([point for _number, point in read], now), strict=True):
            self._read_to = max(self._read_to, number)
            track = self._tracks.get(point.slo)
            if track is not None and point.is_live:
                track.add(at, point.outcome, point.good, point.bad)
        for track in self._tracks.values():
            track.forget(now - self._longest)

    def _burns(self, slo: Slo, now: datetime) -> dict[int, float]:
        """Return how many times too fast the budget burns, over the long window of each tier."""
        seen = {tier.long: self._tracks[slo.name].over(now, tier.long).bad_ratio for tier in slo.tiers}
        return {
            int(length.total_seconds()): round(bad / (1 - slo.objective), 4)
            for length, bad in seen.items()
            if bad is not None
        }

    # -- what fires ------------------------------------------------------------------------------

    def _signs(self, runs: Sequence[Run], now: datetime) -> Iterator[Sign]:
        latest, slos, fires = objectives.latest(self._store), self.pipeline.slos, self._fires()
        for name, slo in slos.items():
            if name in latest:
                yield from evaluate.burning(self._tracks[name], latest[name].since, now, fires)
                yield from evaluate.silent(slo, latest[name].judged_at, latest[name].since, now)
        checks = self._checks()
        for sample in self._store.gauges():
            if sample.metric == "recwatch_newest_event_timestamp_seconds" and sample.labels["source"] == "(all)":
                check = checks.get((sample.labels["dataset"], "freshness"))
                if check is not None:
                    newest = datetime.fromtimestamp(sample.value, now.tzinfo)
                    yield from evaluate.stale(sample.labels["dataset"], newest, check.settings.emergency, now)
        for run in runs:
            check = checks.get((run.dataset, run.check))
            if check is not None:
                yield from self._overdue(run, check, now)

    def _fires(self) -> dict[str, Sign]:
        return {key: found.sign for key, found in alarm.firing(self.memory.alarms).items()}

    def _overdue(self, run: Run, check: Check[Any], now: datetime) -> Iterator[Sign]:
        """Yield the sign of a check that is overdue: for a time in which nobody looked only if it was before, too."""
        began = min(self.memory.began or now, now)
        was = self.memory.alarms.get(f"{CHECK_OVERDUE}/{run.dataset}-{run.check}/")
        if was is not None and was.since is not None:
            since = run.succeeded_at or was.seen_since - timedelta(seconds=was.sign.threshold)
        else:
            since = max(run.succeeded_at or began, began)
        yield from evaluate.overdue(run.dataset, run.check, since, check.settings.every, now)

    def _checks(self) -> dict[tuple[str, str], Check[Any]]:
        return {(dataset, check.id): check for dataset, found in self.pipeline.checks.items() for check in found}

    def _firing(self, alarms: Mapping[str, Alarm], runs: Sequence[Run], now: datetime) -> Iterator[Firing]:
        """Yield what fires, the tiers of one severity taken together, with who is told."""
        quiet, failed = silences.current(self._store, now), {(run.dataset, run.check) for run in runs if run.error}
        grouped: dict[tuple[str, str, Severity], list[Alarm]] = {}
        for found in alarm.firing(alarms).values():
            grouped.setdefault((found.sign.alert, found.sign.name, found.sign.severity), []).append(found)
        for (_alert, name, severity), tiers in grouped.items():
            tiers.sort(key=lambda found: found.since or now)
            slo = self.pipeline.slos.get(name)
            hushed = silences.maintenance(self.pipeline.config.maintenance, name, now)
            hushed = next((f"silenced: {silence.reason}" for silence in quiet if silence.covers(name, now)), hushed)
            sign, channels = tiers[0].sign, self.channels(name, severity)
            cannot_run = (sign.dataset, sign.check) in failed
            share = sign.value if slo is not None and slo.kind is Kind.EVENTS and sign.alert != NO_DATA else None
            fires = Firing(sign, tiers[0].since or now, channels, hushed, cannot_run=cannot_run, share=share)
            burn = {one.name: one for one in slo.tiers} if slo is not None else {}
            if fires.sign.tier in burn:
                # Its windows hold what was bad upstream, as far back as they reach, until all short ones are clean.
                last = max(burn[found.sign.tier].short for found in tiers) + self.pipeline.config.notify.keep_firing
                fires = replace(fires, linger=max(incidents.EXPLAINED_FOR, last), reach=burn[fires.sign.tier].long)
            yield fires

    def _context(self, now: datetime) -> Context:
        slos = self.pipeline.slos
        spent, proofs = objectives.spent(self._store, slos, now), evidence.recent(self._store, now - evidence.FRESH)
        figures = Figures(
            slos,
            self._store.latest(),
            spent,
            self._tracks,
            now,
            self._checks(),
            proofs,
            partial(objectives.bad_since, self._store),
        )
        briefing = Briefing(figures, self.pipeline.config.notify, self._store.pipeline)

        def triage(problems: Sequence[Problem]) -> tuple[str, ...]:
            return brief(self._store, problems, now)

        return Context(self._store.pipeline, now, UPSTREAM, briefing, briefing.links, briefing.team, triage)


def _finished(points: Sequence[SloPoint], now: datetime) -> list[datetime]:
    """Return when runs finished: those that a clock dated ahead, by when the next ones had, whenever they are read.

    Args:
        points: In the order in which they were written.
        now: The moment.
    """
    latest, found = now, []
    for point in reversed(points):
        found.append(min(point.at, latest))
        # A gap is written after the runs that it lies before.
        if point.outcome is not Outcome.UNKNOWN:
            latest = found[-1]
    return found[::-1]


def saved(store: Store) -> Memory:
    """Return what the last evaluation has left: alarms and open incidents."""
    found = store.note(STATE)
    return _MEMORY.validate_python(found) if found else Memory()
