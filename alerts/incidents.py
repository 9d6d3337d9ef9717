"""Incidents: alarms that belong together, from the first that fires to the last that ends.

Alarms of one pipeline and severity are one incident. What a firing alarm upstream explains is told
with it and wakes nobody. A step is pure: state in, state and messages out; what it returns is kept
in one transaction with the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from alerts.evaluate import BURN, CHECK_OVERDUE, FRESHNESS_EMERGENCY, INGESTION_DOWN, NO_DATA, Sign
from alerts.message import Alert, Link, Problem, Severity, State
from alerts.wording import together

# An alarm joins the incident of its pipeline if that is young; nobody looks at the thread of an old one.
JOINS_WITHIN = timedelta(hours=1)
# What has just been explained stays explained for a while: its windows still hold the same bad data.
EXPLAINED_FOR = timedelta(minutes=10)
# Alerts that say that data is wrong, and so may explain others; the rest say that nothing is known.
CAUSES = (BURN, FRESHNESS_EMERGENCY, INGESTION_DOWN)
# Check to the checks whose alarms explain its own, in the order of ``monitor.causes.RULES``, or what hushes an alarm
# would not be what is named as its cause. Without circles, or two alarms would hush each other.
UPSTREAM: Mapping[str, tuple[str, ...]] = {
    # What stands still does not land, and what breaks the contract has not landed well.
    "ingestion": ("freshness", "contract"),
    "unknown_ids": ("freshness", "contract"),
    "duplicates": ("freshness", "contract"),
    "density": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    "feature_drift": ("freshness", "contract", "duplicates", "ingestion"),
    "popularity": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    # What makes items popular reaches both cohorts; it explains no difference between them.
    "feedback_loop": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    "click_through": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    # Without new rows a value that is derived from them tells nothing new.
    "signal": ("freshness", "ingestion"),
}
# Where these alarm there may be no rows, and so nothing for any check to judge.
FEED = ("freshness", "ingestion")


@dataclass(frozen=True)
class Firing:
    """All tiers of one alert of one objective and severity that fire.

    Args:
        sign: Of the tier that says most: the first to fire.
        since: When the first of them began.
        channels: Who is told, by names of channels.
        hushed: Why nobody is told (a silence, a maintenance window); empty otherwise.
        linger: How long it stays explained after what explained it has ended, and how long before it rings what it
            explains may have rung: the length of a short window and more.
        reach: How long before it a cause may have begun; one that fires for weeks explains nothing new.
        share: Share of events that are bad, from 0 to 1; None for what does not count events.
        cannot_run: Whether its check could not run at last; bad data is no reason for that.
    """

    sign: Sign
    since: datetime
    channels: tuple[str, ...] = ()
    hushed: str = ""
    linger: timedelta = EXPLAINED_FOR
    reach: timedelta = timedelta(days=1)
    share: float | None = None
    cannot_run: bool = False

    @property
    def key(self) -> str:
        """Identity within a pipeline: alert, name and severity."""
        return f"{self.sign.alert}/{self.sign.name}/{self.sign.severity}"


@dataclass(frozen=True)
class Member:
    """An alarm that somebody was told of, within its incident."""

    found: Firing
    problem: Problem
    until: datetime | None = None


@dataclass(frozen=True)
class Incident:
    """An incident as it stands; ``members`` by their key, in the order in which they joined."""

    key: str
    severity: Severity
    channels: tuple[str, ...]
    started: datetime
    number: int = 0
    members: Mapping[str, Member] = field(default_factory=dict)
    consequences: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether any of its alarms still fires."""
        return any(member.until is None for member in self.members.values())


@dataclass(frozen=True)
class Explained:
    """Why an alarm wakes nobody: the alarm that explains it, until when at least, and in words."""

    by: str
    until: datetime
    text: str


@dataclass(frozen=True)
class Board:
    """All that has to be remembered from one step to the next.

    Args:
        incidents: Open ones, oldest first.
        explained: The alarms that are explained, by their key.
    """

    incidents: tuple[Incident, ...] = ()
    explained: Mapping[str, Explained] = field(default_factory=dict)


class Describe(Protocol):
    """Puts a firing alarm into words and figures, as of now."""

    def __call__(self, found: Firing, state: State, since: datetime, until: datetime | None) -> Problem:
        """Return the problem that a message tells of."""


@dataclass(frozen=True)
class Context:
    """What a step needs to know besides the alarms.

    Args:
        pipeline: Which pipeline.
        now: The moment of this step.
        upstream: For each check, the checks whose alarms explain its own.
        describe: Puts an alarm into words.
        links: Returns where to look, for the problems of an incident.
        team: Returns who owns an objective, by its name.
        triage: Returns what has most likely caused some problems, a line for each thing to say.
    """

    pipeline: str
    now: datetime
    upstream: Mapping[str, tuple[str, ...]]
    describe: Describe
    links: Callable[[Iterable[Problem]], tuple[Link, ...]] = lambda _problems: ()
    team: Callable[[str], str] = lambda _name: ""
    triage: Callable[[Sequence[Problem]], tuple[str, ...]] = lambda _problems: ()


