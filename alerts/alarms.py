"""Which alerts fire: signs that have held for long enough, until they have been gone for long enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alerts.evaluate import KEPT, WAITS, Sign

NO_TIME = timedelta(0)


@dataclass(frozen=True)
class Alarm:
    """One alert of one objective and tier.

    Args:
        sign: What it says, as of the last time that it was seen.
        since: When it began to fire; None while it has to hold longer first.
        seen_since: When the sign was first seen without a break.
        gone_since: When the sign was first missed; None while it is seen.
    """

    sign: Sign
    since: datetime | None
    seen_since: datetime
    gone_since: datetime | None = None


def step(alarms: Mapping[str, Alarm], signs: Iterable[Sign], now: datetime, keep: timedelta) -> dict[str, Alarm]:
    """Return the alarms after one evaluation, by key; those that have ended are left out.

    Args:
        alarms: As they were after the evaluation before.
        signs: What has reason to fire now.
        now: The moment of this evaluation.
        keep: How long what flaps otherwise fires on after its last sign.
    """
    seen = {sign.key: sign for sign in signs}
    found = {}
    for key, sign in seen.items():
        old = alarms.get(key)
        # A clock that ran ahead, and does not any more, has dated what it saw ahead.
        first = min(old.seen_since, now) if old is not None else now
        since = old.since if old is not None else None
        if since is None and now - first >= WAITS.get(sign.alert, NO_TIME):
            since = now
        found[key] = Alarm(sign, since, first)
    for key, alarm in alarms.items():
        if key in seen:
            continue
        gone = min(alarm.gone_since or now, now)
        if now - gone < (keep if alarm.sign.alert in KEPT else NO_TIME):
            found[key] = replace(alarm, gone_since=gone)
    return found


def firing(alarms: Mapping[str, Alarm]) -> dict[str, Alarm]:
    """Return the alarms that fire, by key."""
    return {key: alarm for key, alarm in alarms.items() if alarm.since is not None}
