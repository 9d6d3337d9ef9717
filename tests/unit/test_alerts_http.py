"""Servers that never fall silent and never end either: whoever asks them is free again when the time is over."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from smtplib import SMTPServerDisconnected
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from alerts.http import Client
from alerts.mail import Mail
from alerts.notifier import DeliveryError
from alerts.slack import Slack
from monitor.config_streams import StreamConfig
from monitor.errors import EngineError
from monitor.streams.prometheus import Prometheus

BEGINNING = b"HTTP/1.1 200 OK\r\n"
# What comes at once, and what then comes again and again, a byte at a time.
DRIPS = {
    "status": (b"HTTP/1.1 200 ", b"O"),
    "headers": (BEGINNING, b"X-Header: x\r\n"),
    "body": (BEGINNING + b"Content-Length: 9000\r\n\r\n", b" "),
    "body without an end": (BEGINNING + b"\r\n", b" "),
    "chunks": (BEGINNING + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}
LIMIT_SECONDS = 1.0


@pytest.fixture(params=DRIPS)
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of a server that drips when it was asked something."""
    with _served(*DRIPS[request.param]) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _served(at_once: bytes, again: bytes, speaks_first: bool = False) -> Iterator[int]:
    """Serve what sends a byte every 50 ms, for 5 s."""

    class Dripping(BaseRequestHandler):
        def handle(self) -> None:
            if not speaks_first:
                self.request.recv(65_536)
            ends = time.monotonic() + 5
            with contextlib.suppress(OSError):
                self.request.sendall(at_once)
                for byte in itertools.cycle(again):
                    if time.monotonic() > ends:
                        return
                    self.request.sendall(bytes([byte]))
                    time.sleep(0.05)

    with ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_message_to_a_server_that_drips_fails_in_time(dripping: str) -> None:
    client = Client("hook", LIMIT_SECONDS)
    _fails_in_time(lambda: client.post(dripping, {}), DeliveryError, "hook: not reached")


def test_a_message_to_a_slack_that_drips_fails_in_time(dripping: str) -> None:
    bot = Slack("team", token="xoxb", channel="C01", base_url=f"{dripping}/api/", timeout_seconds=LIMIT_SECONDS)
    _fails_in_time(lambda: bot._call("chat_postMessage", channel="C01", text="x"), DeliveryError, "team: not reached")


def test_a_query_to_a_prometheus_that_drips_fails_in_time(dripping: str) -> None:
    stream = Prometheus(
        "gateway", StreamConfig.model_validate({"prometheus": dripping, "query": "up", "timeout": "1s"})
    )
    with contextlib.closing(stream):
        _fails_in_time(stream.probe, EngineError, "Prometheus is not reached")


@pytest.mark.parametrize("greeting", [(b"220 ", b"x"), (b"220-mail\r\n", b"220-x\r\n")])
def test_a_mail_to_a_server_that_drips_fails_in_time(greeting: tuple[bytes, bytes]) -> None:
    with _served(*greeting, speaks_first=True) as port:
        mail = Mail(
            "team", host="127.0.0.1", port=port, sender="a@example.com", recipients=["b@example.com"],
            security="none", timeout_seconds=LIMIT_SECONDS,
        )  # fmt: skip
        _fails_in_time(mail._connected, SMTPServerDisconnected, "timed out")


def _fails_in_time(asks: Callable[[], object], error: type[Exception], says: str) -> None:
    started = time.monotonic()
    with pytest.raises(error, match=says):
        asks()
    assert LIMIT_SECONDS - 0.1 < time.monotonic() - started < 2 * LIMIT_SECONDS


@pytest.mark.parametrize(
    ("where", "why"), [("127.0.0.1:1", "connection refused"), ("nowhere.invalid", "no machine has this name")]
)
@pytest.mark.parametrize("ask", [
    lambda where: Client("hook").post(f"http://{where}/secret", {}),
    lambda where: Slack("team", token="xoxb-1", channel="C01", base_url=f"http://{where}/")._call("api_test"),
    lambda where: Prometheus(
        "load", StreamConfig.model_validate({"prometheus": f"http://{where}/secret", "query": "up"})
    ).probe(),
])  # fmt: skip
def test_why_a_place_is_not_reached_is_said_without_its_address(
    where: str, why: str, ask: Callable[[str], object]
) -> None:
    with pytest.raises((DeliveryError, EngineError), match=rf"not reached \({why}\)") as caught:
        ask(where)
    assert where not in str(caught.value)
    assert "secret" not in str(caught.value)
