"""The server over real HTTP: paths, methods, health, headers, failures, limits, and a quiet end."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor import evidence, happenings
from monitor.app import App
from monitor.clock import ManualClock
from monitor.config import Config, ServerConfig
from monitor.errors import ConfigError, StateError
from monitor.records import Judged
from monitor.resolve import build
from monitor.server import Server
from monitor.status import Watched
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
PATHS = ("/", "/metrics", "/healthz", "/readyz", "/api/status")


@dataclass
class Stage:
    """A served application whose health can be set."""

    server: Server
    store: Store
    problem: str | None = None
    pending: str | None = None

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    config = Config.model_validate(
        {"pipeline": "shop", "datasets": {"events": {"files": "x.csv", "roles": {"event_time": "at"}}}}
    )
    pipeline, store = build(config), Store(f"sqlite:///{tmp_path}/state.db", "shop")
    window = Window(NOON - timedelta(minutes=1), NOON)
    verdict = Verdict(
        "freshness", "events", window, Outcome.GOOD, "lag_seconds", 9.0, 300.0, reason="newest is 9 s old"
    )
    store.commit(Judged("freshness", "events", window, [verdict], NOON, 0.1, Tally("events", window)))
    watched = Watched(config, pipeline.checks, {}, NOON)
    app = App(store, ManualClock(NOON), lambda: watched, lambda: stage.problem, lambda: stage.pending)
    stage = Stage(Server(ServerConfig(port=0), app), store)
    stage.server.start()
    yield stage
    stage.server.close()
    store.close()
    pipeline.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Keep(), logging.getLogger("recwatch")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(handler)


def test_every_path_answers_with_its_own_kind(stage: Stage) -> None:
    kinds = {path: stage.ask(path)[1]["content-type"] for path in PATHS}
    assert kinds["/"] == "text/html; charset=utf-8"
    assert kinds["/api/status"] == "application/json"
    assert kinds["/metrics"].startswith("text/plain; version=")
    assert {stage.ask(path)[0] for path in PATHS} == {200}


def test_a_query_does_not_change_the_path(stage: Stage) -> None:
    assert stage.ask("/healthz?full=1")[0] == 200


@pytest.mark.parametrize("path", ["/favicon.ico", "/metrics/", "/api", "/..%2f..%2fetc/passwd", "/static/x.js"])
def test_everything_else_is_not_found(stage: Stage, path: str) -> None:
    status, headers, body = stage.ask(path)
    assert status == 404
    assert b"/api/status" in body
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(stage: Stage, path: str, method: str) -> None:
    status, headers, _body = stage.ask(path, method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get_and_no_body(stage: Stage, path: str) -> None:
    status, headers, body = stage.ask(path, "HEAD")
    _status, same, content = stage.ask(path)
    assert (status, body) == (200, b"")
    assert headers["content-type"] == same["content-type"]
    assert int(headers["content-length"]) > 0
    assert int(same["content-length"]) == len(content)


def test_health_follows_the_schedule(stage: Stage) -> None:
    assert stage.ask("/healthz")[::2] == (200, b"ok\n")
    stage.problem = "the schedule has not moved for 61 s"
    assert stage.ask("/healthz")[::2] == (503, b"the schedule has not moved for 61 s\n")
    assert stage.ask("/readyz")[0] == 200
    page = stage.ask("/")[2].decode()
    assert "<h1>" in page
    assert "The checks have stopped" in page
    assert "is good" not in page


def test_readiness_waits_for_the_first_runs(stage: Stage) -> None:
    stage.pending = "3 checks have not run yet"
    assert stage.ask("/readyz")[::2] == (503, b"3 checks have not run yet\n")
    assert stage.ask("/healthz")[0] == 200
    stage.pending = None
    assert stage.ask("/readyz")[0] == 200


# -- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_answers_are_kept_in_their_place(stage: Stage, path: str) -> None:
    _status, headers, _body = stage.ask(path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers
    assert headers["server"] == "recwatch", "no version to look up holes for"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "http" not in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_the_page_asks_nobody_else(stage: Stage) -> None:
    page = stage.ask("/")[2].decode()
    links = [word for word in page.replace("'", '"').split('"') if word.startswith(("http:", "https:", "//"))]
    assert set(links) <= {"http://www.w3.org/2000/svg"}


# -- metrics -------------------------------------------------------------------------------------


def test_metrics_come_in_the_format_asked_for(stage: Stage) -> None:
    plain = stage.ask("/metrics")[2].decode()
    _status, headers, body = stage.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.decode().endswith("# EOF\n")

    def values(families: Iterable[Any]) -> dict[tuple[str, str], float]:
        return {
            (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("recwatch_")
        }

    assert values(parse(plain)) == values(parse_openmetrics(body.decode()))
    assert len(values(parse(plain))) > 40
    assert "process_resident_memory_bytes" in plain


def test_metrics_are_compressed_on_request(stage: Stage) -> None:
    _status, headers, body = stage.ask("/metrics", Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert b"recwatch_build_info" in gzip.decompress(body)


def test_one_metric_can_be_asked_for(stage: Stage) -> None:
    body = stage.ask("/metrics?name[]=recwatch_build_info")[2].decode()
    assert {line.split("{")[0] for line in body.splitlines() if not line.startswith("#")} == {"recwatch_build_info"}


def test_a_lost_state_is_an_error_and_logged_once(
    stage: Stage, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StateError("state sqlite:///state.db: cannot be read: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "series", fail)
        for _ in range(3):
            status, _headers, body = stage.ask("/metrics")
            assert status == 503
            assert body == b"state sqlite:///state.db: cannot be read: disk I/O error\n"
        assert stage.ask("/healthz")[0] == 200
        assert stage.ask("/")[0] == 200, "the page does not read what failed"
    assert stage.ask("/metrics")[0] == 200
    assert [line.split()[0] for line in logged] == ["request_failed", "request_answered_again"]


def test_an_unforeseen_failure_tells_the_log_and_not_the_reader(
    stage: Stage, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("postgresql://me:hunter2@db")

    monkeypatch.setattr(stage.store, "latest", fail)
    status, _headers, body = stage.ask("/api/status")
    assert status == 500
    assert b"hunter2" not in body
    assert len(logged) == 1
    assert "request_failed" in logged[0]
    assert "hunter2" not in logged[0]


def test_what_fails_under_every_name_is_logged_once(
    stage: Stage, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: Store, _name: str) -> None:
        raise StateError("state sqlite:///state.db: cannot be read: disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(evidence, "find", fail)
        assert [stage.ask(f"/evidence/{name}")[0] for name in ("a", "b", "c/d")] == [503] * 3
    assert stage.ask("/evidence/e")[0] == 404
    assert [line.split()[:2] for line in logged] == [
        ["request_failed", "path=/evidence/"],
        ["request_answered_again", "path=/evidence/"],
    ]


def test_many_at_once_get_the_same_answer(stage: Stage) -> None:
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(len(stage.ask("/api/status")[2]))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(answers) == 12
    assert len(set(answers)) == 1


# -- address, limits, end ------------------------------------------------------------------------


def nothing(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def test_a_free_port_is_taken_and_told() -> None:
    first, second = Server(ServerConfig(port=0), nothing), Server(ServerConfig(port=0), nothing)
    assert first.port != second.port
    assert first.url == f"http://127.0.0.1:{first.port}/"
    first.close()
    second.close()


def test_the_address_shown_can_be_opened_from_here() -> None:
    everywhere = Server(ServerConfig(host="0.0.0.0", port=0), nothing)
    assert everywhere.url == f"http://127.0.0.1:{everywhere.port}/"
    everywhere.close()
    try:
        six = Server(ServerConfig(host="::1", port=0), nothing)
    except ConfigError:
        pytest.skip("there is no IPv6 here")
    assert six.url == f"http://[::1]:{six.port}/"
    six.close()


def test_a_taken_port_is_said_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            Server(ServerConfig(port=port), nothing)
    assert str(refused.value) == (
        f"server: 127.0.0.1:{port}: cannot be served: Address already in use;"
        " stop what is there, or set server.port (0 takes a free one)"
    )


def test_an_address_of_another_machine_is_said_too() -> None:
    with pytest.raises(ConfigError) as refused:
        Server(ServerConfig(host="192.0.2.1", port=0), nothing)
    assert str(refused.value) == (
        "server: 192.0.2.1:0: cannot be served: Cannot assign requested address;"
        " set server.host to an address of this machine"
    )
    with pytest.raises(ConfigError, match=r"no such address: .*; set server\.host to one of this machine"):
        Server(ServerConfig(host="no such host", port=0), nothing)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 20_000), b" 431 "),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"x" * 20_000), b" 431 "),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 5_000, b" 413 "),
        (b"nonsense\r\n\r\n", b" 400 "),
    ],
    ids=["long line", "long header", "long body", "nonsense"],
)
def test_oversized_and_broken_requests_are_refused(stage: Stage, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stage.server.port), timeout=10) as connection:
        connection.sendall(sent)
        assert status in connection.recv(200).split(b"\r\n")[0]
    assert stage.ask("/healthz")[0] == 200


def test_an_answer_under_way_is_finished_before_the_end() -> None:
    begun, go_on = threading.Event(), threading.Event()
    body = b"x" * 3_000_000

    def slow(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        begun.set()
        assert go_on.wait(10)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server, got = Server(ServerConfig(port=0), slow), []
    server.start()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/")
        got.append(connection.getresponse().read())
        connection.close()

    asking, closing = threading.Thread(target=ask), threading.Thread(target=server.close)
    asking.start()
    assert begun.wait(10)
    closing.start()
    go_on.set()
    asking.join(timeout=10)
    closing.join(timeout=10)
    assert got == [body]
    assert not closing.is_alive()


def test_after_the_end_the_port_is_free_and_no_thread_is_left() -> None:
    before = threading.active_count()
    server = Server(ServerConfig(port=0), nothing)
    server.start()
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    server.close()
    server.close()
    assert idle.recv(1) == b"", "an idle connection is closed too"
    idle.close()
    assert threading.active_count() == before
    again = Server(ServerConfig(port=server.port), nothing)
    again.close()


def test_a_server_that_never_started_can_be_closed() -> None:
    before = threading.active_count()
    server = Server(ServerConfig(port=0), nothing)
    server.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)


def post(stage: Stage, body: bytes, kind: str = "application/json", path: str = "/api/events") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", stage.server.port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_an_event_is_noted(stage: Stage) -> None:
    at = NOON - timedelta(minutes=9)
    told = {"text": "ranker  v7", "kind": "model", "at": at.isoformat(), "source": "ci"}
    assert post(stage, json.dumps(told).encode()) == (200, "noted\n")
    assert post(stage, b'{"text": "now"}') == (200, "noted\n")
    (first, second) = happenings.between(stage.store, Window(NOON - timedelta(hours=1), NOON + timedelta(hours=1)))
    assert (first.at, first.kind, first.text, first.source) == (at, "model", "ranker v7", "ci")
    assert (second.at, second.kind, second.text) == (NOON, "deploy", "now")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "an event is JSON such as"),
        (b"ios 8.3.0", "this is none: Expecting value"),
        (b"[]", "an event is JSON such as"),
        (b'{"text": 7}', "an event is JSON such as"),
        (b'{"text": " "}', "an event needs a text"),
        (b'{"text": "x", "kind": "party"}', "is one of deploy, model, config, other"),
        (b'{"text": "x", "at": "noonish"}', "noonish"),
        (b'{"text": "x", "at": "0001-01-01T00:00:00+05:00"}', "outside the years 1 to 9999"),
        (b'{"text": "x", "who": "me"}', "unknown key who"),
        (b'{"text": "' + b"x" * 20_000 + b'"}', "Unterminated string"),
    ],
)
def test_nonsense_is_no_event(stage: Stage, body: bytes, says: str) -> None:
    status, said = post(stage, body)
    assert status == 400
    assert says in said
    assert not list(happenings.between(stage.store, Window(NOON - timedelta(hours=1), NOON + timedelta(hours=1))))


def test_events_are_posted_and_nothing_else(stage: Stage) -> None:
    # As a form of somebody else's page would, for which a browser asks nobody.
    assert post(stage, b'{"text": "x"}', "text/plain")[0] == 415
    assert post(stage, b"{}", "text/plain", "/alertmanager/team")[0] == 415
    status, _headers, said = stage.ask("/api/events")
    assert status == 404
    assert said.endswith(b"and POST /api/events\n")
    assert stage.ask("/api/events", "DELETE")[0] in (404, 405)
