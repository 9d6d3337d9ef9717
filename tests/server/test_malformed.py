"""The server over raw sockets: requests that are none, and clients that hold connections instead of talking."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from monitor import connections
from monitor.server import Server

PATHS = (
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/..%5c..%5cetc/passwd",
    "/runbooks/../../pyproject.toml",
    "/runbooks/%2e%2e%2fREADME",
    "/runbooks//etc/passwd",
    "/evidence/../../../etc/passwd",
    "/evidence/%00",
    "/evidence/';drop table verdicts;--",
    "/evidence/" + "x" * 9_000,
    "/%ff%fe",
    "/%",
    "/%zz",
    "/\x01",
    "/metrics\u2028",
)
QUERIES = (
    "span=%ff%fe", "span=%00", "span=" + "9" * 5_000, "span=-1", "span[]=1", "dataset=%ff&check=%c3%28", "a" * 9_000,
    "dataset='%20or%201=1;--&check=freshness", "dataset=%3Cscript%3Ealert(1)%3C/script%3E&check=x",
    "&".join(f"a{at}=1" for at in range(1_500)), "=&=&;;%%", "span=week&span=day",
    "dataset=events&check=freshness&span=x",
)  # fmt: skip


def raw(server: Server, sent: bytes, half_closed: bool = True) -> bytes:
    """Send bytes, and by default end; return all that is answered."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        # A server that has had enough answers and closes before all is sent or the end is said; its answer is there.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65_536):
                said += more
        return said


def status(said: bytes) -> int | None:
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/") else None


def is_well(server: Server) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status == 200 and b"recwatch_build_info" in answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_lead_nowhere_else(serve: Any, path: str) -> None:
    server = serve()
    said = raw(server, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(said) in (400, 404)
    assert b"root:" not in said
    assert b"[project]" not in said


@pytest.mark.parametrize("path", ["/", "/check", "/api/status", "/metrics", "/healthz", "/evidence/1"])
def test_queries_of_all_kinds_are_answered(serve: Any, path: str) -> None:
    server = serve()
    for query in QUERIES:
        said = raw(server, f"GET {path}?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert status(said) in (200, 400, 404), query
        assert b"<script>alert" not in said


MALFORMED: dict[str, tuple[bytes, tuple[int | None, ...]]] = {
    "nothing": (b"", (None,)),
    "empty lines": (b"\r\n" * 1_000, (None,)),
    "no version": (b"GET /\r\n\r\n", (200, 400)),
    "strange version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", (200, 400, 505)),
    "no path": (b"GET  HTTP/1.1\r\n\r\n", (400, 404)),
    "lower case method": (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 405)),
    "binary": (bytes(range(256)) + b"\r\n\r\n", (400, None)),
    "binary in header": (b"GET / HTTP/1.1\r\nX: \x00\x01\xff\r\nConnection: close\r\n\r\n", (200, 400)),
    "header without colon": (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", (400,)),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", (400,)),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: localhost\n\n", (200, 400, None)),
    "folded header": (b"GET / HTTP/1.1\r\nX: a\r\n b\r\nConnection: close\r\n\r\n", (200, 400)),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 5_000 + b"\r\n", (400, 431)),
    "huge header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000, (431, None)),
    "negative length": (b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", (400,)),
    "length of letters": (b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n", (400,)),
    "two lengths": (b"POST /api/events HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", (400,)),
    "length and chunks": (
        b"POST /api/events HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400, 415, 200),
    ),
    "huge length": (b"POST /api/events HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", (413,)),
    "chunks of garbage": (
        b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        (400,),
    ),
    "a huge chunk": (
        b"POST /api/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        (400, 413, None),
    ),
    "unknown encoding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n", (400, 501)),
    "body cut off": (b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", (None, 400)),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\nX-Secret: canary\r\nConnection: close\r\n\r\n", (405,)),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (400, 404, 405)),
    "connect": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (400, 404, 405)),
    "whole address": (b"GET http://example.org/healthz HTTP/1.1\r\nConnection: close\r\n\r\n", (200, 404)),
    "underscore": (b"GET / HTTP/1.1\r\nContent_Length: 5\r\nConnection: close\r\n\r\n", (200, 400)),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_refused_and_the_server_stays_well(serve: Any, name: str) -> None:
    sent, expected = MALFORMED[name]
    server = serve()
    said = raw(server, sent)
    assert status(said) in expected
    assert b"Traceback" not in said
    assert b"canary" not in said, "nothing of a request is sent back"
    assert is_well(server)


