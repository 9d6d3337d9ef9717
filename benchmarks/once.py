"""One measured run in a process of its own: ``once.py bare|suite FOLDER`` prints a line of JSON.

Seconds do not include the start of Python and its imports. ``peak_mb`` is the process' peak
resident memory, those included.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made


def bare(folder: Path) -> dict[str, Any]:
    """Read every column that the suite reads, once, and do the least with it: count what is not null."""
    import duckdb

    counts = ", ".join(f"count({name})" for name in made.COLUMNS)
    started = time.perf_counter()
    connection = duckdb.connect()
    connection.execute(f"SELECT {counts} FROM read_parquet('{folder}/events/*.parquet', union_by_name = true)")
    counted = connection.fetchone()
    return {"seconds": time.perf_counter() - started, "rows": counted[made.COLUMNS.index("event_time")]}


def suite(folder: Path) -> dict[str, Any]:
    """Run all checks on the whole day and commit what they found: what the daemon does in a tick."""
    from monitor.clock import SystemClock
    from monitor.commands.run import UNUSED, keep_out
    from monitor.resolve import build
    from monitor.runner import Runner
    from monitor.store import Store

    keep_out(UNUSED)
    config = made.config(folder)
    steps: list[tuple[str, float]] = []
    started = time.perf_counter()
    store = Store(config.state.get_secret_value(), config.pipeline)
    pipeline = build(config)
    runner = Runner(pipeline, store, SystemClock(), lambda what: steps.append((what, time.perf_counter())))
    judged = runner.run("events", [(check, made.DAY) for check in pipeline.checks["events"]])
    asked = time.perf_counter()
    for found in judged:
        store.commit(found)
    done = time.perf_counter()
    ends = [at for _what, at in steps[1:]] + [asked]
    return {
        "seconds": done - started,
        "statements": [
            ("open", steps[0][1] - started),
            *((what, end - at) for (what, at), end in zip(steps, ends, strict=True)),
            ("commit", done - asked),
        ],
        "verdicts": {found.check: found.verdicts[0].outcome.value for found in judged},
    }


def learn(folder: Path) -> dict[str, Any]:
    """Build the references that the drift checks hold the day against."""
    from monitor.baselines import Builder
    from monitor.clock import SystemClock
    from monitor.resolve import build
    from monitor.runner import Runner
    from monitor.store import Store

    config = made.config(folder)
    store, pipeline = Store(config.state.get_secret_value(), config.pipeline), build(config)
    checks = [check.id for check in pipeline.checks["events"] if check.has_reference]
    started = time.perf_counter()
    built = Builder(Runner(pipeline, store, SystemClock()), store).build(made.REFERENCE, checks)
    problems = [line.problem for line in built if line.problem]
    if problems:
        raise SystemExit("; ".join(problems))
    return {"seconds": time.perf_counter() - started}


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    try:
        # Unlike getrusage's figure this one does not begin with that of the parent process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    found = {"bare": bare, "suite": suite, "learn": learn}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({**found, "peak_mb": peak_mb()}))
