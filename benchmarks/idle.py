"""Start, resident memory and CPU of the idle daemon: ``python benchmarks/idle.py`` (Linux).

It makes an hour of events, starts ``recwatch run`` beside them with the default cadences, waits until
every check has run and the references are built, lets it rest, and reads its memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitor.demo import CONFIG, free_port
from monitor.stream import LiveWriter, Stream, StreamSettings

REST_SECONDS = 90


def main() -> None:
    """Print resident memory, and the share of a core that the daemon takes while it rests."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        now = datetime.now(UTC)
        writer = LiveWriter(Stream(StreamSettings(events_per_second=100)), folder / "data", now - timedelta(hours=2))
        writer.advance(now)
        # The demo's datasets, with the cadences that a real pipeline has.
        text = CONFIG.format(port=port, folder=folder / "data").partition("checks:")[0]
        config = folder / "recwatch.yml"
        config.write_text(text.replace("sqlite:///state.db", f"sqlite:///{folder}/state.db"), encoding="utf-8")
        command = [sys.executable, "-m", "recwatch_launch", "run", "--config", str(config)]
        daemon, started = subprocess.Popen(command, stderr=subprocess.DEVNULL), time.monotonic()
        try:
            while not _has_verdict(port):
                time.sleep(0.1)
            print(f"start to first verdict {time.monotonic() - started:.1f} s")
            while not _is_ready(port):
                time.sleep(0.5)
            busy = _cpu_seconds(daemon.pid)
            resident = []
            for _second in range(REST_SECONDS):
                time.sleep(1)
                resident.append(_resident_mb(daemon.pid))
            share = (_cpu_seconds(daemon.pid) - busy) / REST_SECONDS
            print(
                f"resident {median(resident):.0f} MB (median of {REST_SECONDS} s; {min(resident):.0f} to"
                f" {max(resident):.0f}), {100 * share:.1f} % of a core, 8 checks, 1 dataset"
            )
        finally:
            daemon.terminate()
            daemon.wait()


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
