"""What the status page shows beside the checks: budgets of objectives, incidents and what was sent, timelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alerts import alarms, runbook
from alerts.evaluate import NO_DATA
from alerts.message import State as Told
from alerts.slo import Slo
from alerts.wording import together
from checks.check import Outcome
from checks.window import Window
from monitor import alerting, evidence, objectives, outbox, rollups
from monitor.budget import BudgetStatus, budget_statuses
from monitor.objectives import Latest, Spent
from monitor.outbox import Sent
from monitor.rollups import DAY, HOUR, NONE, Counts
from monitor.status import State, Status, Watched, status, with_evidence
from monitor.store import Store

# Messages of so long ago, and so many at most, are listed.
RECENT, MOST_MESSAGES = timedelta(days=7), 200


@dataclass(frozen=True)
class Span:
    """How far back a page looks.

    Args:
        name: As in the address.
        words: For a person.
        length: How long it is.
        step: What a cell of a timeline stands for.
        bucket: The rollups that it is made of: hours or days.
        cell: What a point of a chart stands for, where it is made of verdicts; None where of rollups.
    """

    name: str
    words: str
    length: timedelta
    step: timedelta
    bucket: timedelta
    cell: timedelta | None = None

    def window(self, now: datetime) -> Window:
        """Return the span in whole steps, the present one included."""
        last = rollups.floor(now, self.step)
        return Window(last - self.length + self.step, last + self.step)


SPANS = (
    Span("24h", "24 hours", timedelta(hours=24), HOUR, HOUR, timedelta(minutes=15)),
    Span("7d", "7 days", timedelta(days=7), 6 * HOUR, HOUR),
    Span("90d", "90 days", timedelta(days=90), DAY, DAY),
)
# The page of one check also looks at what has just happened.
LAST_HOUR = Span("1h", "1 hour", HOUR, timedelta(minutes=1), HOUR, timedelta(minutes=1))


def span_named(name: str) -> Span:
    """Return the span of a name; a day for a name that nothing has."""
    return next((span for span in (*SPANS, LAST_HOUR) if span.name == name), SPANS[0])


@dataclass(frozen=True)
class Timeline:
    """How a check fared over time.

    Args:
        span: What the cells cover together.
        step: What each stands for.
        cells: How the verdicts of each step ended, oldest first.
    """

    span: Window
    step: timedelta
    cells: tuple[Counts, ...]


def timelines(
    store: Store, now: datetime, span: Span, about: tuple[str, str] | None = None
) -> dict[tuple[str, str], Timeline]:
    """Return the timeline of one check, or of each that has run; none where a step is less than an hour."""
    if span.step < span.bucket:
        return {}
    window, found = span.window(now), {}
    steps = range(window.duration // span.step)
    for key, counted in rollups.cells(store, window, span.bucket, span.step, about).items():
        found[key] = Timeline(window, span.step, tuple(counted.get(step, NONE) for step in steps))
    return found


@dataclass(frozen=True)
class ObjectiveStatus:
    """One objective as it stands.

    Args:
        name: Its name.
        dataset: Which dataset.
        check: Which check.
        state: Good, bad while an alert about it fires, unknown without data, waiting before its first run.
        objective: Share that must be good.
        kind: ``events`` or ``slices``.
        period_seconds: Over which the budget is reckoned.
        attained_ratio: Share that was good over the period; None without any.
        budget_left_ratio: Share of the budget that is left, below 0 when overspent; None without data.
        burns: How many times too fast the budget burns, by lengths in seconds; empty where nobody evaluates it here.
        firing: Tiers, or names of direct rules, that fire.
        alerts_from: By lengths in seconds when a tier that long can begin to fire: not before half of it was watched.
    """

    name: str
    dataset: str
    check: str
    state: State
    objective: float
    kind: str
    period_seconds: float
    attained_ratio: float | None
    budget_left_ratio: float | None
    burns: Mapping[int, float]
    firing: tuple[str, ...]
    alerts_from: Mapping[int, datetime]


def objectives_now(store: Store, watched: Watched, now: datetime) -> tuple[ObjectiveStatus, ...]:
    """Return every objective of a check that runs, those that fire first, then by the budget that is left.

    Cost:
        Three reads of the state.
    """
    runs = {(dataset, kind.id) for dataset, kind, check in watched.every() if check is not None}
    slos = {slo.name: slo for slo in watched.slos.values() if (slo.dataset, slo.check) in runs}
    latest, spent, memory = objectives.latest(store), objectives.spent(store, slos, now), alerting.saved(store)
    fires: dict[str, list[str]] = {}
    for alarm in alarms.firing(memory.alarms).values():
        fires.setdefault(alarm.sign.name, []).append(alarm.sign.tier or alarm.sign.alert)
    found = [
        _objective(slo, latest.get(name), spent[name], fires.get(name, ()), memory.burns.get(name, {}), now)
        for name, slo in slos.items()
    ]
    urgency = {State.BAD: 0, State.UNKNOWN: 1, State.WAITING: 3}
    left = {one.name: 1.0 if one.budget_left_ratio is None else one.budget_left_ratio for one in found}
    return tuple(sorted(found, key=lambda one: (urgency.get(one.state, 2), left[one.name])))


def _objective(
    slo: Slo, latest: Latest | None, spent: Spent, fires: tuple[str, ...] | list[str], burns: Mapping[int, float],
    now: datetime,
) -> ObjectiveStatus:  # fmt: skip
    state = State.GOOD
    if latest is None:
        state = State.WAITING
    elif any(name != NO_DATA for name in fires):
        state = State.BAD
    elif fires or latest.outcome is Outcome.UNKNOWN:
        state = State.UNKNOWN
    since = latest.since if latest is not None else now
    able = {int(tier.long.total_seconds()): since + tier.long / 2 for tier in slo.active}
    return ObjectiveStatus(
        slo.name, slo.dataset, slo.check, state, slo.objective, slo.kind.value, slo.period.total_seconds(),
        spent.attained_ratio(), spent.budget_left_ratio(slo, now), dict(sorted(burns.items())), tuple(fires),
        {length: at for length, at in sorted(able.items()) if at > now},
    )  # fmt: skip


@dataclass(frozen=True)
class Delivered:
    """What became of a message at one channel: its state, and the last error if there was one."""

    channel: str
    state: str
    error: str


@dataclass(frozen=True)
class Message:
    """A message about an incident."""

    at: datetime
    change: str
    channels: tuple[Delivered, ...]


@dataclass(frozen=True)
class IncidentStatus:
    """An incident as its last message tells of it.

    Args:
        key: Its identity.
        title: What is wrong, in a line.
        severity: Page or ticket.
        is_open: Whether it goes on.
        is_watched: Whether anybody still looks; what was disabled ended without being over.
        started: When it began.
        ended: When it ended; None while it goes on.
        sentence: What is wrong, with figures.
        triage: The most likely cause, its segment, and what deviated first.
        consequences: What was kept quiet.
        messages: Newest first.
        told_at: When the last of them was made, whose figures these are.
        runbook: Name of the runbook; empty where there is none.
    """

    key: str
    title: str
    severity: str
    is_open: bool
    is_watched: bool
    started: datetime
    ended: datetime | None
    sentence: str
    triage: tuple[str, ...]
    consequences: tuple[str, ...]
    messages: tuple[Message, ...]
    told_at: datetime
    runbook: str


def incidents_lately(store: Store, now: datetime) -> tuple[IncidentStatus, ...]:
    """Return the incidents of the last seven days and all that are open, these first, then the newest first."""
    grouped: dict[str, list[Sent]] = {}
    still_open = [incident.key for incident in alerting.saved(store).board.incidents]
    for sent in outbox.history(store, now - RECENT, MOST_MESSAGES, still_open):
        if not sent.alert.is_test:
            grouped.setdefault(sent.alert.key, []).append(sent)
    found = [_incident(messages) for messages in grouped.values()]
    return tuple(sorted(found, key=lambda one: (one.is_open, one.started), reverse=True))


def _incident(messages: list[Sent]) -> IncidentStatus:
    last = messages[0].alert
    alert = last.problems[0].alert.lower() if last.problems else ""
    return IncidentStatus(
        last.key, last.title.removeprefix(f"{last.pipeline}: "), last.severity.value, last.state is Told.FIRING,
        last.is_watched, last.began, last.ended, last.problems[0].sentence if last.problems else "", last.triage,
        tuple(together(last.consequences)),
        tuple(Message(sent.alert.at, sent.alert.change, tuple(_delivered(sent))) for sent in messages),
        last.at, alert if alert in runbook.names() else "",
    )  # fmt: skip


@dataclass(frozen=True)
class Overview:
    """All that the status page shows."""

    status: Status
    objectives: tuple[ObjectiveStatus, ...]
    incidents: tuple[IncidentStatus, ...]
    span: Span
    timelines: Mapping[tuple[str, str], Timeline]
    budgets: tuple[BudgetStatus, ...] = ()


def overview(store: Store, watched: Watched, now: datetime, stopped: str | None, span: Span) -> Overview:
    """Return a pipeline as it stands, and how it got there.

    Args:
        store: The state.
        watched: What is watched.
        now: The present.
        stopped: Why the schedule stands still; None while it moves.
        span: How far back the timelines reach.

    Raises:
        StateError: The state cannot be read.
    """
    found = with_evidence(status(store, watched, now, stopped), evidence.recent(store, now - evidence.FRESH))
    budgets = budget_statuses(store, watched.config, now)
    found = replace(found, problems=(*found.problems, *used_up(budgets)))
    return Overview(
        found, objectives_now(store, watched, now), incidents_lately(store, now), span, timelines(store, now, span),
        budgets,
    )  # fmt: skip


def used_up(budgets: Iterable[BudgetStatus]) -> Iterator[str]:
    """Yield a sentence for each budget that leaves checks waiting."""
    for budget in budgets:
        if budget.remaining_ratio == 0:
            yield (
                f"the scan budget of engine {budget.engine} is used up ({budget.spent_seconds:,.0f} s of"
                f" {budget.seconds_per_hour:,.0f} s an hour): checks are deferred until {budget.renews_at:%H:%M} UTC"
            )


def _delivered(sent: Sent) -> Iterator[Delivered]:
    for channel, state in sent.channels.items():
        yield Delivered(channel, state, sent.errors.get(channel, ""))
