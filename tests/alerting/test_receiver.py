"""Alertmanager's webhook: one live message for each of its groups."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerts.message import Severity, State
from monitor import outbox
from monitor.receiver import receive
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    yield store
    store.close()


def group(*alerts: tuple[str, str], **more: Any) -> bytes:
    found = [
        {
            "status": status, "startsAt": "2026-03-03T11:50:00.123456789Z", "fingerprint": name,
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-03-03T12:00:00Z",
            "labels": {"alertname": "RecwatchSloBudgetBurn", "slo": name, "check": "freshness", "dataset": "events",
                       "severity": "critical", "tier": "page_fast", "pipeline": "shop"},
            "annotations": {"description": f"{name} burns"},
        }
        for name, status in alerts
    ]  # fmt: skip
    body = {
        "version": "4", "groupKey": '{}:{pipeline="shop"}', "status": "firing", "receiver": "slack", "alerts": found,
        "groupLabels": {"pipeline": "shop"}, "commonLabels": {"pipeline": "shop", "team": "feeds"},
        "externalURL": "http://alertmanager.example", "notification_reason": "new in later versions", **more,
    }  # fmt: skip
    return json.dumps(body).encode()


def test_a_group_is_one_incident_that_develops(store: Store) -> None:
    first = receive(store, "team", group(("a", "firing")), NOON)
    assert (first.state, first.severity, first.transition, first.team) == (State.FIRING, Severity.PAGE, 1, "feeds")
    assert first.started == NOON - timedelta(minutes=10) + timedelta(microseconds=123456)
    assert receive(store, "team", group(("a", "firing")), NOON) == first, "a repeat changes nothing"
    second = receive(store, "team", group(("a", "firing"), ("b", "firing")), NOON)
    assert (second.key, second.transition, second.change) == (first.key, 2, "also b firing")
    third = receive(store, "team", group(("a", "resolved"), ("b", "firing")), NOON)
    assert (third.state, third.transition) == (State.FIRING, 3), "a group that is mixed still fires"
    last = receive(store, "team", group(("a", "resolved"), ("b", "resolved")), NOON)
    assert (last.state, last.transition, last.ended) == (State.RESOLVED, 4, NOON)
    again = receive(store, "team", group(("a", "firing"), startsAt="later"), NOON + timedelta(hours=1))
    assert again.transition in (1, 5)
    assert outbox.lengths(store) == {"team": 5}


def test_a_group_that_fires_for_long_stays_one_incident(store: Store) -> None:
    first, later = receive(store, "team", group(("a", "firing")), NOON), NOON + timedelta(days=60)
    outbox.settle(store, outbox.first(store, "team"), outbox.DELIVERED, NOON)
    outbox.prune(store, later)
    assert receive(store, "team", group(("a", "firing")), later) == first
    last = receive(store, "team", group(("a", "resolved")), later)
    assert (last.key, last.transition) == (first.key, 2)
    outbox.settle(store, outbox.first(store, "team"), outbox.DELIVERED, NOON)
    outbox.prune(store, later + timedelta(days=1))
    assert outbox.newest(store, first.key) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"groupKey": "x", "alerts": []}', b'{"groupKey": "x", "alerts": 5}']
)
def test_nonsense_is_refused(store: Store, body: bytes) -> None:
    with pytest.raises(ValueError):
        receive(store, "team", body, NOON)
    assert outbox.lengths(store) == {}


def test_hostile_groups_are_bounded(store: Store) -> None:
    body = group(*((f"{number}" + "x" * 10_000, "firing") for number in range(300)))
    alert = receive(store, "team", body, NOON)
    assert len(alert.problems) == 200
    assert max(len(problem.name) for problem in alert.problems) <= 500


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "soon", 5])
@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_a_time_outside_of_all_years_is_now(store: Store, time: object, status: str) -> None:
    alert = {"status": status, "startsAt": time, "endsAt": time, "labels": {"alertname": "a"}}
    received = receive(store, "team", json.dumps({"groupKey": "g", "alerts": [alert]}).encode(), NOON)
    assert received.problems[0].since == NOON
