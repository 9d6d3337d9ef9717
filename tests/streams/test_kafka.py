"""Counts, lag and silence of Kafka topics, exact to the record, from a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from checks.window import Window
from monitor.config_streams import StreamConfig
from monitor.errors import EngineError
from monitor.streams.kafka import Kafka

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1_000)
MINUTE = timedelta(minutes=1)


def stream(broker: Any, **parts: Any) -> Kafka:
    config = StreamConfig.model_validate({"kafka": broker.servers, "timeout": "5s", **parts})
    return Kafka("clicks", config, lambda: NOON.timestamp())


def counted(stream: Kafka, start: datetime, end: datetime) -> dict[tuple[str, str | None], float]:
    rows = stream.read("count", Window(start, end))
    return {(datetime.fromtimestamp(row.at_us / 1e6, UTC).strftime("%H:%M"), row.source): row.value for row in rows}


def before(seconds: float) -> int:
    """Return the time of a record that was made so long before noon."""
    return NOON_MS - round(seconds * 1_000)


@pytest.fixture
def shop(broker: Any) -> Iterator[Kafka]:
    """Two producers: web on two partitions, ios on one."""
    web, ios = broker.topic("shop.web", 2), broker.topic("shop.ios")
    broker.produce(web, [before(179.999), before(150), before(120.001)], 0)
    broker.produce(web, [before(180), before(120), before(60)], 1)
    broker.produce(ios, [before(120)] * 7 + [before(1)])
    with closing(stream(broker, topics={"web": web, 'io"s': ios})) as found:
        yield found
    broker.drop(web)
    broker.drop(ios)


def test_each_minute_has_what_was_produced_in_it(shop: Kafka) -> None:
    assert counted(shop, NOON - 4 * MINUTE, NOON) == {
        ("11:57", "web"): 4, ("11:58", "web"): 1, ("11:58", 'io"s'): 7, ("11:59", "web"): 1, ("11:59", 'io"s'): 1,
    }  # fmt: skip


def test_windows_add_up_to_all_records_whoever_asks_and_how_often(broker: Any, shop: Kafka) -> None:
    whole = counted(shop, NOON - 4 * MINUTE, NOON)
    parts: dict[tuple[str, str | None], float] = {}
    for minute in range(4):
        # As after a restart: nothing is remembered from one to the next.
        with closing(stream(broker, topics=shop._config.topics)) as again:
            parts |= counted(again, NOON - (4 - minute) * MINUTE, NOON - (3 - minute) * MINUTE)
    assert parts == whole
    assert sum(parts.values()) == 14


def test_records_that_come_out_of_order_are_counted_once(broker: Any) -> None:
    topic = broker.topic("jumbled")
    broker.produce(topic, [before(130), before(70), before(125), before(50), before(65), before(10)])
    with closing(stream(broker, topic=topic)) as found:
        # What comes late counts with the newest record before it.
        assert counted(found, NOON - 3 * MINUTE, NOON) == {("11:57", None): 1, ("11:58", None): 2, ("11:59", None): 3}


def test_lag_is_exact_by_partition(broker: Any) -> None:
    topic = broker.topic("lagging", 3)
    broker.produce(topic, [before(at) for at in (300, 200, 100, 50)], 0)
    broker.produce(topic, [before(at) for at in (40, 30)], 1)
    broker.produce(topic, [before(600)] * 5, 2)
    broker.commit(topic, "loader", [1, 2])
    now = Window(NOON - MINUTE, NOON)
    with closing(stream(broker, topic=topic, group="loader")) as found:
        rows = found.read("lag_records", now)
        # The group has never committed in the third partition, so all of it is unread.
        assert [(row.source, row.value) for row in rows] == [("0", 3), ("1", 0), ("2", 5)]
        assert all(NOON - MINUTE <= datetime.fromtimestamp(row.at_us / 1e6, UTC) < NOON for row in rows)
        ages = {row.source: row.value for row in found.read("lag_seconds", now)}
        assert ages == {"0": pytest.approx(200, abs=1), "1": 0, "2": pytest.approx(600, abs=1)}
        assert [(row.source, row.value) for row in found.read("end_offset", now)] == [("0", 4), ("1", 2), ("2", 5)]
        assert [row.value for row in found.read("silence_seconds", now)] == [pytest.approx(30, abs=1)]
        # What the lag was an hour ago nobody knows.
        assert found.read("lag_records", Window(NOON - 61 * MINUTE, NOON - 60 * MINUTE)) == []


def test_a_group_that_never_committed_is_no_lag_of_0(broker: Any) -> None:
    topic = broker.topic("unread")
    broker.produce(topic, [before(10)])
    says = "group nobody has never committed an offset of unread; mend the name"
    with closing(stream(broker, topic=topic, group="nobody")) as found, pytest.raises(EngineError, match=says):
        found.read("lag_records", Window(NOON - MINUTE, NOON))


def test_an_empty_topic_is_silent_without_a_figure(broker: Any) -> None:
    with closing(stream(broker, topic=broker.topic("empty"))) as found:
        assert found.read("silence_seconds", Window(NOON - MINUTE, NOON)) == []
        assert counted(found, NOON - MINUTE, NOON) == {}


def test_a_topic_that_is_gone_is_named_and_counts_anew_once_it_is_back(broker: Any) -> None:
    topic = broker.topic("passing")
    broker.produce(topic, [before(90), before(80), before(30)])
    with closing(stream(broker, topic=topic)) as found:
        assert counted(found, NOON - 2 * MINUTE, NOON) == {("11:58", None): 2, ("11:59", None): 1}
        broker.drop(topic)
        with pytest.raises(EngineError, match=r"stream clicks: topic passing: .*Unknown topic.*; create it, or mend"):
            counted(found, NOON - 2 * MINUTE, NOON)
        with pytest.raises(EngineError, match="topic passing"):
            found.probe()
        broker.topic(topic)
        broker.produce(topic, [before(20)])
        assert counted(found, NOON - 2 * MINUTE, NOON) == {("11:59", None): 1}


def test_a_broker_that_is_down_is_an_error_and_nothing_is_lost_by_it(broker: Any) -> None:
    topic = broker.topic("steady")
    broker.produce(topic, [before(90)])
    with closing(stream(broker, topic=topic, timeout="1s")) as found:
        assert counted(found, NOON - 2 * MINUTE, NOON) == {("11:58", None): 1}
        broker.disconnect()
        try:
            with pytest.raises(EngineError, match=r"stream clicks: 127\.0\.0\.1:") as caught:
                counted(found, NOON - 2 * MINUTE, NOON)
            assert caught.value.unreachable
        finally:
            broker.connect()
        broker.produce(topic, [before(30)] * 3)
        found._config = found._config.model_copy(update={"timeout": timedelta(seconds=10)})
        assert counted(found, NOON - 2 * MINUTE, NOON) == {("11:58", None): 1, ("11:59", None): 3}


def test_a_record_dated_ahead_is_told_of_and_so_is_a_broker_that_knows_no_times(broker: Any) -> None:
    topic = broker.topic("ahead")
    broker.produce(topic, [before(90), NOON_MS + 3_600_000, before(30)])
    with closing(stream(broker, topic=topic)) as found:
        with pytest.raises(EngineError, match="partition 0: the record at offset 1 is dated ahead of the clock"):
            counted(found, NOON - 2 * MINUTE, NOON)
        broker.looks_up_times = False
        with pytest.raises(EngineError, match="the record at offset 0 is dated ahead of the clock"):
            counted(found, NOON - 2 * MINUTE, NOON)


def test_what_retention_has_deleted_is_not_taken_for_nothing(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = broker.topic("short")
    broker.produce(topic, [before(at) for at in (150, 140, 90, 80, 30)])
    with closing(stream(broker, topic=topic)) as found:
        asked = found._ask

        def without_the_first_three(times_ms: Any) -> Any:
            # The small broker deletes nothing; so does its log begin at offset 3.
            return {place: 3 if 0 <= offset < 3 else offset for place, offset in asked(times_ms).items()}

        monkeypatch.setattr(found, "_ask", without_the_first_three)
        with pytest.raises(EngineError, match=r"does not keep the records of .* any more \(partition 0 begins at off"):
            counted(found, NOON - 3 * MINUTE, NOON)
        assert counted(found, NOON - MINUTE, NOON) == {("11:59", None): 1}


def test_the_client_is_told_off_without_the_values_of_options(broker: Any) -> None:
    options = {"sasl.mechanism": "s3cret-mechanism", "security.protocol": "s3cret-protocol"}
    with closing(stream(broker, topic="any", options=options)) as found, pytest.raises(EngineError) as caught:
        found.probe()
    assert "s3cret" not in str(caught.value)
    assert "security.protocol" in str(caught.value)


def test_a_span_that_takes_too_many_requests_is_refused(shop: Kafka) -> None:
    with pytest.raises(EngineError, match=r"10,080 steps in .* are too many to ask for, at most 1,500; choose a short"):
        shop.read("count", Window(NOON - timedelta(days=7), NOON))
