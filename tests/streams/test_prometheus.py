"""PromQL as counts of a stage and as a signal, from a real Prometheus."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from checks.window import Window, micros
from monitor.config_streams import StreamConfig
from monitor.demo import free_port
from monitor.errors import EngineError
from monitor.streams.prometheus import MOST_SERIES, Prometheus

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def stream(url: str, query: str, **parts: Any) -> Prometheus:
    return Prometheus("gateway", StreamConfig.model_validate({"prometheus": url, "query": query, **parts}))


@pytest.fixture(scope="module")
def gateway(scraped: Any) -> Any:
    """A gateway that has accepted events of two apps, one with a name that needs escaping, and its latency."""
    scraped.text = 'accepted_total{source="web"} 100\naccepted_total{source="a\\"b\'\\\\c"} 7\np99_seconds 0.25\n'
    scraped.until("p99_seconds")
    scraped.text = 'accepted_total{source="web"} 140\naccepted_total{source="a\\"b\'\\\\c"} 8\np99_seconds 0.5\n'
    scraped.until("p99_seconds offset 2s == 0.5")
    return scraped


def present() -> Window:
    """Return the last minute as of now."""
    # Prometheus evaluates at whole milliseconds.
    now = datetime.now(UTC).replace(microsecond=0)
    return Window(now - MINUTE, now)


def test_a_signal_is_the_value_at_the_end_of_the_window(gateway: Any) -> None:
    with closing(stream(gateway.url, "p99_seconds")) as found:
        window = present()
        rows = found.read("value", window)
        assert [(row.at_us, row.source, row.value) for row in rows] == [(micros(window.end) - 1, None, 0.5)]
        found.probe()


def test_a_window_may_end_within_a_millisecond(gateway: Any) -> None:
    second = present().end
    with closing(stream(gateway.url, "p99_seconds")) as found:
        for fraction in (413_790, 413_999, 413_001, 0):
            window = Window(second - MINUTE, second - timedelta(seconds=1) + timedelta(microseconds=fraction))
            (row,) = found.read("value", window)
            assert micros(window.start) <= row.at_us < micros(window.end)


def test_counts_come_by_label_and_stand_at_the_start_of_their_step(gateway: Any) -> None:
    # The exact growth of a counter that never starts anew; increase() would extrapolate.
    query = "max_over_time(accepted_total[1h]) - min_over_time(accepted_total[1h])"
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    # Wait for the second in which it is asked to be over.
    while datetime.now(UTC) < now + timedelta(seconds=1):
        time.sleep(0.05)
    with closing(stream(gateway.url, query, step="1s")) as found:
        rows = found.read("count", Window(now, now + timedelta(seconds=1)))
    counts = {row.source: row.value for row in rows}
    assert counts == {"web": 40, "a\"b'\\c": 1}
    assert {row.at_us for row in rows} == {micros(now)}


def test_no_sample_is_no_row_and_what_is_no_number_is_none(gateway: Any) -> None:
    for query, values in (("nothing_at_all", []), ("p99_seconds * 0 / 0", []), ("p99_seconds / 0", [1e300])):
        with closing(stream(gateway.url, query)) as found:
            assert [row.value for row in found.read("value", present())] == values


def test_a_wrong_query_is_told_in_the_words_of_prometheus(gateway: Any) -> None:
    with closing(stream(gateway.url, "sum by (source) (accepted_total[1m])")) as found:
        with pytest.raises(
            EngineError, match=r"stream gateway: Prometheus refuses the query: .*expected type instant vec"
        ):
            found.read("count", Window(NOON - MINUTE, NOON))
        with pytest.raises(EngineError, match="mend the query"):
            found.probe()


def test_histograms_are_told_from_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(stream("http://127.0.0.1:1", "latency")) as found:
        monkeypatch.setattr(found, "_series", lambda *_: [{"metric": {}, "histograms": [[0, {"count": "1"}]]}])
        with pytest.raises(EngineError, match="has histograms, not numbers; take histogram_count"):
            found.read("value", present())


def test_too_many_series_are_refused(gateway: Any) -> None:
    many = " or ".join(f'label_replace(vector({at}), "source", "s{at}", "", "")' for at in range(MOST_SERIES + 1))
    with closing(stream(gateway.url, many)) as found, pytest.raises(EngineError, match="has 101 series, at most 100"):
        found.read("value", present())


def test_a_prometheus_that_is_down_is_not_reached_and_no_password_is_told() -> None:
    found = stream(f"http://watch:s3cret@127.0.0.1:{free_port()}", "up")
    with closing(found), pytest.raises(EngineError, match="stream gateway: Prometheus is not reached") as caught:
        found.read("value", present())
    assert caught.value.unreachable
    assert "s3cret" not in str(caught.value)


# -- what stands between, as a reverse proxy may -------------------------------------------------------


class Between(BaseHTTPRequestHandler):
    """Answers what the test wants, and remembers what it was asked with."""

    answer: tuple[int, bytes] = (200, b"")
    asked: list[str | None] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Between.asked.append(self.headers["Authorization"])
        status, body = Between.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, *_arguments: Any) -> None:
        pass


@contextmanager
def between(status: int, body: bytes) -> Iterator[str]:
    Between.answer, Between.asked = (status, body), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


EMPTY = b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'


def test_credentials_are_sent_as_headers() -> None:
    with between(200, EMPTY) as where:
        with closing(stream(f"http://watch:s3cr%40t@{where}", "up")) as found:
            found.probe()
        with closing(stream(f"http://{where}/", "up", token="t0ken")) as found:
            found.probe()
    assert Between.asked == [f"Basic {base64.b64encode(b'watch:s3cr@t').decode()}", "Bearer t0ken"]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"<html>go away</html>", "answered 401, not as a Prometheus does; check its URL and the credentials"),
        (200, b"[1, 2]", "answered 200, not as a Prometheus does"),
        (200, b'{"status": "success", "data": {}}', "answered 200, not as a Prometheus does"),
        (200, b"x" * 10_000_001, "the answer is larger than 10 MB; aggregate the query"),
        (503, b'{"status": "error", "error": "query timed out"}', "refuses the query: query timed out"),
    ],
)
def test_whatever_answers_is_told_of(status: int, body: bytes, says: str) -> None:
    with between(status, body) as where, closing(stream(f"http://{where}", "up")) as found:
        asked = pytest.raises(EngineError, match=says)
        with asked:
            found.read("value", Window(NOON - MINUTE, NOON))
