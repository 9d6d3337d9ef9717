"""The state of every check as plain values: what the status page shows and ``/api/status`` answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from importlib import metadata
from typing import Any, NamedTuple

from alerts.slo import Slo
from checks import CATALOGUE
from checks.check import Check, Outcome, Verdict
from checks.feature_drift import FeatureDrift
from monitor.causes import strain
from monitor.config import Config
from monitor.records import Point, Run, SavedBaseline, dump
from monitor.runner import Disabled, worst
from monitor.store import Store
from monitor.wording import span_text

VERSION = metadata.version("recwatch")
HISTORY_POINTS = 60
# Subjects that are shown openly for each check, and those that are listed when asked for.
MOST_SHOWN = 6
MOST_LISTED = 30
# How far a run may be late before its last verdict is no longer trusted.
LATE_RUNS = 2
LATE_ANYWAY = timedelta(seconds=60)
# Passwords of URLs, user names that stand alone (often a token), options with a secret, and addresses of webhooks.
_SECRETS = re.compile(
    r"(://[^:/@\s]*:)[^@\s]+(?=@)|(://)[^:/@\s]+(?=:?@)"
    r"|([?&][\w.-]*(?:(?:pass|pwd|secret|token|key)[\w.-]*|sig(?:nature)?)=)[^&\s\"')]+"
    r"|(://hooks\.slack\.com/|/services/(?=T\w+/B\w+/)|://[^\s\"']*/webhooks?/)[^\s\"')]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Watched:
    """The configuration in force, its checks, and how it was last read.

    Args:
        config: The configuration in force.
        checks: The checks of each watched dataset that are switched on.
        disabled: Those of them that cannot run, since a role is missing.
        read_at: When this configuration was read.
        read_problem: Why a newer configuration was refused; None if the newest is in force.
        slos: The objectives by name.
        is_leader: Whether this daemon runs the checks, not another one on the same state.
    """

    config: Config
    checks: Mapping[str, Sequence[Check[Any]]]
    disabled: Mapping[tuple[str, str], Disabled]
    read_at: datetime
    read_problem: str | None = None
    slos: Mapping[str, Slo] = field(default_factory=dict)
    is_leader: bool = True
    version: str = VERSION

    def every(self) -> Iterator[tuple[str, type[Check[Any]], Check[Any] | None]]:
        """Yield each dataset with each check of the catalogue that is for it, and the check where it can run."""
        for dataset, checks in self.checks.items():
            enabled = {check.id: check for check in checks}
            for kind in CATALOGUE:
                if not self.config.asks_for(dataset, kind.id, kind.settings_type):
                    continue
                runs = (dataset, kind.id) not in self.disabled
                yield dataset, kind, enabled.get(kind.id) if runs else None

    def why_not(self, dataset: str, check: str) -> str | None:
        """Return why a check does not run on a dataset; None if it does."""
        found = self.disabled.get((dataset, check))
        if found is not None:
            return found.reason
        if all(enabled.id != check for enabled in self.checks[dataset]):
            return "switched off in the configuration"
        return None


class State(StrEnum):
    """What a check is in: one of its outcomes, or why it has no outcome that counts."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    ERROR = "error"
    OVERDUE = "overdue"
    WAITING = "waiting"
    DISABLED = "disabled"


URGENCY = (State.BAD, State.ERROR, State.OVERDUE, State.UNKNOWN, State.WAITING, State.GOOD)


@dataclass(frozen=True)
class Subject:
    """What a check says about the dataset as a whole, or about one entity, feature, part or source."""

    kind: str
    name: str
    state: State
    measure: str
    value: float | None
    limit: float | None
    band: tuple[float, float] | None
    limit_origin: str
    reason: str
    trend: tuple[Point, ...] = ()
    evidence: str = ""
    # How the limit is said: "at most", or "at least" where less is bad.
    bound: str = "at most"


@dataclass(frozen=True)
class CheckStatus:
    """One check on one dataset."""

    dataset: str
    check: str
    state: State
    says: str
    subjects: tuple[Subject, ...] = ()
    listed: tuple[Subject, ...] = ()
    unlisted: int = 0
    window: tuple[datetime, datetime] | None = None
    every_seconds: float | None = None
    finished_at: datetime | None = None
    succeeded_at: datetime | None = None
    duration_seconds: float | None = None
    error: str | None = None
    has_reference: bool = False
    reference: tuple[datetime, datetime] | None = None
    reference_built_at: datetime | None = None
    reference_pinned: bool = False


