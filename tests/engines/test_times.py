"""However a time is written, every check finds the same; and a corrupt time is counted, not stumbled over."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from checks.window import Window

NOON = datetime(2026, 3, 3, 12)
HOUR = Window(NOON.replace(tzinfo=UTC), (NOON + timedelta(hours=1)).replace(tzinfo=UTC))
SETTINGS: dict[str, dict[str, int]] = {"freshness": {}} | {
    check: {"min_rows": 1} for check in ("contract", "unknown_ids", "duplicates", "density", "ingestion", "popularity")
}
Write = Callable[[datetime], Any]


def unix(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1)).total_seconds()


def zoned(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=-7)))


# The kind of the column, and how a moment is written in it.
WAYS: dict[str, tuple[str, Write]] = {
    "timestamp": ("timestamp", lambda moment: moment),
    "zoned timestamp": ("zoned", zoned),
    "seconds": ("integer", lambda moment: int(unix(moment))),
    "milliseconds": ("integer", lambda moment: int(unix(moment) * 1e3)),
    "microseconds": ("integer", lambda moment: int(unix(moment) * 1e6)),
    "seconds as floats": ("number", unix),
    "milliseconds as floats": ("number", lambda moment: unix(moment) * 1e3),
    "microseconds as floats": ("number", lambda moment: unix(moment) * 1e6),
    "text": ("text", str),
    "text in UTC": ("text", lambda moment: f"{moment.isoformat()}Z"),
    "text with an offset": ("text", lambda moment: zoned(moment).isoformat(sep=" ")),
    "text with milliseconds": ("text", lambda moment: zoned(moment).isoformat(timespec="milliseconds")),
}
# Minutes after noon of events of user u1 and item i1, each with its event id and arrival.
EVENTS = [(-70, "a", -69), (-0.05, "b", 0), (0, "c", 0), (1, "a", 1), (10, "c", 12), (30, "d", 29), (59, "e", 59.95)]


def shop(table: Callable[..., Any], kind: str, write: Write) -> dict[str, Any]:
    def at(minute: float) -> Any:
        return write(NOON + timedelta(minutes=minute))

    events = [(at(happened), event, f"u{n % 3}", "i1", at(seen)) for n, (happened, event, seen) in enumerate(EVENTS)]
    events += [(at(60), "f", "u9", "i9", at(60)), (at(20), "g", "u1", "i2", at(20)), (None, "h", "u1", "i2", at(21))]
    columns = {"ts": kind, "id": "text", "who": "text", "what": "text", "seen": kind}
    items = [("i1", at(-100), at(40)), ("i2", at(25), None)]
    return {
        "events": table(columns, events),
        "items": table({"what": "text", "since": kind, "until": kind}, items),
        "sent": table({"ts": kind, "n": "integer"}, [(at(1), 5), (at(60), 9)]),
    }


def datasets(clock: str) -> dict[str, Any]:
    roles = {"event_time": "ts", "event_id": "id", "user": "who", "item": "what"}
    if clock == "ingested_at":
        roles["ingested_at"] = "seen"
    return {
        "events": {"roles": roles, "items": "items", "sent": "sent"},
        "items": {"roles": {"item": "what", "valid_from": "since", "valid_to": "until"}},
        "sent": {"roles": {"event_time": "ts", "value": "n"}},
    }


def found(bench: Any, tables: Any, clock: str) -> dict[Any, Any]:
    bench.place.fill(tables)
    return {
        (verdict.check, str(verdict.subject)): (
            verdict.outcome.value, verdict.value, verdict.good, verdict.total, verdict.reason, dict(verdict.details)
        )
        for verdict in bench.verdicts(datasets(clock), HOUR, checks=SETTINGS)
    }  # fmt: skip


@pytest.fixture(scope="module")
def first() -> dict[str, Any]:
    """What was found of ordinary timestamps, by clock."""
    return {}


@pytest.mark.parametrize("clock", ["event_time", "ingested_at"])
@pytest.mark.parametrize("way", WAYS)
def test_every_check_finds_the_same(
    way: str, clock: str, bench: Any, first: dict[str, Any], table: Any, near: Callable[..., bool]
) -> None:
    kind, write = WAYS[way]
    verdicts = found(bench, shop(table, kind, write), clock)
    assert {check for check, _subject in verdicts} == set(SETTINGS)
    assert "error" not in {verdict[0] for verdict in verdicts.values()}
    assert near(verdicts, first.setdefault(clock, verdicts))


def test_it_is_worth_comparing(bench: Any, table: Any) -> None:
    verdicts = found(bench, shop(table, *WAYS["timestamp"]), "ingested_at")
    assert verdicts["contract", "{}"][5]["rules"] == {"event_time_missing": 1}
    assert verdicts["unknown_ids", "{'entity': 'item'}"][5]["causes"]["retired"] == 1
    assert verdicts["duplicates", "{}"][5]["surplus"] == 2


def test_dates(bench: Any, table: Any) -> None:
    """A date is its first instant, in UTC."""
    rows = [(date(2026, 3, day), str(day)) for day in (2, 3, 3, 4)]
    bench.place.fill({"events": table({"day": "date", "id": "text"}, rows)})
    for start, expected in (("2026-03-03T00:00Z", 2), ("2026-03-02T23:59:59Z", 2), ("2026-03-03T00:00:01Z", 1)):
        window = Window(datetime.fromisoformat(start), datetime.fromisoformat(start) + timedelta(days=1))
        verdicts = bench.verdicts(
            {"events": {"roles": {"event_time": "day", "event_id": "id"}}}, window, only=["duplicates"]
        )
        assert verdicts[0].total == expected, start


PRECISE = [way for way in WAYS if way not in ("seconds", "milliseconds", "text with milliseconds")]


@pytest.mark.parametrize("way", PRECISE)
def test_microseconds_count(way: str, bench: Any, table: Any) -> None:
    kind, write = WAYS[way]
    step = timedelta(microseconds=1)
    moments = [NOON - step, NOON, NOON + step, NOON + timedelta(minutes=59, seconds=59, microseconds=999_999)]
    moments.append(NOON + timedelta(hours=1))
    bench.place.fill({"events": table({"ts": kind}, [(write(moment),) for moment in moments])})
    verdicts = bench.verdicts({"events": {"roles": {"event_time": "ts"}}}, HOUR, only=["contract", "freshness"])
    assert verdicts[1].total == 3
    assert verdicts[0].value == 0.0
    late = Window(HOUR.start, HOUR.end - step)
    assert bench.verdicts({"events": {"roles": {"event_time": "ts"}}}, late, only=["contract"])[0].total == 2


def test_a_window_may_be_given_in_any_zone(bench: Any, table: Any) -> None:
    bench.place.fill({"events": table({"ts": "timestamp"}, [(NOON,), (NOON + timedelta(hours=1),)])})
    there = timezone(timedelta(hours=5, minutes=30))
    window = Window(HOUR.start.astimezone(there), HOUR.end.astimezone(there))
    assert bench.verdicts({"events": {"roles": {"event_time": "ts"}}}, window, only=["contract"])[0].total == 1


# Corrupt event times of rows that arrived all right, each with the rule that it breaks; beside them one good row.
CORRUPT: dict[str, tuple[str, Write, list[tuple[Any, str]]]] = {
    "microseconds among seconds": ("integer", lambda moment: int(unix(moment)), [
        (1_772_539_200_000_000, "event_time_in_future"), (2**63 - 1, "event_time_in_future"),
        (-(2**63), "event_time_before_floor"), (0, "event_time_before_floor"), (None, "event_time_missing")]),
    "nanoseconds among milliseconds": ("integer", lambda moment: int(unix(moment) * 1e3), [
        (1_772_539_200_000_000_000, "event_time_in_future"), (-(2**62), "event_time_before_floor")]),
    "large microseconds": ("integer", lambda moment: int(unix(moment) * 1e6), [
        (2**63 - 1, "event_time_in_future"), (-(2**63), "event_time_before_floor")]),
    "floats": ("number", unix, [
        (1e300, "event_time_in_future"), (-1e300, "event_time_before_floor"), (math.inf, "event_time_missing"),
        (-math.inf, "event_time_missing"), (math.nan, "event_time_missing")]),
    "texts": ("text", str, [
        ("2026-02-30 12:00:00", "event_time_missing"), ("now", "event_time_missing"), ("", "event_time_missing"),
        ("2461103.0", "event_time_missing"), ("9999-12-31", "event_time_in_future"),
        ("0001-01-01 00:00:00", "event_time_before_floor")]),
}  # fmt: skip


@pytest.mark.parametrize("way", CORRUPT)
def test_a_corrupt_event_time_is_an_invalid_row_and_stops_no_check(
    way: str, bench: Any, table: Any, first: dict[str, Any], near: Callable[..., bool]
) -> None:
    kind, write, corrupt = CORRUPT[way]
    rows = [(write(NOON), "good", NOON), (write(NOON), "good", NOON), (write(NOON), "fine", NOON)]
    rows += [(value, "bad", NOON) for value, _rule in corrupt]
    columns = {"ts": kind, "item": "text", "seen": "timestamp"}
    items = table({"item": "text", "since": "timestamp"}, [("good", NOON), ("bad", NOON)])
    bench.place.fill({"events": table(columns, [row for row in rows for _ in range(3)]), "items": items})
    roles = {"event_time": "ts", "item": "item", "ingested_at": "seen"}
    spec = {
        "events": {"roles": {**roles, "event_id": "item", "user": "item"}, "items": "items"},
        "items": {"roles": {"item": "item", "valid_from": "since"}},
    }
    verdicts = bench.verdicts(spec, HOUR, checks=SETTINGS)
    assert [verdict.reason for verdict in verdicts if verdict.outcome == "error"] == []
    rules: dict[str, int] = {}
    for _value, rule in corrupt:
        rules[rule] = rules.get(rule, 0) + 3
    whole = {verdict.check: verdict for verdict in verdicts if not verdict.subject}
    assert whole["contract"].details["rules"] == rules
    figures = {name: (verdict.value, verdict.good, dict(verdict.details)) for name, verdict in whole.items()}
    assert near(figures, first.setdefault(way, figures))


def test_a_feed_of_corrupt_times_alone_is_not_fresh(bench: Any, table: Any) -> None:
    rows = [(-1e300,), (-math.inf,), (math.inf,), (math.nan,), (1e300,)] * 9 + [(unix(NOON) - 86_400,)]
    bench.place.fill({"events": table({"ts": "number"}, rows)})
    roles = {"event_time": {"column": "ts", "unit": "s"}}
    verdict = bench.verdicts({"events": {"roles": roles}}, HOUR, only=["freshness"])[0]
    assert (verdict.outcome.value, verdict.value) == ("bad", 90_000.0)
