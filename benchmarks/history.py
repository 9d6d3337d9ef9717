"""What a tick costs as history grows: ``python benchmarks/history.py``.

Events come at one rate, 20,000 an hour, and each hour is a file, of Parquet or what ``--format`` says (``delta``: of a
table), so that more events are more hours. All eight checks judge the newest hour, with references built and the
default look-backs, over 1, 10 and 50 million events of history; every size is timed in a process of its own, and the
claim is the ratio to the smallest. The folder takes 2.6 GB and is made once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made, once
from checks.window import Window

EVENTS_AN_HOUR = 20_000
HOUR = timedelta(hours=1)
NEWEST = Window(made.DAY.start, made.DAY.start + HOUR)
REFERENCE = Window(NEWEST.start - 6 * HOUR, NEWEST.start)


def with_history(hours: int, folder: Path, form: str) -> Path:
    """Return a folder with this many hours of events, the newest first of a made day, the others shifted copies."""
    import duckdb

    # Of each text column of each file it is told that it has no statistics.
    os.environ.setdefault("RUST_LOG", "error")
    from deltalake import DeltaTable, convert_to_deltalake

    day, where = made.made(24 * EVENTS_AN_HOUR, folder), folder / f"{hours}-hours-{form}"
    events = where / "events"
    if not where.exists():
        events.mkdir(parents=True)
        for name in ("users.parquet", "items.parquet", "sent", "rejected"):
            (where / name).symlink_to(day / name)
    engine = duckdb.connect()
    belongs = f"ingested_at >= '{NEWEST.start:%F %T}' AND ingested_at < '{NEWEST.end:%F %T}'"
    engine.execute(f"CREATE TABLE newest AS FROM '{day}/events/*.parquet' WHERE {belongs}")
    for ago in range(hours):
        kind = "parquet" if form == "delta" else form
        path, shift = events / f"{ago:06}.{kind}", f"INTERVAL {ago} HOUR"
        if not path.exists():
            times = ", ".join(f"{name} - {shift} AS {name}" for name in ("event_time", "ingested_at"))
            select = f"SELECT * REPLACE ('{ago}-' || event_id AS event_id, {times}) FROM newest"
            engine.execute(f"COPY ({select}) TO '{path}.part' (FORMAT {kind})")
            os.replace(f"{path}.part", path)
    if form == "delta" and not DeltaTable.is_deltatable(str(events)):
        convert_to_deltalake(events)
    return where


def ticks(folder: Path, runs: int) -> float:
    """Return the median seconds in which the checks judge the newest hour; the first run only warms up."""
    from monitor.clock import SystemClock
    from monitor.resolve import build
    from monitor.runner import Runner
    from monitor.store import Store

    (folder / "state.db").unlink(missing_ok=True)
    once.learn(folder, REFERENCE)
    config = made.config(folder)
    store, pipeline = Store(config.state.get_secret_value(), config.pipeline), build(config)
    runner, checks = Runner(pipeline, store, SystemClock()), pipeline.checks["events"]
    took = []
    for _run in range(runs + 1):
        started = time.perf_counter()
        for judged in runner.run("events", [(check, NEWEST) for check in checks]):
            if judged.failed:
                raise SystemExit(f"{judged.check}: {judged.verdicts[0].reason}")
            store.commit(judged)
        took.append(time.perf_counter() - started)
    return median(took[1:])


def main() -> None:
    """Measure each length of history that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, nargs="+", default=[50, 500, 2_500], help="hours of history")
    parser.add_argument(
        "--format", choices=("parquet", "csv", "json", "delta"), default="parquet", help="what the files are"
    )
    parser.add_argument("--runs", type=int, default=5, help="ticks of each size; the median is shown")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recwatch-benchmark")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(ticks(arguments.one, arguments.runs), once.peak_mb())
        return
    print("| events | files | a tick over the newest hour, s | ratio | peak memory, MB |\n|---:|---:|---:|---:|---:|")
    first = None
    for hours in arguments.hours:
        command = [sys.executable, __file__, "--one", str(with_history(hours, arguments.folder, arguments.format))]
        done = subprocess.run([*command, "--runs", str(arguments.runs)], stdout=subprocess.PIPE, text=True, check=True)
        seconds, peak = map(float, done.stdout.split()[-2:])
        first = first or seconds
        print(f"| {hours * EVENTS_AN_HOUR:,} | {hours:,} | {seconds:.2f} | {seconds / first:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
