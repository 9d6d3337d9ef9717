"""Posts alerts as JSON to any address.

The body has ``version`` (1), and an alert's fields as in ``alerts.message``: ``key``, ``transition``,
``state`` (firing, resolved), ``severity`` (page, ticket), ``pipeline``, ``at``, ``started``, ``ended``,
``title``, ``text``, ``change``, ``team``, ``problems``, ``consequences``, ``links``, ``is_test``, ``is_aside``,
``triage``. Times are ISO 8601, in UTC.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import string
from typing import Any, ClassVar
from urllib.parse import quote

from alerts.http import TIMEOUT_SECONDS, Client
from alerts.message import Alert, dump_alert
from alerts.notifier import Memory
from alerts.wording import text

VERSION = 1


class Webhook:
    """Posts each transition once, as far as the other side heeds its ``Idempotency-Key``.

    Args:
        name: Name of the channel.
        url: Where to post.
        secret: Key of the signature in ``X-Recwatch-Signature``, ``sha256=`` and the HMAC of the body; empty for none.
        timeout_seconds: How long to wait for an answer.
    """

    kind: ClassVar[str] = "webhook"
    rate_per_second: ClassVar[float] = 5.0
    burst: ClassVar[int] = 20

    def __init__(self, name: str, *, url: str, secret: str = "", timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.name, self._url, self._secret = name, url, secret.encode()
        self._client = Client(f"webhook {name}", timeout_seconds)

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Post one transition.

        Raises:
            DeliveryError: It was refused, or the address cannot be reached.
        """
        payload = json.dumps(body(alert), ensure_ascii=False).encode("utf-8", "replace")
        # A header holds ASCII alone, and a key has the name of its pipeline.
        key = quote(f"{alert.key}/{alert.transition}", safe=string.punctuation + " ", errors="replace")
        headers = {"Idempotency-Key": key}
        if self._secret:
            headers["X-Recwatch-Signature"] = "sha256=" + hmac.new(self._secret, payload, hashlib.sha256).hexdigest()
        self._client.post(self._url, payload, headers)


def body(alert: Alert) -> dict[str, Any]:
    """Return what is posted."""
    return {"version": VERSION, **json.loads(dump_alert(alert)), "title": alert.title, "text": text(alert)}