def explanation(
    found: Firing, others: Iterable[Firing], upstream: Mapping[str, tuple[str, ...]]
) -> tuple[Firing, str] | None:
    """Return the alarm that explains another, with a reason to list it by; None if there is none.

    A louder alarm about the same makes the other one needless, which is not worth a word unless that one says
    that nothing is known any more.
    """
    causes = upstream.get(found.sign.check, ())
    others = [other for other in others if other.sign.dataset == found.sign.dataset and other.key != found.key]
    for other in others:
        if other.sign.name == found.sign.name and _is_louder(other.sign, found.sign):
            is_blind = found.sign.alert == NO_DATA
            return other, f"{_what(found)}, as its check cannot judge any more" if is_blind else ""
        is_same = other.sign.check == found.sign.check
        if is_same and (other.sign.alert, found.sign.alert) == (CHECK_OVERDUE, NO_DATA):
            return other, ""
    # Bad data is no reason for a check not to run.
    if found.sign.alert == CHECK_OVERDUE or (found.sign.alert == NO_DATA and found.cannot_run):
        return None
    if found.sign.alert == NO_DATA:
        causes = (*causes, *FEED)
    for other in others:
        # A feed without rows has nothing to judge, for as long as that lasts.
        is_near = -other.linger <= found.since - other.since <= found.reach or found.sign.alert == NO_DATA
        if other.sign.check in causes and other.sign.alert in CAUSES and _may_hush(other, found) and is_near:
            page = "page of " if found.sign.severity is Severity.PAGE else ""
            return other, f"{page}{_what(found)}, which {other.sign.check} explains"
    return None


def _may_hush(cause: Firing, found: Firing) -> bool:
    """Return whether an alarm is no less bad than one that it may explain."""
    if found.sign.severity is Severity.TICKET:
        return True
    # The same rows look fewer in a longer window.
    is_lesser = cause.share is not None and found.share is not None and 2 * cause.share < found.share
    return cause.sign.severity is Severity.PAGE and not is_lesser


def _is_louder(sign: Sign, other: Sign) -> bool:
    """Return whether one of two alarms about the same objective makes the other one needless."""
    if sign.severity is not other.severity:
        return sign.severity is Severity.PAGE
    # Of two of the same severity the direct rule says more than the burn rate.
    return sign.alert != BURN and other.alert == BURN


def step(board: Board, firing: Iterable[Firing], context: Context) -> tuple[Board, list[tuple[Incident, Alert]]]:
    """Return the board after one evaluation, and the messages that it gives rise to, each with its incident."""
    alarms = {found.key: found for found in firing}
    told = {key for incident in board.incidents for key, member in incident.members.items() if member.until is None}
    explained = _explained(board, alarms, told, context)
    changes: dict[str, list[str]] = {}
    incidents = {incident.key: _ended(incident, alarms, context, changes) for incident in board.incidents}
    fresh = [found for key, found in alarms.items() if key not in {*told, *explained} and not found.hushed]
    for found in sorted(fresh, key=lambda found: (found.since, found.key)):
        incident = _joined(list(incidents.values()), found, context)
        changes.setdefault(incident.key, []).append(f"{_what(found)} fires{', too' if incident.members else ''}")
        member = Member(found, context.describe(found, State.FIRING, found.since, None))
        incidents[incident.key] = replace(incident, members={**incident.members, found.key: member})
    quiet = [why for key, why in explained.items() if key in alarms and key not in told and why.text]
    messages = []
    for key in incidents:
        is_aside = key not in changes
        incident = incidents[key] = _with_consequences(incidents[key], quiet, changes)
        if key in changes:
            incident = incidents[key] = replace(incident, number=incident.number + 1)
            alert = _alert(incident, alarms, context, changes[key])
            messages.append((incident, replace(alert, is_aside=is_aside)))
    still = tuple(incident for incident in incidents.values() if incident.is_open)
    return Board(still, explained), messages


def _what(found: Firing) -> str:
    return found.sign.name if found.sign.alert == BURN else f"{found.sign.alert} of {found.sign.name}"