@dataclass(frozen=True)
class Status:
    """The whole pipeline at one moment."""

    pipeline: str
    version: str
    now: datetime
    state: State
    sentence: str
    counts: Mapping[State, int]
    computed_at: datetime | None
    problems: tuple[str, ...]
    datasets: Mapping[str, tuple[CheckStatus, ...]]


def status(
    store: Store, watched: Watched, now: datetime, stopped: str | None = None, *, with_trends: bool = True
) -> Status:
    """Return the state of every check of a pipeline, in the order of the catalogue.

    Args:
        store: Where runs, verdicts and baselines are.
        watched: What is watched.
        now: The present; ages and lateness are taken against it.
        stopped: Why the schedule stands still; None while it moves.
        with_trends: Whether subjects get their history.

    Raises:
        StateError: The store cannot be read.

    Cost:
        Four reads, and one short read of history for each subject shown.
    """
    runs = {(run.dataset, run.check): run for run in store.runs()}
    baselines = {(saved.dataset, saved.check): saved for saved in store.saved_baselines()}
    verdicts: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in store.latest():
        verdicts.setdefault((verdict.dataset, verdict.check), []).append(verdict)
    running = {(dataset, kind.id) for dataset, kind, check in watched.every() if check is not None}
    parts = {key: _parts(found) for key, found in verdicts.items() if key in running and key in runs}
    drawn = [verdict for part in parts.values() for verdict in part.shown if verdict.is_whole]
    histories = store.histories(drawn, HISTORY_POINTS) if with_trends else [()] * len(drawn)
    trends = {id(verdict): points for verdict, points in zip(drawn, histories, strict=True)}
    datasets: dict[str, list[CheckStatus]] = {dataset: [] for dataset in watched.checks}
    for dataset, kind, check in watched.every():
        key = (dataset, kind.id)
        if check is None:
            found = CheckStatus(dataset, kind.id, State.DISABLED, watched.why_not(*key) or "")
        elif key not in parts:
            says = f"has not run yet, every {span_text(_every(check))}"
            found = CheckStatus(dataset, kind.id, State.WAITING, says, every_seconds=_every(check))
        else:
            late_from = max(runs[key].finished_at, watched.read_at) + LATE_RUNS * check.settings.every + LATE_ANYWAY
            found = _of_check(check, runs[key], parts[key], trends, is_late=now > late_from)
        datasets[dataset].append(_with_reference(found, kind, baselines.get(key)))
    return _whole(watched, now, {name: tuple(found) for name, found in datasets.items()}, stopped)


def with_evidence(found: Status, proofs: Mapping[tuple[str, str, str], str]) -> Status:
    """Return a status whose bad subjects name their newest evidence.

    Args:
        found: The status.
        proofs: Ids of evidence by dataset, check, and subject as words.
    """

    def proven(check: CheckStatus) -> CheckStatus:
        subjects = (
            replace(
                one, evidence=proofs.get((check.dataset, check.check, one.name), "") if one.state is State.BAD else ""
            )
            for one in check.subjects
        )
        return replace(check, subjects=tuple(subjects))

    return replace(
        found, datasets={name: tuple(proven(check) for check in checks) for name, checks in found.datasets.items()}
    )


def _every(check: Check[Any]) -> float:
    return float(check.settings.every.total_seconds())


class _Subjects(NamedTuple):
    """What a check said last: the verdicts shown openly, the others, and the worst of all."""

    shown: Sequence[Verdict]
    rest: Sequence[Verdict]
    worst: State


def _parts(verdicts: Sequence[Verdict]) -> _Subjects:
    """Return the verdicts that are shown openly, and the rest: sources that nothing is wrong with."""
    shown: list[Verdict] = []
    rest: list[Verdict] = []
    for verdict in sorted(verdicts, key=_worst_first):
        is_open = verdict.is_whole or verdict.outcome in (Outcome.BAD, Outcome.ERROR)
        (shown if is_open and len(shown) < MOST_SHOWN else rest).append(verdict)
    return _Subjects(shown, rest, State(worst(verdicts)))


def _of_check(
    check: Check[Any], run: Run, found: _Subjects, trends: Mapping[int, tuple[Point, ...]], *, is_late: bool
) -> CheckStatus:
    window = found.shown[0].window
    return CheckStatus(
        run.dataset,
        run.check,
        State.OVERDUE if is_late and found.worst is not State.BAD else found.worst,
        "overdue, so this is old" if is_late else "",
        tuple(_subject(verdict, trends.get(id(verdict), ())) for verdict in found.shown),
        tuple(_subject(verdict) for verdict in found.rest[:MOST_LISTED]),
        max(0, len(found.rest) - MOST_LISTED),
        (window.start, window.end),
        _every(check),
        run.finished_at,
        run.succeeded_at,
        run.duration_seconds,
        None if run.error is None else without_secrets(run.error),
    )


