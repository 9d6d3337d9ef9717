"""What a person is told: one incident of one pipeline as it stands, and what just changed in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How loudly somebody is told."""

    PAGE = "page"
    TICKET = "ticket"


class State(StrEnum):
    """Whether something is wrong now, or was."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Link:
    """A place to look: a dashboard, a runbook, the evidence."""

    text: str
    url: str


@dataclass(frozen=True)
class Problem:
    """One objective that burns, or one direct rule that fires, within an incident.

    Args:
        name: Name of the objective, or of what a direct rule is about; unique in an incident.
        alert: Name of the alert, as in the rule pack, which is also that of its runbook.
        severity: Page or ticket.
        state: Firing, or resolved while the rest of the incident goes on.
        sentence: What is wrong, in one sentence with figures.
        since: When it began to fire.
        check: Id of the check behind it; empty for what is about the monitor itself.
        dataset: Which dataset.
        subject: Entity, feature or source that it is about; empty for a dataset as a whole.
        tier: Burn-rate tier; empty for direct rules.
        until: When it was resolved; None while it fires.
        value: The last value, as text with its unit; empty if there is none.
        limit: What the value was held against, as text with its unit.
        baseline: What is normal, as text; empty if nothing is known.
        objective: Share that must be good, from 0 to 1; None for direct rules.
        bad_ratio: Share that was bad over the tier's long window, from 0 to 1.
        burn_rate: How many times too fast the budget burns over the long window.
        budget_left_ratio: Share of the period's budget that is left; below 0 when overspent.
        budget_spent_ratio: Share of the period's budget that the incident has spent so far.
        contributors: Sources, features or causes that contribute most, each with its figure; at most 3.
        runbook_url: Address of the runbook; empty if no address is configured.
        began: When what it tells of began, which an alarm may take hours to tell; None if that is not known.
        is_watched: Whether anybody still looks; what is disabled while its alarm fires ends without being over.
        is_calm: Whether the last run was good, though the alarm still fires.
    """

    name: str
    alert: str
    severity: Severity
    state: State
    sentence: str
    since: datetime
    check: str = ""
    dataset: str = ""
    subject: str = ""
    tier: str = ""
    until: datetime | None = None
    value: str = ""
    limit: str = ""
    baseline: str = ""
    objective: float | None = None
    bad_ratio: float | None = None
    burn_rate: float | None = None
    budget_left_ratio: float | None = None
    budget_spent_ratio: float | None = None
    contributors: tuple[str, ...] = ()
    runbook_url: str = ""
    began: datetime | None = None
    is_watched: bool = True
    is_calm: bool = False

    @property
    def title(self) -> str:
        """Its name; of a direct rule, which has no tier, with that of the alert, since it shares the objective's."""
        return self.name if self.tier or not self.alert else f"{self.alert} of {self.name}"


@dataclass(frozen=True)
class Alert:
    """The message about an incident: all problems of one pipeline and severity that belong together.

    Args:
        key: Identity of the incident, the same in each of its messages: the dedup key.
        transition: Number of this message within the incident, from 1; (key, transition) is delivered once.
        state: Firing while any problem fires.
        severity: Page or ticket, the same throughout the incident.
        pipeline: Which pipeline.
        at: When this transition happened.
        started: When the incident began.
        problems: The worst first; resolved ones last.
        change: What this transition is about, in one sentence.
        ended: When the last problem was resolved; None before.
        team: Who owns it; empty if nobody is named.
        consequences: Alarms kept quiet because a problem here explains them, each with its reason.
        links: Where to look.
        is_test: Whether a person asked for it to try out a channel.
        triage: The most likely cause, its segment, and what deviated first, a line each; empty if nothing is known.
        is_aside: Whether nothing is new but what is kept quiet.
    """

    key: str
    transition: int
    state: State
    severity: Severity
    pipeline: str
    at: datetime
    started: datetime
    problems: tuple[Problem, ...]
    change: str
    ended: datetime | None = None
    team: str = ""
    consequences: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    is_test: bool = False
    triage: tuple[str, ...] = ()
    is_aside: bool = False

    @property
    def title(self) -> str:
        """The incident in a line, without a mark for its state: ``shop: freshness of events, and 2 more``."""
        named = [problem for problem in self.problems if problem.state is State.FIRING] or list(self.problems)
        if not named:
            return self.pipeline
        first = named[0]
        about = first.check.replace("_", " ") or first.name
        what = f"{about} of {first.dataset}" if first.dataset else about
        of = f" ({first.subject})" if first.subject else ""
        more = f", and {len(named) - 1} more" if len(named) > 1 else ""
        return f"{self.pipeline}: {what}{of}{more}"

    @property
    def is_watched(self) -> bool:
        """Whether anybody still looks at any of its problems."""
        return not self.problems or any(problem.is_watched for problem in self.problems)

    @property
    def began(self) -> datetime:
        """When the trouble began, as far as that is known, at the latest when its first alarm fired."""
        return min((problem.began or problem.since for problem in self.problems), default=self.started)

    @property
    def duration(self) -> timedelta:
        """How long the incident has lasted, or lasted."""
        return (self.ended or self.at) - self.started


@dataclass(frozen=True)
class Change:
    """Something that was done on purpose, such as a deploy; it explains alarms and is none itself."""

    summary: str
    at: datetime
    pipeline: str
    source: str = ""
    links: tuple[Link, ...] = ()


def dump_alert(alert: Alert) -> str:
    """Return an alert as JSON; ``load_alert`` is its inverse."""
    return json.dumps(asdict(alert), default=datetime.isoformat, ensure_ascii=False)


def load_alert(text: str) -> Alert:
    """Return the alert that ``dump_alert`` wrote."""
    found = _known(Alert, json.loads(text))
    return Alert(
        **{
            **found,
            "state": State(found["state"]),
            "severity": Severity(found["severity"]),
            "at": _moment(found["at"]),
            "started": _moment(found["started"]),
            "ended": _moment(found["ended"]),
            "problems": tuple(_load_problem(problem) for problem in found["problems"]),
            "consequences": tuple(found["consequences"]),
            "links": tuple(Link(**_known(Link, link)) for link in found["links"]),
            # Messages of before there was any have none.
            "triage": tuple(found.get("triage", ())),
        }
    )


def _load_problem(told: dict[str, Any]) -> Problem:
    found = _known(Problem, told)
    return Problem(
        **{
            **found,
            "severity": Severity(found["severity"]),
            "state": State(found["state"]),
            "since": _moment(found["since"]),
            "until": _moment(found["until"]),
            # Messages of before there was any have none.
            "began": _moment(found.get("began")),
            "contributors": tuple(found["contributors"]),
        }
    )


def _known(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows: of two daemons on one state, a newer one may have written more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def _moment(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)