def _explained(
    board: Board, alarms: Mapping[str, Firing], told: Collection[str], context: Context
) -> dict[str, Explained]:
    """Return which alarms are explained now, until when at least, and by what."""
    found = {}
    for key, earlier in board.explained.items():
        # No longer than from now on, even if the clock ran ahead when it was explained.
        until = min(earlier.until, context.now + alarms[key].linger) if key in alarms else earlier.until
        if until > context.now:
            found[key] = replace(earlier, until=until)
    before = dict(found)
    # What nobody was told of explains nothing to anybody; what was told and is silenced since still does.
    known = [alarm for key, alarm in alarms.items() if key in told or not alarm.hushed]
    for key, alarm in alarms.items():
        why = explanation(alarm, known, context.upstream)
        # What a louder alarm about the same has made needless stays needless when that one ends.
        is_needless = key in found and not found[key].text
        if why is not None and not (is_needless and why[1]):
            found[key] = Explained(why[0].key, context.now + alarm.linger, why[1])
    explained = {key: replace(why, by=_root(why.by, found, told)) for key, why in found.items()}
    # No page is hushed anew by what is over, and only kept quiet for a while itself.
    heard = {alarm.key for alarm in known if alarm.key in told or alarm.key not in explained}
    pages = {key for key, alarm in alarms.items() if alarm.sign.severity is Severity.PAGE}
    lost = {key for key in pages & explained.keys() if explained[key].by not in heard}
    return {key: why for key, why in explained.items() if key not in lost} | {
        key: before[key] for key in lost if key in before
    }


def _root(key: str, explained: Mapping[str, Explained], told: Collection[str]) -> str:
    """Return the alarm that stands behind one that may be explained itself: one that people are told of."""
    passed = {key}
    while key not in told and key in explained and (key := explained[key].by) not in passed:
        passed.add(key)
    return key


def _ended(
    incident: Incident, alarms: Mapping[str, Firing], context: Context, changes: dict[str, list[str]]
) -> Incident:
    """Return an incident with those members resolved whose alarms have ended, and the others as they are now."""
    members = dict(incident.members)
    for key, member in incident.members.items():
        if member.until is not None:
            continue
        if key in alarms:
            # An end is told with the figures of shortly before it, not with those of the first minute.
            members[key] = replace(member, found=replace(alarms[key], since=member.found.since))
        else:
            problem = _told(member, member.found, context, context.now)
            members[key] = Member(member.found, problem, context.now)
            how = "resolved" if problem.is_watched else "not watched any more"
            changes.setdefault(incident.key, []).append(f"{_what(member.found)} is {how}")
    return replace(incident, members=members)


def _told(member: Member, found: Firing, context: Context, until: datetime | None = None) -> Problem:
    """Return a member's problem as it is now, or was; of when it began nothing is forgotten."""
    state = State.FIRING if until is None else State.RESOLVED
    problem = context.describe(found, state, member.found.since, until)
    return replace(problem, began=member.problem.began or problem.began)


def _joined(incidents: list[Incident], found: Firing, context: Context) -> Incident:
    """Return the incident that an alarm belongs to, an open one or a new one."""
    for incident in incidents:
        same = (incident.severity, incident.channels) == (found.sign.severity, found.channels)
        if same and incident.is_open and context.now - incident.started < JOINS_WITHIN:
            return incident
    key = f"recwatch/{context.pipeline}/{found.sign.name}/{found.sign.severity}/{context.now:%Y%m%dT%H%M%SZ}"
    return Incident(key, found.sign.severity, found.channels, context.now)


def _with_consequences(incident: Incident, quiet: Iterable[Explained], changes: dict[str, list[str]]) -> Incident:
    """Return an incident with the alarms that its own explain."""
    mine = {key for key, member in incident.members.items() if member.until is None}
    new = {why.text for why in quiet if why.by in mine} - set(incident.consequences)
    if new:
        changes.setdefault(incident.key, []).append(f"kept quiet: {'; '.join(together(sorted(new)))}")
    return replace(incident, consequences=(*incident.consequences, *sorted(new)))


def _alert(incident: Incident, alarms: Mapping[str, Firing], context: Context, changes: Iterable[str]) -> Alert:
    problems = []
    for key, member in incident.members.items():
        if member.until is None:
            problems.append(_told(member, alarms[key], context))
        else:
            problems.append(member.problem)
    problems.sort(key=lambda problem: (problem.state is State.RESOLVED, problem.since))
    ended = None if incident.is_open else context.now
    # What was silenced at first began before anybody was told.
    started = min(incident.started, *(problem.since for problem in problems))
    teams = [context.team(problem.name) for problem in problems]
    return Alert(
        incident.key, incident.number, State.RESOLVED if ended else State.FIRING, incident.severity,
        context.pipeline, context.now, started, tuple(problems), "; ".join(changes),
        ended=ended, team=next((team for team in teams if team), ""), consequences=incident.consequences,
        links=context.links(problems), triage=context.triage(problems),
    )  # fmt: skip
