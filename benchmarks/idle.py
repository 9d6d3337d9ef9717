"""Start, resident memory and CPU of the idle daemon: ``python benchmarks/idle.py [EVENTS_PER_SECOND [SECONDS]]``.

It makes two hours of events, starts ``recwatch run`` beside them with 20 checks a minute (five of each of four
datasets, which read the same files), waits until all have run and the references are built, and then reads what
the process takes while it goes on, for five minutes if nothing else is said. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitor.demo import CONFIG, free_port
from monitor.faults import Dirt
from monitor.stream import LiveWriter, Stream, StreamSettings

LONGEST_START_SECONDS = 60
EVENTS_PER_SECOND = int(sys.argv[1]) if len(sys.argv) > 1 else 1
REST_SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 300
FILE_SECONDS = 10
CHECKS = ("freshness", "contract", "ingestion", "unknown_ids", "duplicates")
WITHOUT = ("density", "feature_drift", "popularity")
DATASETS = 4


def main() -> None:
    """Print resident memory, and the share of a core that the daemon takes while it rests."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        now = datetime.now(UTC)
        # So many are rejected that two hours have some: without a file no check of a dataset that links to it can run.
        stream = Stream(StreamSettings(events_per_second=EVENTS_PER_SECOND, dirt=Dirt(rejected_ratio=0.005)))
        writer = LiveWriter(stream, folder / "data", now - timedelta(hours=2))
        writer.advance(now)
        config = folder / "recwatch.yml"
        config.write_text(yaml.safe_dump(configuration(folder, port)), encoding="utf-8")
        command = [sys.executable, "-m", "recwatch_launch", "run", "--config", str(config)]
        daemon, started = subprocess.Popen(command, stderr=subprocess.DEVNULL), time.monotonic()
        try:
            while not _has_verdict(port):
                if time.monotonic() - started > LONGEST_START_SECONDS:
                    raise SystemExit(f"no verdict after {LONGEST_START_SECONDS} s")
                time.sleep(0.1)
            print(f"start to first verdict {time.monotonic() - started:.1f} s", flush=True)
            while not _is_ready(port):
                time.sleep(0.5)
            busy = _cpu_seconds(daemon.pid)
            resident = []
            for second in range(REST_SECONDS):
                time.sleep(1)
                resident.append(_resident_mb(daemon.pid))
                if second % FILE_SECONDS == 0:
                    writer.advance(datetime.now(UTC))
            share = (_cpu_seconds(daemon.pid) - busy) / REST_SECONDS
            print(
                f"resident {median(resident):.0f} MB (median of {REST_SECONDS} s; {min(resident):.0f} to"
                f" {max(resident):.0f}), {100 * share:.2f} % of a core,"
                f" {DATASETS * len(CHECKS)} checks a minute over {EVENTS_PER_SECOND} events a second"
            )
        finally:
            daemon.terminate()
            daemon.wait()


def configuration(folder: Path, port: int) -> dict[str, Any]:
    """Return the demo's datasets, its events as often as there are to be datasets, with a minute's cadence."""
    asked: dict[str, Any] = yaml.safe_load(CONFIG.format(port=port, folder=folder / "data").partition("checks:")[0])
    events = asked["datasets"]["events"]
    asked["datasets"].update({f"events{at}": deepcopy(events) for at in range(2, DATASETS + 1)})
    each_minute = {name: {"every": "1m", "window": "1m"} for name in CHECKS}
    return {
        **asked,
        "state": f"sqlite:///{folder}/state.db",
        "checks": {**each_minute, **{name: {"enabled": False} for name in WITHOUT}},
    }


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def _has_verdict(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return b"recwatch_check_good{" in answer.read()
    except (urllib.error.URLError, ConnectionError):
        return False


def _resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