def _worst_first(verdict: Verdict) -> tuple[bool, int, float, str]:
    """Return what sorts the dataset itself first, then its parts before its sources, each worst first."""
    urgency = URGENCY.index(State(verdict.outcome)) if verdict.subject else -1
    is_bad = verdict.outcome is Outcome.BAD
    times = strain(verdict) if is_bad else (verdict.value or 0.0) / (verdict.limit or 1.0)
    return not verdict.is_whole, urgency, -times, dump(verdict.subject)


def _subject(verdict: Verdict, trend: tuple[Point, ...] = ()) -> Subject:
    kind, name = next(reversed(verdict.subject.items()), ("", ""))
    if kind == "feature" and verdict.check != FeatureDrift.id:
        # Such as contract's schema: no feature of the data.
        kind = "part"
    low, high = verdict.details.get("low"), verdict.details.get("high")
    return Subject(
        kind,
        " ".join(verdict.subject.values()) if len(verdict.subject) > 1 else name,
        State(verdict.outcome),
        verdict.measure,
        verdict.value,
        verdict.limit,
        (low, high) if low is not None and high is not None else None,
        str(verdict.details.get("limit_origin", "")),
        without_secrets(verdict.reason),
        trend,
        bound=str(verdict.details.get("bound", "at most")),
    )


def _with_reference(found: CheckStatus, kind: type[Check[Any]], saved: SavedBaseline | None) -> CheckStatus:
    if not kind.has_reference:
        return found
    if saved is None:
        return replace(found, has_reference=True)
    span = (saved.window.start, saved.window.end)
    return replace(
        found, has_reference=True, reference=span, reference_built_at=saved.built_at, reference_pinned=saved.pinned
    )


def _whole(
    watched: Watched, now: datetime, datasets: Mapping[str, tuple[CheckStatus, ...]], stopped: str | None
) -> Status:
    found = [check for checks in datasets.values() for check in checks]
    finished = [check.finished_at for check in found if check.finished_at is not None]
    problems = []
    if watched.read_problem is not None:
        wrong = without_secrets(watched.read_problem)
        problems.append(f"the configuration file is wrong, and the one read before stays in force: {wrong}")
    state, sentence = summary(found)
    if stopped is not None:
        state, sentence = State.ERROR, f"The checks have stopped: {stopped}"
    counts = {state: sum(check.state is state for check in found) for state in State}
    return Status(
        watched.config.pipeline,
        watched.version,
        now,
        state,
        sentence,
        {state: count for state, count in counts.items() if count},
        max(finished, default=None),
        tuple(problems),
        datasets,
    )


def summary(found: Sequence[CheckStatus]) -> tuple[State, str]:
    """Return the most urgent state of some checks, and one sentence that says it all."""
    running = [check for check in found if check.state is not State.DISABLED]
    if not running:
        return State.UNKNOWN, "No check can run: see the reason beside each"
    total = f"{len(running)} checks" if len(running) > 1 else "1 check"
    for state, words in _SENTENCES.items():
        named = [check for check in running if check.state is state]
        if named:
            verb = words if len(named) > 1 else words.replace("are", "is", 1).replace("have", "has", 1)
            count = f"{len(named)} of {total}" if len(named) < len(running) or len(running) == 1 else f"All {total}"
            return state, f"{count} {verb}: {_named(named)}"
    return State.GOOD, f"All {total} are good" if len(running) > 1 else "The one check is good"


def _named(checks: Sequence[CheckStatus]) -> str:
    """Return the names of checks by dataset: "freshness, duplicates on events; freshness on clicks"."""
    by_dataset: dict[str, list[str]] = {}
    for check in checks[:_MOST_NAMED]:
        by_dataset.setdefault(check.dataset, []).append(check.check)
    said = "; ".join(f"{', '.join(names)} on {dataset}" for dataset, names in by_dataset.items())
    return said + (f", and {len(checks) - _MOST_NAMED} more" if len(checks) > _MOST_NAMED else "")


_MOST_NAMED = 5
_SENTENCES = {
    State.BAD: "are bad",
    State.ERROR: "could not run",
    State.OVERDUE: "are overdue",
    State.UNKNOWN: "could not judge",
    State.WAITING: "have not run yet",
}


def without_secrets(text: str) -> str:
    """Return a text with what is secret of any URLs in it masked.

    Examples:
        >>> without_secrets("cannot reach postgresql://me:hunter2@db/shop")
        'cannot reach postgresql://me:***@db/shop'
    """
    return _SECRETS.sub(lambda found: f"{next(filter(None, found.groups()))}***", text)
