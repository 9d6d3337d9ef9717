"""The contract of a notifier: it delivers an alert, or says whether trying again can help."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, MutableMapping
from typing import ClassVar, Protocol, runtime_checkable

from alerts.message import Alert, Change

# What a channel remembers of one incident, such as the id of a message to edit. Each assignment is
# durable before it returns, so that a kill between two steps of one delivery repeats no step.
Memory = MutableMapping[str, str]


class DeliveryError(Exception):
    """An alert was not delivered.

    Args:
        text: What the other side said, without any secret.
        permanent: Whether the same request would be refused again.
        retry_after_seconds: How long the other side asked us to wait; None if it did not say.
    """

    def __init__(self, text: str, *, permanent: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


def unreached(error: BaseException) -> str:
    """Return why something was not reached, without its address, which the error's own text may hold.

    Examples:
        >>> unreached(ConnectionRefusedError(111, "127.0.0.1:80 refuses")), unreached(TimeoutError())
        ('connection refused', 'no answer in time')
    """
    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, socket.gaierror):
            return "no machine has this name"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted"
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno).lower()
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it comes of: what it was raised from, or what it holds."""
    found: list[BaseException] = [error]
    for cause in found:
        yield cause
        of = (cause.__cause__, cause.__context__, *cause.args)
        found += [one for one in of if isinstance(one, BaseException) and all(one is not known for known in found)]


@runtime_checkable
class Notifier(Protocol):
    """Delivers alerts to one place.

    Calls come from one thread, one at a time, for one incident in the order of its transitions. After
    a kill the same transition may come again, with the memory as it was.
    """

    kind: ClassVar[str]
    # Most deliveries a second, on average and in a burst, that the other side accepts.
    rate_per_second: ClassVar[float]
    burst: ClassVar[int]

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Deliver one transition of an incident.

        Raises:
            DeliveryError: It was not delivered; ``permanent`` tells whether trying again can help.
        """


@runtime_checkable
class TakesChanges(Protocol):
    """A notifier whose other side also keeps a record of deploys and other changes."""

    def announce(self, change: Change) -> None:
        """Tell about a change.

        Raises:
            DeliveryError: It was not delivered.
        """
