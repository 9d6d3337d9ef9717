"""Delivers what waits in the outbox: one thread a channel, in order, as fast as the other side likes."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic

from alerts.notifier import DeliveryError, Notifier
from monitor import log, outbox
from monitor.clock import Clock
from monitor.outbox import DELIVERED, REFUSED, Item, Remembered
from monitor.store import Store

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 300.0
# However long the other side asks for.
MOST_WAIT = timedelta(hours=2)
# How often a channel looks for work that nobody has called it for: after a restart, or a take-over.
LOOKS_EVERY_SECONDS = 2.0


class Bucket:
    """A token bucket: bursts are allowed, the average is not exceeded."""

    def __init__(self, rate_per_second: float, burst: int) -> None:
        self._rate, self._burst = rate_per_second, float(burst)
        self._tokens, self._at = float(burst), monotonic()

    def wait_seconds(self) -> float:
        """Take a token, and return how long to wait until it is one's own."""
        now = monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)


class Delivery:
    """Empties the outbox.

    Args:
        store: The state.
        clock: Tells when a message may be tried again.
        notifiers: By name of channel.
    """

    def __init__(self, store: Store, clock: Clock, notifiers: Mapping[str, Notifier]) -> None:
        self._store, self._clock, self._notifiers = store, clock, notifiers
        self._stopping, self._work = threading.Event(), threading.Event()
        # Set while this daemon leads: another one must not deliver the same message.
        self._may = threading.Event()
        self._threads = {
            name: threading.Thread(target=self._run, args=(name,), name=f"notify-{name}", daemon=True)
            for name in notifiers
        }
        self._before: dict[str, threading.Thread] = {}

    def start(self, after: Delivery | None = None) -> None:
        """Begin to deliver, once ``lead`` has said so.

        Args:
            after: Is closed, and leads from now on just if this one does; each channel begins once that has sent the
                message that it is about to send.
        """
        if after is not None:
            after.close(patience_seconds=0)
            # One and the same, so that whoever says who leads meanwhile tells both.
            self._may = after._may
            self._before = {name: thread for name, thread in after._threads.items() if thread.is_alive()}
        for thread in self._threads.values():
            thread.start()

    def lead(self, may: bool) -> None:
        """Deliver from now on, or stand by."""
        (self._may.set if may else self._may.clear)()

    def wake(self) -> None:
        """Say that something waits."""
        self._work.set()

    def close(self, patience_seconds: float = 5.0) -> None:
        """Let deliveries under way finish; what still waits is delivered after the next start."""
        self._stopping.set()
        self._work.set()
        ends = monotonic() + patience_seconds
        for thread in self._threads.values():
            if thread.is_alive():
                thread.join(max(0.0, ends - monotonic()))

    def _run(self, channel: str) -> None:
        if channel in self._before:
            # What it sends still waits in the outbox, and would be sent twice.
            self._before.pop(channel).join()
        notifier = self._notifiers[channel]
        bucket = Bucket(notifier.rate_per_second, notifier.burst)
        while not self._stopping.is_set():
            try:
                if not (self._may.is_set() and self._next(channel, notifier, bucket)):
                    self._work.wait(LOOKS_EVERY_SECONDS)
                    self._work.clear()
            except Exception as error:
                # Whatever it is, a channel does not end with it.
                log.error("delivery_failed", channel=channel, error=error)
                self._stopping.wait(LOOKS_EVERY_SECONDS)

    def _next(self, channel: str, notifier: Notifier, bucket: Bucket) -> bool:
        """Deliver the next message that is due; return whether there was one."""
        item = outbox.first(self._store, channel)
        # Nothing waits for longer: what seems to was postponed by a clock that ran ahead.
        if item is None or timedelta(0) < item.next_at - self._clock.now() <= MOST_WAIT:
            return False
        self._stopping.wait(bucket.wait_seconds())
        if self._stopping.is_set() or not self._may.is_set():
            return False
        deliver(self._store, self._clock, notifier, item)
        return True


def deliver(store: Store, clock: Clock, notifier: Notifier, item: Item) -> str | None:
    """Try a message once and note what became of it; return what went wrong, or None.

    Passing failures are tried again after a wait that doubles, or as long as the other side asked
    for; what would be refused again is given up, loudly.
    """
    try:
        notifier.deliver(item.alert, Remembered(store, item.channel, item.alert.key))
    except DeliveryError as error:
        return _failed(store, clock, item, error)
    except Exception as error:
        return _failed(store, clock, item, DeliveryError(f"{item.channel}: {type(error).__name__}", permanent=False))
    outbox.settle(store, item, DELIVERED, clock.now())
    log.event("notified", channel=item.channel, incident=item.alert.key, number=item.alert.transition)
    return None


def _failed(store: Store, clock: Clock, item: Item, error: DeliveryError) -> str:
    text, now = str(error), clock.now()
    if error.permanent:
        outbox.settle(store, item, REFUSED, now, text)
        log.error("notification_refused", channel=item.channel, incident=item.alert.key, error=text)
        return text
    wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(item.attempts, 10))
    # Spread, so that what failed together does not come back together.
    wait *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    wait = min(max(wait, error.retry_after_seconds or 0.0), MOST_WAIT.total_seconds())
    outbox.postpone(store, item, now + timedelta(seconds=wait), text)
    log.error("notification_postponed", channel=item.channel, incident=item.alert.key, error=text, wait=f"{wait:.0f}s")
    return text
