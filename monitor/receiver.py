"""Takes Alertmanager's webhook, and keeps one live message for each of its groups, as for our own incidents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from alerts.message import Alert, Link, Problem, Severity, State
from checks.window import micros
from monitor import outbox
from monitor.store import Store
from monitor.triage import brief
from monitor.wording import whole

MOST_BYTES, MOST_ALERTS, LONGEST = 2_000_000, 200, 500
_NEVER = "0001-01-01T00:00:00Z"


def receive(store: Store, channel: str, body: bytes, now: datetime) -> Alert:
    """Write a group's message into the outbox of a channel, and return it.

    Args:
        store: The state.
        channel: Name of a channel of the configuration.
        body: Alertmanager's webhook, version 4; keys that are not known are left alone.
        now: When it came.

    Raises:
        ValueError: It is none.
    """
    try:
        group = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(group, dict) or not isinstance(group.get("alerts"), list) or "groupKey" not in group:
        raise ValueError("no webhook of Alertmanager: groupKey and alerts are missing")
    problems = [_problem(found, now) for found in group["alerts"][:MOST_ALERTS] if isinstance(found, dict)]
    if not problems:
        raise ValueError("the group has no alerts")
    problems.sort(key=lambda problem: (problem.state is State.RESOLVED, problem.severity is Severity.TICKET))
    key = _key(store, str(group["groupKey"]), channel, problems)
    before = outbox.newest(store, key)
    alert = _alert(store, group, tuple(problems), key, now)
    if before is not None and (before.state, _told(before)) == (alert.state, _told(alert)):
        # Alertmanager repeats itself; nothing has changed.
        return before
    number = before.transition + 1 if before is not None else 1
    alert = Alert(**{**vars(alert), "transition": number, "change": _change(before, alert)})
    with store.writing() as connection:
        outbox.put(connection, store.pipeline, alert, (channel,))
    return alert


def _told(alert: Alert) -> frozenset[tuple[str, str, State]]:
    return frozenset((problem.alert, problem.name, problem.state) for problem in alert.problems)


def _key(store: Store, group: str, channel: str, problems: list[Problem]) -> str:
    """Return the key of a group's incident: a new one when it begins anew."""
    mark = hashlib.sha256(f"{channel} {group}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    note = f"group:{mark}"
    known = store.note(note)
    if known is None or (last := outbox.newest(store, known)) is None or last.state is State.RESOLVED:
        started = min(problem.since for problem in problems)
        fresh = f"recwatch/{store.pipeline}/{mark}/{micros(started)}"
        if known != fresh:
            store.set_note(note, fresh)
        return fresh
    return str(known)


def _alert(store: Store, group: Mapping[str, Any], problems: tuple[Problem, ...], key: str, now: datetime) -> Alert:
    firing = [problem for problem in problems if problem.state is State.FIRING]
    labels = _texts(group, "commonLabels")
    links = []
    for name, url in (("Alertmanager", group.get("externalURL")), ("Runbook", problems[0].runbook_url)):
        if url:
            links.append(Link(name, _cut(url)))
    severe = any(problem.severity is Severity.PAGE for problem in problems)
    return Alert(
        key, 1, State.FIRING if firing else State.RESOLVED, Severity.PAGE if severe else Severity.TICKET,
        _cut(labels.get("pipeline") or store.pipeline), now, min(problem.since for problem in problems), problems,
        "", ended=None if firing else now, team=_cut(labels.get("team") or ""), links=tuple(links),
        triage=brief(store, problems, now),
    )  # fmt: skip


def _problem(found: Mapping[str, Any], now: datetime) -> Problem:
    labels, annotations = _texts(found, "labels"), _texts(found, "annotations")
    is_resolved = found.get("status") == "resolved"
    name = _cut(labels.get("slo") or labels.get("dataset") or labels.get("alertname") or "alert")
    return Problem(
        name, _cut(labels.get("alertname") or "alert"),
        Severity.PAGE if labels.get("severity") == "critical" else Severity.TICKET,
        State.RESOLVED if is_resolved else State.FIRING,
        _cut(annotations.get("description") or annotations.get("summary") or name), _moment(found.get("startsAt"), now),
        check=_cut(labels.get("check") or ""), dataset=_cut(labels.get("dataset") or ""),
        tier=_cut(labels.get("tier") or ""), until=_moment(found.get("endsAt"), now) if is_resolved else None,
        runbook_url=_cut(annotations.get("runbook_url") or ""),
    )  # fmt: skip


def _change(before: Alert | None, alert: Alert) -> str:
    told = _told(before) if before is not None else frozenset()
    new = sorted(f"{name} {state.value}" for _alert, name, state in _told(alert) - told)
    return ("; also " if told and alert.state is State.FIRING else "; ").join(["", *new[:5]]).removeprefix("; ")


def _moment(text: object, now: datetime) -> datetime:
    """Return a moment of a webhook; one that is missing, or the year 1 of an alert that fires, is now."""
    if not isinstance(text, str) or text == _NEVER:
        return now
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return now
    return found if found > now - timedelta(days=3650) else now


def _texts(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    texts = found.get(name)
    return texts if isinstance(texts, Mapping) else {}


def _cut(text: object) -> str:
    return whole(str(text)[:LONGEST])
