"""Fifty pipelines of twenty checks in one daemon: ``python benchmarks/fleet.py`` (Linux).

It writes a folder of configurations over small made data, one of them with statements that take seconds, runs
``recwatch run --config FOLDER``, and keeps the data coming. It prints the share of a core, resident memory, how
late windows were judged, how fairly that was spread, and what a scrape costs.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitor.demo import free_port
from monitor.stream import LiveWriter, Stream, StreamSettings

# Three datasets with seven checks, seven and six.
DATASET = """\
  {name}:
    {where}
    roles: {{event_id: event_id, user: user_id, item: item_id, event_type: event_type, event_time: event_time,
            ingested_at: ingested_at, source: source}}
    items: items
    features: [device]
"""
CONFIG = """\
pipeline: p{number:02}
state: sqlite:///{folder}/state.db
engines:
  slow: {{url: "sqlite:///{folder}/slow.db", timeout: 30s}}
datasets:
{datasets}
  items:
    files: {folder}/data/items.parquet
    roles: {{item: item_id}}
checks:
  freshness: {{every: 1m}}
  ingestion: {{every: {every}, window: {every}, settle: 0s}}
  contract: {{every: {every}, window: {every}, settle: 0s}}
  duplicates: {{every: {every}, window: {every}, settle: 0s, look_back: 10m}}
  unknown_ids: {{every: {every}, window: {every}, settle: 0s}}
  feature_drift: {{every: {every}, window: {every}, settle: 0s}}
  density: {{every: {every}, window: {every}, settle: 0s}}
"""
FEWER = "    checks: {{popularity: {{enabled: false}}{more}}}\n"
# A view that counts for some seconds before it has no rows: what a large table without an index does.
SLOW = """\
CREATE TABLE kept (event_id TEXT, user_id TEXT, item_id TEXT, event_type TEXT, event_time TEXT, ingested_at TEXT,
                   source TEXT, device TEXT);
INSERT INTO kept VALUES ('e', 'u', 'i', 'view', '2020-01-01', '2020-01-01', 'web', 'd');
CREATE VIEW events AS
SELECT kept.* FROM kept, (
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {steps}) SELECT n FROM c WHERE n = {steps}
)
"""


def write(folder: Path, pipelines: int, port: int, every: str) -> None:
    """Write a configuration for each pipeline; the first one also reads the slow view."""
    (folder / "configs").mkdir()
    for number in range(pipelines):
        datasets = ""
        for at, name in enumerate(("views", "clicks", "carts")):
            where = f"files: {folder}/data/events/*.parquet"
            if number == 0:
                where = "engine: slow\n    table: events"
            datasets += DATASET.format(name=name, where=where)
            datasets += FEWER.format(more=", feature_drift: {enabled: false}" if at == 2 else "")
        text = CONFIG.format(number=number, folder=folder, datasets=datasets, every=every)
        text = text if number else text.replace("    items: items\n", "")
        text += f"server: {{port: {port}}}\n" if number == 0 else ""
        (folder / "configs" / f"p{number:02}.yml").write_text(text, encoding="utf-8")


def slow_view(path: Path, seconds: float) -> None:
    """Write a database whose view takes about so long to read on this machine."""
    steps = 200_000
    with sqlite3.connect(path) as connection:
        began = time.perf_counter()
        connection.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?) SELECT max(n) FROM c", (steps,)
        ).fetchall()
        connection.executescript(SLOW.format(steps=round(steps * seconds / (time.perf_counter() - began))))
    connection.close()


def lateness(state: Path, since: datetime) -> dict[str, list[float]]:
    """Return by how many seconds each window was judged after it had ended, by pipeline."""
    statement = (
        "SELECT pipeline, end_us, min(finished_us) FROM verdicts WHERE end_us >= ? AND outcome != 'error'"
        " GROUP BY pipeline, check_id, dataset, end_us"
    )
    with sqlite3.connect(state) as connection:
        rows = connection.execute(statement, (int(since.timestamp() * 1e6),)).fetchall()
    connection.close()
    found: dict[str, list[float]] = {}
    for pipeline, end_us, finished_us in rows:
        found.setdefault(pipeline, []).append((finished_us - end_us) / 1e6)
    return found


def main() -> None:
    """Run the fleet for some minutes and print what it took."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pipelines", type=int, default=50)
    asked.add_argument("--minutes", type=float, default=6)
    asked.add_argument("--every", default="5m", help="cadence of all checks but freshness, which looks every minute")
    asked.add_argument("--slow-seconds", type=float, default=3)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        now = datetime.now(UTC)
        stream = Stream(StreamSettings(events_per_second=5, users=500, items=100))
        writer = LiveWriter(stream, folder / "data", now - timedelta(minutes=15))
        writer.advance(now)
        slow_view(folder / "slow.db", options.slow_seconds)
        write(folder, options.pipelines, port, options.every)
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "recwatch_launch", "run", "--config", str(folder / "configs")]
            daemon = subprocess.Popen(command, stderr=log)
        try:
            began = time.monotonic()
            while not _is_ready(port):
                if daemon.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(1)
            print(f"all checks have run once {time.monotonic() - began:.0f} s after the start", flush=True)
            _watch(daemon.pid, port, writer, options.minutes)
            print_lateness(lateness(folder / "state.db", datetime.now(UTC) - timedelta(minutes=options.minutes)))
        finally:
            daemon.terminate()
            daemon.wait()


