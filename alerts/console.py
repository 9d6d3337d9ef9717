"""Prints alerts: for a daemon without any channel, for the demo, and to see what others would get."""

from __future__ import annotations

from typing import ClassVar, TextIO

from alerts.message import Alert, Severity, State
from alerts.notifier import DeliveryError, Memory
from alerts.wording import printable, shown

_RED, _YELLOW, _GREEN, _PLAIN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[0m"


class Console:
    """Prints one block for each transition; coloured where a person looks.

    Args:
        name: Name of the channel.
        stream: Where to print.
    """

    kind: ClassVar[str] = "console"
    rate_per_second: ClassVar[float] = 100.0
    burst: ClassVar[int] = 100

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name, self._stream = name, stream

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Print one transition.

        Raises:
            DeliveryError: The stream is closed.
        """
        first, *rest = (printable(line) for line in shown(alert))
        if self._stream.isatty():
            first = f"{_colour(alert)}{first}{_PLAIN}"
        try:
            print(f"{alert.at:%Y-%m-%dT%H:%M:%SZ} {first}", *rest, sep="\n", file=self._stream, flush=True)
        except (OSError, ValueError) as error:
            raise DeliveryError(f"console {self.name}: cannot be written", permanent=False) from error


def _colour(alert: Alert) -> str:
    if alert.state is State.FIRING:
        return _RED if alert.severity is Severity.PAGE else _YELLOW
    # That nobody looks any more is no good news.
    return _GREEN if alert.is_watched else ""
