"""The daemon as a process of its own: serving, signals, and a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitor.demo import free_port
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
server: {port: PORT}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, item: item_id, event_type: event_type, event_time: event_time,
            ingested_at: ingested_at, source: source}
    items: items
  items:
    files: FOLDER/items.parquet
    roles: {item: item_id}
checks:
  freshness: {every: 1s}
  ingestion: {enabled: false}
  contract: {every: 1s, window: 1s, settle: 1s, min_rows: 1}
  unknown_ids: {every: 1s, window: 1s, settle: 1s, min_rows: 1}
  duplicates: {every: 1s, window: 1s, settle: 1s, min_rows: 1, look_back: 5m}
"""


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, ""


def wait_for(what: str, is_so: Callable[[], Any], seconds: float = 150) -> Any:
    """Return the first true answer; processes of their own have no clock that a test could move."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        answer = is_so()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


class Shop:
    """A folder with live data and a daemon beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "recwatch.yml"
        self.config.write_text(CONFIG.replace("PORT", str(self.port)).replace("FOLDER", str(folder)))
        stream = Stream(StreamSettings(events_per_second=50, users=5_000, items=500))
        self.writer = LiveWriter(stream, folder, datetime.now(UTC) - timedelta(minutes=2))
        self.write()
        self.daemon: subprocess.Popen[bytes] | None = None

    def write(self) -> None:
        self.writer.advance(datetime.now(UTC))

    def start(self) -> None:
        command = [sys.executable, "-m", "monitor", "run", "-c", str(self.config)]
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, self.log
        self.write()
        return fetch(f"{self.url}/readyz")[0] == 200

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    def end(self, number: int) -> int:
        assert self.daemon is not None
        if self.daemon.poll() is None:
            self.daemon.send_signal(number)
        return self.daemon.wait(timeout=30)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    if shop.daemon is not None:
        shop.end(signal.SIGKILL)


def test_it_serves_reloads_and_ends_gracefully(shop: Shop) -> None:
    started = time.monotonic()
    shop.start()
    wait_for("ready", shop.is_ready)
    assert time.monotonic() - started < 15, "first verdicts within 15 s"
    assert fetch(f"{shop.url}/healthz")[0] == 200
    code, page = fetch(f"{shop.url}/")
    assert code == 200
    assert "freshness" in page
    assert 'recwatch_check_runs_total{check="freshness"' in fetch(f"{shop.url}/metrics")[1]
    assert fetch(f"{shop.url}/nowhere")[0] == 404

    text = shop.config.read_text()
    shop.config.write_text(text.replace("min_rows: 1,", "min_rows: many,"))
    wait_for("the refusal of a wrong configuration", lambda: "reload_failed_old_configuration_stays" in shop.log)
    assert "recwatch_config_last_reload_successful" in fetch(f"{shop.url}/metrics")[1]
    assert fetch(f"{shop.url}/healthz")[0] == 200
    shop.config.write_text(text)
    assert shop.daemon is not None
    shop.daemon.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "reloaded" in shop.log)

    assert shop.end(signal.SIGTERM) == 0, shop.log
    assert "stopped" in shop.log
    assert "Traceback" not in shop.log


@pytest.fixture
def prometheus(shop: Shop) -> Iterator[str]:
    """A real Prometheus that scrapes the daemon every second; yields its address."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed (Debian's package of that name)")
    port = free_port()
    config = shop.folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: recwatch, static_configs: [{{targets: ['127.0.0.1:{shop.port}']}}]}}]\n"
    )
    arguments = (f"--config.file={config}", f"--storage.tsdb.path={shop.folder}/tsdb")
    with (shop.folder / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(
            [binary, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    running.wait(timeout=30)


def ask(prometheus: str, query: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the value of every series that an instant query finds."""
    code, body = fetch(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    if code != 200:
        return {}
    found = json.loads(body)["data"]["result"]
    return {
        tuple(
            sorted((k, v) for k, v in series["metric"].items() if k not in ("__name__", "instance", "job", "pipeline"))
        ): float(series["value"][1])
        for series in found
    }


def test_prometheus_holds_what_the_state_holds(shop: Shop, prometheus: str) -> None:
    shop.start()
    wait_for("ready", shop.is_ready)
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        shop.write()
        time.sleep(0.2)
    # With no new rows the counters come to rest; then both must say the same.
    store = Store(f"sqlite:///{shop.folder}/state.db", "shop")

    def state(metric: str) -> dict[tuple[tuple[str, str], ...], float]:
        samples = [sample for sample in store.counters() if sample.metric == metric]
        return {tuple(sorted(sample.labels.items())): sample.value for sample in samples}

    for metric in ("recwatch_contract_rows_total", "recwatch_id_events_total", "recwatch_dedup_events_total"):
        wait_for(f"{metric} equal in both", lambda name=metric: state(name) and ask(prometheus, name) == state(name))
        assert sum(state(metric).values()) > 0
    assert ask(prometheus, "up") == {(): 1.0}
    fresh = ask(prometheus, 'recwatch_newest_event_timestamp_seconds{source="(all)"}')
    assert abs(next(iter(fresh.values())) - time.time()) < 120
    grown = 'increase(recwatch_check_runs_total{check="freshness",outcome="good"}[1m]) > 0'
    wait_for("a counter born at 0 has an increase", lambda: ask(prometheus, grown))
    store.close()