def _watch(process: int, port: int, writer: LiveWriter, minutes: float) -> None:
    """Let it run for a while; print its share of a core, its memory, and what a scrape takes."""
    busy, began, scrapes, size = _cpu_seconds(process), time.monotonic(), [], 0
    while time.monotonic() - began < 60 * minutes:
        writer.advance(datetime.now(UTC))
        time.sleep(5)
        if not len(scrapes) or time.monotonic() - began > 15 * len(scrapes):
            at = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                text = answer.read()
            scrapes.append(time.perf_counter() - at)
            size = sum(not line.startswith(b"#") for line in text.splitlines())
    share = (_cpu_seconds(process) - busy) / (time.monotonic() - began)
    print(f"{100 * share:.0f} % of a core, resident {_resident_mb(process):.0f} MB, {_threads(process)} threads")
    print(f"a scrape of {size:,} series takes {statistics.median(scrapes):.2f} s (median)")


def print_lateness(late: dict[str, list[float]]) -> None:
    """Print how late windows were judged, and how that was spread over pipelines."""
    slow = late.pop("p00", [])
    every = sorted(seconds for found in late.values() for seconds in found)
    medians = sorted(statistics.median(found) for found in late.values())
    worst = sorted(max(found) for found in late.values())
    last = every[int(0.99 * len(every))]
    print(f"{len(every):,} windows of {len(late)} pipelines were judged after their end: median")
    print(f"  {statistics.median(every):.1f} s, 99 % {last:.1f} s, worst {every[-1]:.1f} s; by pipeline")
    print(f"  median from {medians[0]:.1f} s to {medians[-1]:.1f} s, worst from {worst[0]:.1f} s to {worst[-1]:.1f} s")
    print(f"  ({worst[-1] / worst[0]:.1f} to 1)")
    if slow:
        said = f"median {statistics.median(slow):.1f} s, worst {max(slow):.1f} s"
        print(f"the one with slow statements: {len(slow):,} windows, {said}")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _status(process: int, name: str) -> int:
    return int(Path(f"/proc/{process}/status").read_text(encoding="ascii").split(f"{name}:")[1].split()[0])


def _resident_mb(process: int) -> float:
    return _status(process, "VmRSS") * 1024 / 1e6


def _threads(process: int) -> int:
    return _status(process, "Threads")


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
