"""The Alertmanager example: it is valid, routes as it should, and hushes what upstream explains."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.incidents import UPSTREAM
from alerts.slo import DEFAULTS
from monitor.demo import free_port

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "alerts" / "alertmanager.example.yml"
AMTOOL, SERVER = shutil.which("amtool"), shutil.which("prometheus-alertmanager")
pytestmark = pytest.mark.skipif(
    AMTOOL is None or SERVER is None, reason="Alertmanager is not installed (Debian's prometheus-alertmanager)"
)


def test_it_is_valid() -> None:
    done = subprocess.run([str(AMTOOL), "check-config", str(EXAMPLE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "RecwatchSloBudgetBurn", "severity": "critical"}, "pager,slack"),
        ({"alertname": "RecwatchSloBudgetBurn", "severity": "warning"}, "slack"),
        ({"alertname": "RecwatchSloBudgetExhausted", "severity": "info"}, "null"),
        ({"alertname": "RecwatchWatchdog", "severity": "none"}, "deadman"),
    ],
)
def test_every_severity_goes_where_it_should(labels: dict[str, str], receivers: str) -> None:
    command = [str(AMTOOL), "config", "routes", "test", "--config.file", str(EXAMPLE)]
    done = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in labels.items())], capture_output=True, text=True
    )
    assert done.stdout.strip() == receivers


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A pager of our own: its address, and what it is told."""
    told: list[dict[str, Any]] = []

    class Pager(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pager)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v2/enqueue", told
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, pages: tuple[str, list[dict[str, Any]]]) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("alertmanager"), free_port()
    config = yaml.safe_load(EXAMPLE.read_text())
    pager = next(receiver for receiver in config["receivers"] if receiver["name"] == "pager")
    del pager["pagerduty_configs"][0]["routing_key_file"]
    pager["pagerduty_configs"][0] |= {"url": pages[0], "routing_key": "0" * 32}
    # Nobody is to be called: every other receiver is one that tells nobody.
    config["receivers"] = [
        receiver if receiver is pager else {"name": receiver["name"]} for receiver in config["receivers"]
    ]
    config["route"]["group_wait"] = "1s"
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    running = subprocess.Popen(
        [
            str(SERVER), f"--config.file={folder}/config.yml", f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    yield url
    running.terminate()
    running.wait(timeout=30)


def call(url: str, body: Any = None) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, sent, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read()
    return json.loads(text) if text else None


def labels(check: str, severity: str, pipeline: str) -> dict[str, str]:
    return {
        "alertname": "RecwatchSloBudgetBurn", "pipeline": pipeline, "dataset": "events", "check": check,
        "slo": f"events-{check}", "severity": severity, "tier": "x",
    }  # fmt: skip


def test_a_page_reads_well(alertmanager: str, pages: tuple[str, list[dict[str, Any]]]) -> None:
    said = {
        "summary": "The error budget burns too fast.",
        "description": "events-freshness of night: 41.0% bad over 1h, and it still burns over 5m",
        "runbook": "recwatch runbook RecwatchSloBudgetBurn",
    }
    down = {**labels("ingestion", "critical", "night"), "alertname": "RecwatchIngestionDown", "dataset": "sent"}
    also = {
        "description": "events-ingestion of night: 80.0% of what was sent did not land over 5m",
        "contributors": "source ios", "runbook": "recwatch runbook RecwatchIngestionDown",
    }  # fmt: skip
    burns = labels("freshness", "critical", "night")
    # What has begun long ago is told at once, without whatever comes with it.
    now = datetime.now(UTC)
    pushed = [
        {"labels": of, "annotations": what, "startsAt": now.isoformat()} for of, what in ((burns, said), (down, also))
    ]
    call(f"{alertmanager}/api/v2/alerts", pushed)

    def page() -> dict[str, Any] | None:
        return next((page for page in pages[1] if page["payload"]["summary"].startswith("night: ")), None)

    ends = time.monotonic() + 20
    while page() is None and time.monotonic() < ends:
        time.sleep(0.1)
    found = page()
    assert found is not None
    assert found["payload"]["severity"] == "critical"
    assert found["payload"]["summary"] == f"night: {also['description']} (2 alarms)"
    assert not found.get("links"), "without an address there is no link"
    details = found["payload"]["custom_details"]
    assert details["firing"].strip() == (
        f"RecwatchIngestionDown of events-ingestion, since {now:%H:%M UTC, %d %b}\n"
        "  events-ingestion of night: 80.0% of what was sent did not land over 5m\n"
        "  most of it: source ios\n"
        f"RecwatchSloBudgetBurn of events-freshness, since {now:%H:%M UTC, %d %b}\n"
        "  events-freshness of night: 41.0% bad over 1h, and it still burns over 5m"
    )
    assert details["what to do"].split() == f"{also['runbook']} {said['runbook']}".split()
    assert details["likely cause"] == "run recwatch triage"


def hushed(alertmanager: str, pipeline: str) -> set[str]:
    found = call(f"{alertmanager}/api/v2/alerts?filter=pipeline%3D%22{pipeline}%22")
    return {alert["labels"]["check"] for alert in found if alert["status"]["inhibitedBy"]}


@pytest.mark.parametrize("cause", ["ingestion", "freshness", "contract", "duplicates", "unknown_ids", "density"])
def test_it_hushes_what_our_own_evaluation_would(cause: str, alertmanager: str) -> None:
    """One alarm upstream as a page, all others as tickets: the same ones are quiet in both."""
    pipeline, now = f"shop-{cause}", datetime.now(UTC).isoformat()
    others = [check for check in DEFAULTS if check != cause]
    pushed = [labels(cause, "critical", pipeline), *(labels(check, "warning", pipeline) for check in others)]
    call(f"{alertmanager}/api/v2/alerts", [{"labels": found, "startsAt": now} for found in pushed])
    expected = {check for check in others if cause in UPSTREAM.get(check, ())}
    # Tickets explain each other, too, in the same table.
    expected |= {check for check in others if set(UPSTREAM.get(check, ())) & set(others)}
    ends = time.monotonic() + 10
    while hushed(alertmanager, pipeline) != expected and time.monotonic() < ends:
        time.sleep(0.1)
    assert hushed(alertmanager, pipeline) == expected
