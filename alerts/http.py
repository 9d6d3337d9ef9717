"""One request over HTTP, with failures told apart: passing ones, and those that come again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3

from alerts.notifier import DeliveryError

TIMEOUT_SECONDS = 10.0
# Client errors that a repeated request may not meet again: time-out, too early, too many.
PASSING = (408, 425, 429)
LONGEST_ANSWER = 300


@dataclass(frozen=True)
class Answer:
    """What came back: the status and the start of the body."""

    status: int
    text: str


class Client:
    """Sends JSON to one place, named in errors by ``name`` alone: addresses may hold secrets."""

    def __init__(self, name: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.name = name
        # Trying again is the queue's task, which remembers it across a restart.
        self._pool = urllib3.PoolManager(timeout=timeout_seconds, retries=False)

    def post(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Post a value as JSON and return the answer to a request that was accepted.

        Raises:
            DeliveryError: The other side refused, or could not be reached.
        """
        payload = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode("utf-8")
        sent = {"Content-Type": "application/json", "User-Agent": "recwatch", **(headers or {})}
        try:
            response = self._pool.request("POST", url, body=payload, headers=sent, redirect=False)
        except urllib3.exceptions.LocationValueError:
            raise DeliveryError(f"{self.name}: the address is no URL", permanent=True) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Its text holds the address.
            raise DeliveryError(f"{self.name}: not reached ({type(error).__name__})", permanent=False) from None
        answer = Answer(response.status, response.data[:LONGEST_ANSWER].decode("utf-8", "replace"))
        if 200 <= answer.status < 300:
            return answer
        is_permanent = answer.status < 500 and answer.status not in PASSING
        raise DeliveryError(
            f"{self.name}: answered {answer.status} {' '.join(answer.text.split())}".rstrip(),
            permanent=is_permanent,
            retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
        )


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Return how long a ``Retry-After`` asks to wait, given in seconds or as a date; None without sense.

    Examples:
        >>> retry_after_seconds("30"), retry_after_seconds("soon")
        (30.0, None)
    """
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
