"""From a fault in the data to people's phones and back: daemon, Prometheus, Alertmanager, our receiver, vendors.

The windows of the tiers are scaled down to seconds; everything else is as it is shipped.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.demo import free_port
from monitor.faults import Fault
from monitor.stream import LiveWriter, Stream, StreamSettings

PROMETHEUS, ALERTMANAGER = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
pytestmark = [
    pytest.mark.skipif(
        PROMETHEUS is None or ALERTMANAGER is None,
        reason="Prometheus and Alertmanager are not installed (Debian's prometheus, prometheus-alertmanager)",
    ),
    pytest.mark.slow,
]
CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
server: {port: PORT}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, item: item_id, event_type: event_type, event_time: event_time,
            ingested_at: ingested_at, source: source}
checks:
  freshness: {every: 1s, window: 2m, max_age: 20s}
  ingestion: {enabled: false}
  contract: {enabled: false}
  duplicates: {enabled: false}
  density: {enabled: false}
  popularity: {enabled: false}
  unknown_ids: {every: 1s, window: 1s, settle: 1s, min_rows: 1}
tiers:
  soon:
    - {name: page_soon, severity: page, burn_rate: 5, long: 20s, short: 6s}
slos:
  freshness: {tiers: soon}
  unknown_ids: {tiers: soon}
channels:
  team: {type: slack, token: xoxb-canary, channel: C01, api_url: VENDOR/api/}
  pager: {type: pagerduty, routing_key: canary0pagerduty0routing0key0000, api_url: VENDOR}
notify: {by: alertmanager, every: 1s}
"""


class Vendor:
    """Slack and PagerDuty in one, as far as this needs them; both have fakes with limits of their own elsewhere."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: list[str] = []
        self.events: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                found = outer.answer(self.path, asked)
                body = json.dumps(found).encode()
                self.send_response(202 if self.path.startswith("/v2") else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        if path.startswith("/v2"):
            self.events.append((asked["event_action"], asked["dedup_key"]))
            return {"status": "success"}
        if path.endswith("chat.postMessage") and asked.get("thread_ts"):
            self.replies.append(asked["text"])
            return {"ok": True, "channel": "C01", "ts": "9.9"}
        ts = asked.get("ts") or f"1.{len(self.messages)}"
        self.messages[ts] = asked
        return {"ok": True, "channel": "C01", "ts": ts}


def wait_for(what: str, is_so: Callable[[], Any], seconds: float = 90) -> Any:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        answer = is_so()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[LiveWriter, Vendor, Path]]:
    """Live data, the daemon, Prometheus with the exported rules, Alertmanager with our receiver, and the vendors."""
    vendor, running = Vendor(), []
    ports = [free_port() for _ in range(3)]
    own, prometheus, alertmanager = (f"127.0.0.1:{port}" for port in ports)
    config = tmp_path / "recwatch.yml"
    text = CONFIG.replace("FOLDER", str(tmp_path)).replace("PORT", str(ports[0])).replace("VENDOR", vendor.url)
    config.write_text(text)
    writer = LiveWriter(
        Stream(StreamSettings(events_per_second=40, users=2_000, items=300)),
        tmp_path, datetime.now(UTC) - timedelta(minutes=1),
    )  # fmt: skip
    writer.advance(datetime.now(UTC))
    rules = subprocess.run(
        [sys.executable, "-m", "monitor", "export", "rules", "-c", str(config)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pack = yaml.safe_load(rules)
    for group in pack["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "keep_firing_for" in rule:
                rule["keep_firing_for"] = "3s"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(pack))
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [f"{tmp_path}/rules.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
                "scrape_configs": [{"job_name": "recwatch", "static_configs": [{"targets": [own]}]}],
            }
        )
    )
    hook = [{"url": f"http://{own}/alertmanager/{name}", "send_resolved": True} for name in ("team", "pager")]
    route = {"receiver": "null", "group_by": ["pipeline"], "group_wait": "1s", "group_interval": "1s"}
    route["routes"] = [{"receiver": "people", "matchers": ['severity="critical"', 'alertname="RecwatchSloBudgetBurn"']}]  # type: ignore[assignment]
    receivers = [{"name": "null"}, {"name": "people", "webhook_configs": hook}]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
    commands = [
        [sys.executable, "-m", "monitor", "run", "-c", str(config)],
        [str(PROMETHEUS), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
         f"--web.listen-address={prometheus}", "--log.level=error"],
        [str(ALERTMANAGER), f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/am",
         f"--web.listen-address={alertmanager}", "--cluster.listen-address=", "--log.level=error"],
    ]  # fmt: skip
    with (tmp_path / "all.log").open("ab") as log:
        try:
            for command in commands:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
            for where in (f"http://{own}/healthz", f"http://{prometheus}/-/ready", f"http://{alertmanager}/-/ready"):
                wait_for(where, lambda where=where: answers(where))
            yield writer, vendor, tmp_path
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(timeout=30)
            vendor.server.shutdown()
            vendor.server.server_close()


def test_a_fault_reaches_people_and_its_end_too(stage: tuple[LiveWriter, Vendor, Path]) -> None:
    writer, vendor, folder = stage

    def go_on(is_so: Callable[[], Any]) -> Callable[[], Any]:
        def step() -> Any:
            writer.advance(datetime.now(UTC))
            return is_so()

        return step

    calm = time.monotonic() + 12
    wait_for("a calm history", go_on(lambda: time.monotonic() > calm))
    assert vendor.messages == {}
    began = datetime.now(UTC)
    writer.change_faults((Fault("missing_users", began, began + timedelta(minutes=5), 0.6),))
    wait_for("a page on Slack", go_on(lambda: vendor.messages))
    wait_for("a page at PagerDuty", go_on(lambda: [kind for kind, _key in vendor.events] == ["trigger"]))
    (message,) = vendor.messages.values()
    assert "Page: shop: unknown ids of events" in message["blocks"][0]["text"]["text"]
    writer.change_faults(())
    wait_for(
        "the end on Slack", go_on(lambda: any("Resolved" in str(m["blocks"][0]) for m in vendor.messages.values()))
    )
    wait_for("the end at PagerDuty", go_on(lambda: vendor.events[-1][0] == "resolve"))
    assert len(vendor.messages) == 1, "one message, edited in place"
    assert vendor.replies, "and a thread of what changed"
    assert {key for _kind, key in vendor.events} == {vendor.events[0][1]}, "one alert, triggered and resolved"
    shown = [(folder / "all.log").read_text(), str(vendor.messages), str(vendor.replies), str(vendor.events)]
    url = re.search(r"serving url=(\S+)", shown[0])
    assert url is not None
    for path in ("", "metrics", "api/status", "readyz", "alertmanager/nope", "nowhere"):
        shown.append(page(f"{url[1]}{path}"))
    assert "recwatch_slo_info" in shown[5]
    # The routing key goes to PagerDuty itself, in the body, and nowhere else.
    assert not any("canary" in text for text in shown), "no secret in any log, page, metric or message"
