"""Kafka: how many records were produced when, how far a consumer group is behind, how long a topic is silent.

Brokers are asked for offsets only, never for records. Kafka finds the first offset at or after a time
(``ListOffsets``), so the count of a step is the difference of two offsets of each partition.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from checks.window import Window, micros
from monitor.config_streams import StreamConfig
from monitor.errors import EngineError
from monitor.streams.rows import Row, bounds

if TYPE_CHECKING:
    from confluent_kafka import Consumer

Place = tuple[str, int]
Offsets = dict[Place, int]
# What stands for a time in ListOffsets, and what comes back where no record is that young.
LATEST, EARLIEST, NO_RECORD = -1, -2, -1
# A record dated further ahead than this spoils the counts by record time.
AHEAD_MS = 60_000
# How far back the age of a record is looked for, and how exactly.
OLDEST_MS, EXACT_MS = 30 * 86_400_000, 1_000
# Lag is of the present; a window that ended longer ago has none.
PRESENT_US = 300_000_000
_QUIET = logging.getLogger("recwatch.kafka")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class Kafka:
    """One stream of a Kafka cluster.

    Args:
        name: Its name in the configuration.
        config: Servers, topics, group and options of the client.
        now: Tells the Unix time in seconds.
    """

    def __init__(self, name: str, config: StreamConfig, now: Callable[[], float]) -> None:
        self.name = name
        self._config, self._now = config, now
        self._client: Consumer | None = None
        # One question at a time: datasets share the client, and ticks run in several threads.
        self._lock = threading.Lock()

    def read(self, reading: str, span: Window) -> list[Row]:
        """Return the rows of a span: counts by step, or the present lag of each partition.

        Raises:
            EngineError: The cluster cannot be reached, a topic or group is not there, or the counts
                cannot be told.

        Cost:
            For counts one request to each broker for each step, and four more; for ages about 22.
        """
        with self._lock:
            try:
                return list(self._count(span) if reading == "count" else self._present(reading, span))
            except EngineError:
                raise
            except Exception as error:
                raise EngineError(f"stream {self.name}: {self._said(error)}", unreachable=True) from error

    def probe(self) -> None:
        """Look up the topics.

        Raises:
            EngineError: The cluster cannot be reached, or a topic is not there.
        """
        with self._lock:
            try:
                self._places()
            except EngineError:
                raise
            except Exception as error:
                raise EngineError(f"stream {self.name}: {self._said(error)}", unreachable=True) from error

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    # -- what is told ----------------------------------------------------------------------------

    def _count(self, span: Window) -> Iterator[Row]:
        edges = bounds(self.name, span, self._config.step)
        places = self._places()
        earliest, latest = self._offsets(places, EARLIEST), self._offsets(places, LATEST)
        self._refuse_records_ahead(places)
        before = self._at(places, edges[0], latest)
        for place, offset in before.items():
            if earliest[place] and offset == earliest[place] < latest[place]:
                raise EngineError(
                    f"stream {self.name}: topic {place[0]} does not keep the records of {span} any more (partition"
                    f" {place[1]} begins at offset {offset}); raise its retention, or judge a later window"
                )
        for start, end in pairwise(edges):
            after = self._at(places, end, latest)
            counts: dict[str, int] = {}
            for place, producer in places.items():
                counts[producer] = counts.get(producer, 0) + max(0, after[place] - before[place])
            yield from (Row(start, producer or None, count) for producer, count in counts.items() if count)
            before = after

    def _present(self, reading: str, span: Window) -> Iterator[Row]:
        now_us = int(self._now() * 1_000_000)
        if abs(now_us - micros(span.end)) > PRESENT_US:
            return
        at, places = micros(span.end) - 1, self._places()
        latest = self._offsets(places, LATEST)
        if reading == "silence_seconds":
            yield from (Row(at, producer or None, age) for producer, age in self._silence(places, latest).items())
            return
        values: Mapping[Place, float] = latest
        if reading != "end_offset":
            values = self._lag(places, latest, in_seconds=reading == "lag_seconds")
        for place, value in values.items():
            producer = places[place]
            yield Row(at, f"{producer}/{place[1]}" if producer else str(place[1]), value)

    def _lag(self, places: Mapping[Place, str], latest: Offsets, in_seconds: bool) -> dict[Place, float]:
        """Return how many records a group has still to read, or how old the oldest of them is."""
        committed = self._committed(places)
        earliest = self._offsets(places, EARLIEST)
        # A partition that the group has never committed in is unread from its beginning.
        read = {place: committed.get(place, earliest[place]) for place in places}
        behind = {place: max(0, latest[place] - read[place]) for place in places}
        if not in_seconds:
            return dict(behind)
        ages = self._ages({place: max(read[place], earliest[place]) for place, count in behind.items() if count})
        return {place: ages.get(place, 0.0) for place in places}

    def _silence(self, places: Mapping[Place, str], latest: Offsets) -> dict[str, float]:
        """Return how long ago the newest record of each producer was made; absent where there is none."""
        earliest = self._offsets(places, EARLIEST)
        ages = self._ages({place: end - 1 for place, end in latest.items() if end > earliest[place]})
        found: dict[str, float] = {}
        for place, age in ages.items():
            found[places[place]] = min(age, found.get(places[place], age))
        return found

    def _ages(self, offsets: Offsets) -> dict[Place, float]:
        """Return how many seconds ago the record at each offset was made, to a second.

        The latest time whose first record does not lie behind the offset is searched for by halves, in
        all partitions at once: it is the record's own time where times do not run backwards.
        """
        now_ms = int(self._now() * 1_000)
        low, high = dict.fromkeys(offsets, now_ms - OLDEST_MS), dict.fromkeys(offsets, now_ms + AHEAD_MS)
        while offsets and max(high[place] - low[place] for place in offsets) > EXACT_MS:
            middle = {place: (low[place] + high[place]) // 2 for place in offsets}
            found = self._ask(middle)
            for place, offset in offsets.items():
                is_at_or_before = found[place] != NO_RECORD and found[place] <= offset
                (low if is_at_or_before else high)[place] = middle[place]
        return {place: max(0.0, (now_ms - low[place]) / 1_000) for place in offsets}

    # -- what is asked ---------------------------------------------------------------------------

    def _places(self) -> dict[Place, str]:
        """Return every partition with its producer."""
        client, found = self._connected(), {}
        for producer, topic in self._config.by_topic.items():
            told = client.list_topics(topic, timeout=self._seconds).topics[topic]
            if told.error is not None:
                raise EngineError(f"stream {self.name}: topic {topic}: {told.error.str()}; create it, or mend the name")
            found.update({(topic, partition): producer for partition in sorted(told.partitions)})
        return found

    def _offsets(self, places: Mapping[Place, str], marker: int) -> Offsets:
        return self._ask(dict.fromkeys(places, marker))

    def _at(self, places: Mapping[Place, str], at_us: int, latest: Offsets) -> Offsets:
        """Return the first offset at or after a moment; the end where no record is that young."""
        found = self._ask(dict.fromkeys(places, -(-at_us // 1_000)))
        return {place: latest[place] if offset == NO_RECORD else offset for place, offset in found.items()}

    def _ask(self, times_ms: Mapping[Place, int]) -> Offsets:
        from confluent_kafka import KafkaException, TopicPartition

        asked = [TopicPartition(topic, partition, at) for (topic, partition), at in times_ms.items()]
        found: Offsets = {}
        for answer in self._connected().offsets_for_times(asked, timeout=self._seconds) if asked else ():
            if answer.error is not None:
                raise KafkaException(answer.error)
            found[answer.topic, answer.partition] = answer.offset
        return found

    def _committed(self, places: Mapping[Place, str]) -> Offsets:
        from confluent_kafka import KafkaException, TopicPartition

        found: Offsets = {}
        asked = [TopicPartition(*place) for place in places]
        for answer in self._connected().committed(asked, timeout=self._seconds):
            if answer.error is not None:
                raise KafkaException(answer.error)
            if answer.offset >= 0:
                found[answer.topic, answer.partition] = answer.offset
        if not found:
            topics = ", ".join(sorted({topic for topic, _partition in places}))
            raise EngineError(
                f"stream {self.name}: group {self._config.group} has never committed an offset of {topics};"
                " mend the name, or start the consumer"
            )
        return found

    def _refuse_records_ahead(self, places: Mapping[Place, str]) -> None:
        """Refuse to count where a record is dated ahead: whatever comes behind it would count too late.

        A broker that cannot look offsets up by time, and names one all the same, is found out, too.
        """
        for (topic, partition), offset in self._offsets(places, int(self._now() * 1_000) + AHEAD_MS).items():
            if offset != NO_RECORD:
                raise EngineError(
                    f"stream {self.name}: topic {topic}, partition {partition}: the record at offset {offset} is dated"
                    " ahead of the clock, so counts by time would be wrong; set message.timestamp.type to"
                    " LogAppendTime, or mend the producer's clock"
                )

    @property
    def _seconds(self) -> float:
        return self._config.timeout.total_seconds()

    def _connected(self) -> Consumer:
        if self._client is None:
            try:
                from confluent_kafka import Consumer
            except ImportError as error:
                raise EngineError(f"stream {self.name}: {MISSING}") from error
            own = {key: value.get_secret_value() for key, value in self._config.options.items()}
            # It joins no group and commits nothing: the group is named to read what it has committed.
            fixed: dict[str, Any] = {
                "bootstrap.servers": self._config.kafka, "group.id": self._config.group or "recwatch",
                "enable.auto.commit": False, "allow.auto.create.topics": False,
            }  # fmt: skip
            self._client = Consumer({"log_level": 0, "client.id": "recwatch", **own, **fixed}, logger=_QUIET)
        return self._client

    def _said(self, error: Exception) -> str:
        """Return what the client says of an error, with the values of options masked."""
        kafka_error = error.args[0] if error.args else error
        text = str(getattr(kafka_error, "str", lambda: kafka_error)()).strip().splitlines() or [type(error).__name__]
        said = text[0]
        for value in self._config.options.values():
            if value.get_secret_value():
                said = said.replace(value.get_secret_value(), "***")
        return f"{self._config.kafka}: {said}; check the servers, the options and the network"


MISSING = "needs the package confluent-kafka, which is not installed; install recwatch[kafka]"
# What the client is given by recwatch itself.
FIXED_OPTIONS = ("bootstrap.servers", "group.id", "enable.auto.commit", "allow.auto.create.topics")