def test_pipelined_requests_are_answered_in_order(serve: Any) -> None:
    pair = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    said = raw(serve(), pair % b"" * 19 + pair % b"Connection: close\r\n", half_closed=False)
    found = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", said)]
    assert found == [200, 404] * 20


def test_a_header_of_the_request_gets_into_no_answer(serve: Any) -> None:
    said = raw(serve(), b"GET /%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(said) == 404
    assert b"\r\nX-Injected" not in said


def test_what_is_posted_as_an_event_may_be_anything(serve: Any) -> None:
    server = serve()
    bodies = (b"", b"null", b"[]", b'{"text": 1}', b'{"text": "\\ud800"}', b"\xff\xfe", b"[" * 9_000, b'{"text": NaN}',
              b'{"text": "\\u0000 x"}', b'{"at": "0001-01-01T00:00:00Z", "text": "x"}', b"1e999999",
              b'{"text": "' + b"x" * 20_000 + b'"}')  # fmt: skip
    for path in ("/api/events", "/alertmanager/pager"):
        for body in bodies:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            said = raw(server, head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert status(said) in (200, 400), (path, body[:40], said)
    assert is_well(server)


# -- clients that hold connections ---------------------------------------------------------------


@contextlib.contextmanager
def holding(server: Server, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    held = []
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            held.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(sent)
        yield held
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /api/events HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["silent", "half a line", "half a header", "half a body"],
)
def test_clients_that_hold_connections_keep_no_scrape_waiting(serve: Any, sent: bytes) -> None:
    server = serve()
    with holding(server, 3 * connections.MOST_CONNECTIONS, sent):
        started = time.monotonic()
        assert is_well(server)
        assert is_well(server)
        assert time.monotonic() - started < 5


def test_a_request_that_is_never_finished_is_ended(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LONGEST_REQUEST_SECONDS", 0.5)
    server = serve()
    with holding(server, 1, b"GET / HTTP/1.1\r\nX: ") as (trickling,), holding(server, 1, b"") as (silent,):
        # A byte now and then is no progress.
        deadline = time.monotonic() + 5
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                trickling.sendall(b"a")
                trickling.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    assert trickling.recv(1) == b""
                    break
        assert time.monotonic() < deadline
        assert silent.recv(1) == b""


def test_few_bodies_are_held_in_memory_at_once(serve: Any) -> None:
    server = serve()
    head = b"POST /alertmanager/pager HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1900000\r\n\r\n" + b"x" * 50_000
    with holding(server, 5 * connections.MOST_UPLOADS, head) as held:
        deadline = time.monotonic() + 10
        open_ = held
        while len(open_) > connections.MOST_UPLOADS + 1 and time.monotonic() < deadline:
            assert is_well(server)
            open_ = [connection for connection in held if not _is_closed(connection)]
        assert len(open_) <= connections.MOST_UPLOADS + 1


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_client_that_does_not_read_keeps_nobody_waiting(serve: Any) -> None:
    server = serve()
    with holding(server, 40, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30):
        assert is_well(server)


def test_a_connection_in_use_is_kept_between_scrapes(serve: Any) -> None:
    server = serve()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.connect()
    own = connection.sock
    for _ in range(5):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        assert connection.sock is own
    connection.close()
