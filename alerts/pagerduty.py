"""Triggers and resolves PagerDuty alerts by the Events API v2, and records deploys as change events.

Source: PagerDuty's developer documentation of the Events API v2: required fields, their greatest
lengths, 512 KB for a body, about 120 calls a minute for a key.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from alerts.http import TIMEOUT_SECONDS, Client
from alerts.message import Alert, Change, Link, Severity, State
from alerts.notifier import DeliveryError, Memory
from alerts.wording import cut, duration, facts, headline, printable, together

LONGEST_KEY, LONGEST_SUMMARY, LONGEST_SOURCE, LONGEST_TEXT = 255, 1024, 255, 1000
MOST_BYTES, MOST_DETAILED, MOST_LINKS = 512_000, 20, 20
SEVERITIES = {Severity.PAGE: "critical", Severity.TICKET: "warning"}


class PagerDuty:
    """One alert for each incident: each of its transitions has the same dedup key.

    Args:
        name: Name of the channel.
        routing_key: Integration key of the service.
        base_url: Where the Events API is.
        timeout_seconds: How long to wait for an answer.
    """

    kind: ClassVar[str] = "pagerduty"
    rate_per_second: ClassVar[float] = 1.5
    burst: ClassVar[int] = 30

    def __init__(
        self,
        name: str,
        *,
        routing_key: str,
        base_url: str = "https://events.pagerduty.com",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.name, self._routing_key, self._base = name, routing_key, base_url.rstrip("/")
        self._client = Client(f"pagerduty {name}", timeout_seconds)

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Trigger or resolve.

        Raises:
            DeliveryError: PagerDuty refused it, or cannot be reached.
        """
        self._post("/v2/enqueue", event(alert))

    def announce(self, change: Change) -> None:
        """Record a change; it notifies nobody.

        Raises:
            DeliveryError: PagerDuty refused it, or cannot be reached.
        """
        payload = {
            "summary": _text(change.summary, LONGEST_SUMMARY), "timestamp": change.at.isoformat(),
            "source": _text(change.source or change.pipeline, LONGEST_SOURCE),
            "custom_details": {"pipeline": change.pipeline, **_addresses(change.links)},
        }  # fmt: skip
        self._post("/v2/change/enqueue", {"payload": payload, "links": _links(change.links)})

    def _post(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._client.post(self._base + path, {"routing_key": self._routing_key, **body})
        except DeliveryError as error:
            said = str(error).replace(self._routing_key, "***") if self._routing_key else str(error)
            hint = "; check the routing key of the service's Events API v2 integration" if error.permanent else ""
            raise DeliveryError(
                said + hint, permanent=error.permanent, retry_after_seconds=error.retry_after_seconds
            ) from None


def dedup_key(key: str) -> str:
    """Return the key of an incident as PagerDuty accepts it: as it is, or hashed if it is too long."""
    return key if len(key) <= LONGEST_KEY else f"recwatch/{hashlib.sha256(key.encode()).hexdigest()}"


def event(alert: Alert) -> dict[str, Any]:
    """Return the event of a transition, without the routing key."""
    if alert.state is State.RESOLVED:
        return {"event_action": "resolve", "dedup_key": dedup_key(alert.key)}
    first = alert.problems[0] if alert.problems else None
    payload: dict[str, Any] = {
        "summary": _text(f"{headline(alert)}{_cause(alert)}", LONGEST_SUMMARY),
        # Without one PagerDuty refuses the event.
        "source": _text(alert.pipeline, LONGEST_SOURCE) or "recwatch",
        "severity": SEVERITIES[alert.severity], "timestamp": alert.started.isoformat(),
        "component": _text(first.dataset, LONGEST_SOURCE) if first else "",
        "class": first.check if first else "", "group": _text(alert.team, LONGEST_SOURCE),
        "custom_details": details(alert),
    }  # fmt: skip
    found = {
        "event_action": "trigger", "dedup_key": dedup_key(alert.key), "client": "recwatch",
        "payload": {name: value for name, value in payload.items() if value}, "links": _links(alert.links),
    }  # fmt: skip
    if len(json.dumps(found, ensure_ascii=False).encode()) > MOST_BYTES:
        found["payload"].pop("custom_details")  # type: ignore[attr-defined]
    return found


def _cause(alert: Alert) -> str:
    """Return the kind of the most likely cause, for who sees no more than the summary on a phone."""
    cause = next(iter(alert.triage), "").partition(": ")[0]
    return f"; {cause[:1].lower()}{cause[1:]}" if cause else ""


def details(alert: Alert) -> dict[str, Any]:
    """Return the figures of each problem, and links that cannot be one of PagerDuty's, bounded."""
    found: dict[str, Any] = {"what changed": _text(alert.change, LONGEST_TEXT), "lasts": duration(alert.duration)}
    for problem in alert.problems[:MOST_DETAILED]:
        about: dict[str, str] = {"what": _text(problem.sentence, LONGEST_TEXT), "state": problem.state.value}
        about |= {name: _text(value, LONGEST_TEXT) for name, value in facts(problem)}
        if problem.contributors:
            about["most of it"] = _text("; ".join(problem.contributors), LONGEST_TEXT)
        found[_text(problem.title, LONGEST_TEXT)] = about
    if alert.triage:
        found["triage"] = [_text(entry, LONGEST_TEXT) for entry in alert.triage[:MOST_DETAILED]]
    if alert.consequences:
        found["kept quiet"] = [_text(entry, LONGEST_TEXT) for entry in together(alert.consequences)[:MOST_DETAILED]]
    return found | _addresses(alert.links)


def _links(links: tuple[Link, ...]) -> list[dict[str, str]]:
    """Return the links that PagerDuty takes for sure: over https."""
    return [
        {"href": link.url, "text": _text(link.text, LONGEST_TEXT)} for link in links[:MOST_LINKS] if _is_secure(link)
    ]


def _addresses(links: tuple[Link, ...]) -> dict[str, str]:
    """Return the other links by their texts: a page must not be refused for one of them."""
    return {
        _text(link.text, LONGEST_TEXT): _text(link.url, LONGEST_TEXT)
        for link in links[:MOST_LINKS]
        if not _is_secure(link)
    }


def _is_secure(link: Link) -> bool:
    return link.url.startswith("https://")


def _text(said: str, most: int) -> str:
    return cut(printable(said), most)
