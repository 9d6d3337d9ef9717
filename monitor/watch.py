"""The part of the daemon that tells people: evaluates on a schedule, delivers, and keeps a dead man's switch quiet."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from alerts.http import Client
from alerts.message import Alert
from alerts.notifier import DeliveryError
from monitor import log, outbox
from monitor.alerting import Alerting
from monitor.channels import notifiers
from monitor.clock import Clock
from monitor.delivery import Delivery
from monitor.errors import RecwatchError
from monitor.resolve import Pipeline
from monitor.store import Store


class Watch:
    """Evaluates the objectives of one configuration and tells people, while this daemon leads.

    Args:
        store: The state.
        pipeline: Objectives, checks and channels.
        clock: Tells the time.
    """

    def __init__(self, store: Store, pipeline: Pipeline, clock: Clock) -> None:
        self._store, self._pipeline, self._clock = store, pipeline, clock
        self._notify = pipeline.config.notify
        self._notifiers = notifiers(pipeline.config)
        self._delivery = Delivery(store, clock, self._notifiers)
        self._repeated: dict[str, datetime] = {}
        self._alerting: Alerting | None = None
        self._is_stale = False
        self._beaten: datetime | None = None
        self._lock = threading.Lock()

    def start(self, after: Watch | None = None) -> None:
        """Begin to deliver what waits, in place of another watch if one is given, which is closed."""
        self._delivery.start(after._delivery if after is not None else None)

    def lead(self, may: bool) -> None:
        """Tell people from now on, or stand by; what others have told is read anew."""
        self._delivery.lead(may)
        if not may:
            # Whoever says this waits for no evaluation that is under way; the next one begins anew.
            self._is_stale = True

    def evaluate(self) -> None:
        """Evaluate all objectives once; a failure is logged, and keeps the dead man's switch from being told."""
        with self._lock:
            now = self._clock.now()
            if self._notify.by == "alertmanager":
                self._beat(now)
                return
            if self._is_stale:
                self._is_stale, self._alerting = False, None
            try:
                if self._alerting is None:
                    alerting = Alerting(self._store, self._pipeline, now)
                    self._readdress(alerting, now)
                    self._alerting = alerting
                messages = self._alerting.evaluate(now)
            except RecwatchError as error:
                self._alerting = None
                log.error("evaluation_failed", error=error)
                return
            for alert in messages:
                log.event("alert", state=alert.state, severity=alert.severity, incident=alert.key, change=alert.change)
            if messages:
                self._delivery.wake()
            self._repeat(now)
            self._beat(now)

    def _readdress(self, alerting: Alerting, now: datetime) -> None:
        """Send what waits for channels that a new configuration does not have to those that it has."""

        def told(alert: Alert) -> Iterable[str]:
            return alerting.channels(next((problem.name for problem in alert.problems), ""), alert.severity)

        lost = outbox.readdress(self._store, self._pipeline.config.channels, told, now)
        if lost:
            log.error("messages_readdressed", messages=lost, error="their channels are not configured any more")

    def _repeat(self, now: datetime) -> None:
        """Say again what fires to those who forget (Alertmanager); what changes goes through the outbox."""
        if self._alerting is None:
            return
        for name, notifier in self._notifiers.items():
            every = getattr(notifier, "repeat", None)
            if every is None or now - self._repeated.get(name, now - every) < every:
                continue
            self._repeated[name] = now
            for incident in self._alerting.memory.board.incidents:
                last = outbox.newest(self._store, incident.key) if name in incident.channels else None
                if last is not None:
                    try:
                        notifier.deliver(replace(last, at=now), {})
                    except DeliveryError as error:
                        log.error("repeat_failed", channel=name, error=error)
                        # Others wait: the next ones would take as long to fail as this one.
                        break

    def _beat(self, now: datetime) -> None:
        heartbeat = self._notify.heartbeat
        if heartbeat is None:
            return
        # With the evaluation that is nearest: none comes to the second, and the one after it would be late.
        soonest = heartbeat.every - self._notify.every / 2
        if self._beaten is not None and now - self._beaten < soonest:
            return
        try:
            Client("heartbeat").post(heartbeat.url.get_secret_value(), {"from": "recwatch", "at": now.isoformat()})
            self._beaten = now
        except DeliveryError as error:
            log.error("heartbeat_failed", error=error)

    def close(self) -> None:
        """Let deliveries under way finish."""
        self._delivery.close()
