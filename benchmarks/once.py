"""One measured run in a process of its own: ``once.py bare|count|suite|part|learn FOLDER`` prints a line of JSON.

Seconds do not include the start of Python and its imports. ``peak_mb`` is the process' peak
resident memory, those included.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made
from benchmarks.peers.timed import peak_mb
from checks.check import Verdict
from checks.window import Window


@dataclass(frozen=True)
class Mark:
    """How much had been used when a step began."""

    step: str
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @classmethod
    def now(cls, step: str) -> Mark:
        """Return what has been used by now."""
        return cls(step, time.perf_counter(), time.process_time(), peak_mb())


def used(marks: list[Mark]) -> dict[str, Any]:
    """Return what was used between the first mark and the last, and from each to the next."""
    steps = [
        (mark.step, after.seconds - mark.seconds, after.cpu_seconds - mark.cpu_seconds, after.peak_mb)
        for mark, after in pairwise(marks)
    ]
    seconds, cpu_seconds = (sum(step[at] for step in steps) for at in (1, 2))
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": marks[-1].peak_mb, "steps": steps}


def scan(folder: Path, aggregate: str) -> dict[str, Any]:
    """Read every column of the events that the suite reads, once, with one aggregate of each."""
    import duckdb

    columns = ", ".join(f"{aggregate}({name})" for name in made.COLUMNS)
    marks = [Mark.now("scan")]
    connection = duckdb.connect()
    connection.execute(
        f"SELECT count(*), {columns} FROM read_parquet('{folder}/events/*.parquet', union_by_name = true)"
    )
    rows = connection.fetchone()[0]
    marks.append(Mark.now("end"))
    return {**used(marks), "rows": rows}


# What tools that know tables but no recommender can do of it too.
PART = ("freshness", "contract", "unknown_ids", "duplicates")


def suite(folder: Path, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run all checks, or some, on the whole day and commit what they found: what the daemon does in a tick."""
    # Loaded here, so that loading them is not measured.
    import duckdb_sqlalchemy  # noqa: F401

    from monitor.clock import SystemClock
    from monitor.commands.run import UNUSED, keep_out
    from monitor.resolve import build
    from monitor.runner import Runner
    from monitor.store import Store

    keep_out(UNUSED)
    config = made.config(folder)
    marks = [Mark.now("open")]
    store = Store(config.state.get_secret_value(), config.pipeline)
    pipeline = build(config)
    runner = Runner(pipeline, store, SystemClock(), lambda step: marks.append(Mark.now(step)))
    judged = runner.run(
        "events", [(check, made.DAY) for check in pipeline.checks["events"] if not only or check.id in only]
    )
    marks.append(Mark.now("judge and commit"))
    for found in judged:
        store.commit(found)
    marks.append(Mark.now("end"))
    verdicts = {found.check: found.verdicts[0] for found in judged}
    return {
        **used(marks),
        "verdicts": {check: verdict.outcome.value for check, verdict in verdicts.items()},
        "found": {"surplus": verdicts["duplicates"].details["surplus"], **_matrix(verdicts.get("density"))},
    }


def _matrix(density: Verdict | None) -> dict[str, Any]:
    return {"cells": density.details["cells"]} if density else {}


def learn(folder: Path, span: Window = made.REFERENCE) -> dict[str, Any]:
    """Build the references that the drift checks hold windows against."""
    from monitor.baselines import Builder
    from monitor.clock import SystemClock
    from monitor.resolve import build
    from monitor.runner import Runner
    from monitor.store import Store

    config = made.config(folder)
    store, pipeline = Store(config.state.get_secret_value(), config.pipeline), build(config)
    checks = [check.id for check in pipeline.checks["events"] if check.has_reference]
    started = time.perf_counter()
    built = Builder(Runner(pipeline, store, SystemClock()), store).build(span, checks)
    problems = [line.problem for line in built if line.problem]
    if problems:
        raise SystemExit("; ".join(problems))
    return {"seconds": time.perf_counter() - started}


RUNS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "bare": lambda folder: scan(folder, "max"),
    "count": lambda folder: scan(folder, "count"),
    "suite": suite,
    "part": lambda folder: suite(folder, PART),
    "learn": learn,
}

if __name__ == "__main__":
    print(json.dumps(RUNS[sys.argv[1]](Path(sys.argv[2]))))
