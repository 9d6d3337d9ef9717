"""A folder of pipelines as a process of its own: it serves all, and files come and go while it runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.demo import free_port
from monitor.stream import LiveWriter, Stream, StreamSettings

CONFIG = """\
pipeline: NAME
state: sqlite:///../state.db
datasets:
  events:
    files: ../data/events/*.parquet
    roles: {event_id: event_id, event_time: event_time, ingested_at: ingested_at}
checks:
  freshness: {every: 1s}
  ingestion: {enabled: false}
  duplicates: {enabled: false}
  contract: {every: 2s, window: 2s, settle: 0s, min_rows: 1}
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


def wait_for(what: str, is_so: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until something is so; processes of their own have no clock that a test could move."""
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def test_pipelines_come_and_go_while_others_run(tmp_path: Path) -> None:
    configs, port = tmp_path / "configs", free_port()
    configs.mkdir()
    for name in ("shop", "news"):
        (configs / f"{name}.yml").write_text(CONFIG.replace("NAME", name))
    now = datetime.now(UTC)
    writer = LiveWriter(Stream(StreamSettings(events_per_second=20)), tmp_path / "data", now - timedelta(minutes=2))
    writer.advance(now)
    command = [sys.executable, "-m", "monitor", "run", "-c", str(configs), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def pipelines() -> dict[str, str]:
        code, body = fetch(f"{url}/api/status")
        return {line["pipeline"]: line["state"] for line in json.loads(body)["pipelines"]} if code == 200 else {}

    try:
        wait_for("both are ready", lambda: fetch(f"{url}/readyz")[0] == 200)
        assert set(pipelines()) == {"shop", "news"}
        (configs / "ads.yml").write_text(CONFIG.replace("NAME", "ads"))
        wait_for("one more has run", lambda: "ran " in fetch(f"{url}/p/ads/")[1])
        (configs / "news.yml").unlink()
        wait_for("one is gone", lambda: set(pipelines()) == {"ads", "shop"})
        (configs / "shop.yml").write_text(CONFIG.replace("NAME", "shop") + "nonsense: 1\n")
        said = 'recwatch_config_last_reload_successful{pipeline="shop"} 0.0'
        wait_for("the wrong file is told", lambda: said in fetch(f"{url}/metrics")[1])
        assert fetch(f"{url}/healthz")[0] == 200
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
    said = (tmp_path / "log").read_text()
    assert said.count("stopped pipeline=") == 3
    assert "Traceback" not in said
