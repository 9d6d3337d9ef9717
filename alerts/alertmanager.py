"""Pushes alerts to Alertmanager's API v2, for teams that route and silence there, without a Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from alerts.http import TIMEOUT_SECONDS, Client
from alerts.message import Alert, Problem, Severity
from alerts.notifier import DeliveryError, Memory
from alerts.wording import MOST_PROBLEMS, cut, printable

SEVERITIES = {Severity.PAGE: "critical", Severity.TICKET: "warning"}
# Of what is known of the cause, which goes with every problem; and of any text.
LONGEST_LINE, LONGEST_TEXT = 400, 4_000


class AlertmanagerPush:
    """Pushes each problem of an incident as an alert of its own; Alertmanager groups them.

    Alertmanager takes an alert for resolved once its end has passed, so what fires is pushed again
    and again, every ``repeat``.

    Args:
        name: Name of the channel.
        urls: Every Alertmanager of the cluster.
        ends_after: How long an alert fires if nothing more is heard of it.
        timeout_seconds: How long to wait for an answer.
    """

    kind: ClassVar[str] = "alertmanager"
    rate_per_second: ClassVar[float] = 10.0
    burst: ClassVar[int] = 50
    repeat: ClassVar[timedelta] = timedelta(minutes=1)

    def __init__(
        self,
        name: str,
        *,
        urls: Sequence[str],
        ends_after: timedelta = timedelta(minutes=5),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.name, self._ends_after = name, ends_after
        self._urls = [f"{url.rstrip('/')}/api/v2/alerts" for url in urls]
        self._client = Client(f"alertmanager {name}", timeout_seconds)

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Push to every Alertmanager; one that takes it is enough, for they tell each other.

        Raises:
            DeliveryError: None took it.
        """
        pushed, errors = list(self.pushed(alert)), []
        for url in self._urls:
            try:
                self._client.post(url, pushed)
            except DeliveryError as error:
                errors.append(error)
        if len(errors) == len(self._urls):
            raise DeliveryError(str(errors[0]), permanent=all(error.permanent for error in errors))

    def pushed(self, alert: Alert) -> Iterator[dict[str, Any]]:
        """Yield each problem as Alertmanager takes it."""
        for problem in alert.problems:
            ends = problem.until or alert.at + self._ends_after
            yield {
                "labels": _labels(alert, problem), "annotations": _annotations(alert, problem),
                "startsAt": problem.since.isoformat(), "endsAt": ends.isoformat(),
                "generatorURL": next((link.url for link in alert.links), ""),
            }  # fmt: skip


def _labels(alert: Alert, problem: Problem) -> dict[str, str]:
    labels = {
        "alertname": problem.alert, "pipeline": alert.pipeline, "slo": problem.name, "check": problem.check,
        "dataset": problem.dataset, "tier": problem.tier, "team": alert.team,
        "severity": "none" if alert.is_test else SEVERITIES[problem.severity],
    }  # fmt: skip
    return _texts(labels)


def _annotations(alert: Alert, problem: Problem) -> dict[str, str]:
    said = {
        "summary": f"{problem.check or problem.name}: {problem.sentence}", "description": problem.sentence,
        "runbook_url": problem.runbook_url, "contributors": "; ".join(problem.contributors),
        "triage": "\n".join(cut(line, LONGEST_LINE) for line in alert.triage[:MOST_PROBLEMS]),
    }  # fmt: skip
    return _texts(said)


def _texts(said: dict[str, str]) -> dict[str, str]:
    return {name: printable(cut(value, LONGEST_TEXT)) for name, value in said.items() if value}
