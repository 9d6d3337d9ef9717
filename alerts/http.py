"""One request over HTTP, with failures told apart: passing ones, and those that come again."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from socket import socket
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import parse_url

from alerts.notifier import DeliveryError, unreached

TIMEOUT_SECONDS = 10.0
# Client errors that a repeated request may not meet again: time-out, too early, too many.
PASSING = (408, 425, 429)
# Of an answer so much is read, and so much is shown.
MOST_READ, LONGEST_ANSWER = 10_000, 300
# Shorter parts of an address are words, such as api.
SHORTEST_SECRET = 4


class Incoming(io.RawIOBase):
    """What comes over a connection within its time limit; a socket by itself has as long for every single read."""

    def __init__(self, raw: io.RawIOBase, sock: socket) -> None:
        self._raw, self._sock, self._limit = raw, sock, sock.gettimeout() or TIMEOUT_SECONDS
        self.begin()

    def begin(self) -> None:
        """Begin the time of an answer."""
        self._ends = time.monotonic() + self._limit

    def readable(self) -> bool:
        """Return true; part of io."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come, waiting no longer than what is left of the time."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        finally:
            # The connection may be used again.
            self._sock.settimeout(self._limit)

    def close(self) -> None:
        """Close what is read; part of io."""
        self._raw.close()
        super().close()


class TimedResponse(HTTPResponse):
    """A response that has the time limit of its connection for status, headers and body together."""

    def __init__(self, sock: socket, *more: Any, **named: Any) -> None:
        super().__init__(sock, *more, **named)
        self.fp = io.BufferedReader(Incoming(self.fp.detach(), sock))


class _Pool(urllib3.HTTPConnectionPool):
    class ConnectionCls(HTTPConnection):
        response_class = TimedResponse


class _SecurePool(urllib3.HTTPSConnectionPool):
    class ConnectionCls(HTTPSConnection):
        response_class = TimedResponse


def pools(timeout_seconds: float) -> urllib3.PoolManager:
    """Return connections on which an exchange has one time limit, however slowly its parts come, and is tried once."""
    manager = urllib3.PoolManager(timeout=urllib3.Timeout(total=timeout_seconds), retries=False)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


@dataclass(frozen=True)
class Answer:
    """What came back: the status and the start of the body, on one line."""

    status: int
    text: str


class Client:
    """Sends JSON to one place, named in errors by ``name`` alone: addresses may hold secrets."""

    def __init__(self, name: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.name = name
        # Trying again is the queue's task, which remembers it across a restart.
        self._pool = pools(timeout_seconds)

    def post(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Post a value as JSON and return the answer to a request that was accepted.

        Raises:
            DeliveryError: The other side refused, or could not be reached.
        """
        payload = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode("utf-8")
        sent = {"Content-Type": "application/json", "User-Agent": "recwatch"}
        try:
            sent |= {**basic(url), **(headers or {})}
            response = self._pool.request(
                "POST", url, body=payload, headers=sent, redirect=False, preload_content=False
            )
            said = response.read(MOST_READ, decode_content=True)
            # A connection over which more is to come cannot be used again.
            (response.close if len(said) == MOST_READ else response.drain_conn)()
        except urllib3.exceptions.LocationValueError:
            raise DeliveryError(f"{self.name}: the address is no URL", permanent=True) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Its text holds the address.
            raise DeliveryError(f"{self.name}: not reached ({unreached(error)})", permanent=False) from None
        shown = " ".join(_without(url, said.decode("utf-8", "replace")).split())
        answer = Answer(response.status, shown[:LONGEST_ANSWER])
        if 200 <= answer.status < 300:
            return answer
        is_permanent = answer.status < 500 and answer.status not in PASSING
        raise DeliveryError(
            f"{self.name}: answered {answer.status} {answer.text}".rstrip(),
            permanent=is_permanent,
            retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
        )


def basic(address: str) -> dict[str, str]:
    """Return the header that shows the user and password of an address; the library sends none by itself.

    Examples:
        >>> basic("https://ann:a%2Fb@example.org/hook"), basic("https://ann@example.org"), basic("https://example.org")
        ({'authorization': 'Basic YW5uOmEvYg=='}, {'authorization': 'Basic YW5uOg=='}, {})
    """
    auth = parse_url(address).auth
    shown = unquote_to_bytes(auth if ":" in auth else f"{auth}:") if auth else b""
    return {"authorization": f"Basic {base64.b64encode(shown).decode()}"} if shown else {}


def _without(address: str, said: str) -> str:
    """Return what a server said, with the parts of its own address masked: pages about errors repeat it."""
    parts = {part for part in re.split("[/?&=;]", parse_url(address).request_uri) if len(part) >= SHORTEST_SECRET}
    forms = {form for part in parts for form in (part, unquote(part), quote(unquote(part), safe=""))}
    return re.sub("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), "***", said) if forms else said


def retry_after_seconds(header: str | None) -> float | None:
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
    except (ValueError, OverflowError):
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
