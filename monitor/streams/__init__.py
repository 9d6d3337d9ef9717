"""Streams: what is asked of a Kafka cluster or a Prometheus when a dataset is read from it.

Nothing is kept between two readings: the same span read again gives the same rows, so that a
restart loses nothing and counts nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from checks.window import Window
from monitor.config import Config
from monitor.config_streams import StreamConfig
from monitor.streams.kafka import Kafka
from monitor.streams.prometheus import Prometheus
from monitor.streams.rows import Row


class Stream(Protocol):
    """Something that tells counts or values over time."""

    name: str

    def read(self, reading: str, span: Window) -> list[Row]:
        """Return the rows of a span.

        Raises:
            EngineError: It cannot be reached, refuses, or cannot tell.
        """

    def probe(self) -> None:
        """Ask for something small.

        Raises:
            EngineError: It cannot be reached, or refuses.
        """

    def close(self) -> None:
        """Close all connections."""


def connect_streams(config: Config) -> Mapping[str, Stream]:
    """Return the streams of a configuration; nothing is connected yet."""
    return {name: _stream(name, stream) for name, stream in config.streams.items()}


def _stream(name: str, config: StreamConfig) -> Stream:
    if config.kafka is not None:
        return Kafka(name, config, time.time)
    return Prometheus(name, config)
