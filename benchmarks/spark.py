"""How the cost of the suite on Spark grows with executors: ``python benchmarks/spark.py``.

Two clusters of this machine, one with one executor and one with two (one core and 1 GB each), run all checks in
turn over the same Parquet. Both must find what DuckDB finds in the same files. Of each run it shows the wall
time and, from Spark's event log, what the tasks took: their time summed, that of stages with a single task (which
executors cannot share), their time on a CPU, bytes that were shuffled and how many of them from one executor to
another, jobs and tasks. The first run of each only warms up. The last line has the medians of the ratios of two
runs that followed each other. Where other programs want the cores, CPU, bytes and jobs still hold; wall time does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import isclose, isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made
from benchmarks.cluster import cluster, missing
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.engines import connect
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

EXECUTORS = (1, 2)
FIGURES = {
    "wall": "wall, s",
    "seconds": "in tasks, s",
    "single": "in single tasks, s",
    "cpu": "CPU of tasks, s",
    "shuffled": "shuffled, MB",
    "crossed": "between executors, MB",
    "jobs": "jobs",
    "tasks": "tasks",
}


@dataclass(frozen=True)
class Run:
    """When a run of the suite began and ended, in seconds since 1970, and what it found."""

    began: float
    ended: float
    found: Mapping[Any, Any]


class Suite:
    """The suite over the made data, in DuckDB's process or on a Spark that the files are tables of."""

    def __init__(self, folder: Path, state: Path, url: str | None = None) -> None:
        config = made.config(folder).model_dump(mode="json", exclude_unset=True)
        config["state"] = f"sqlite:///{state}"
        if url is not None:
            config["engines"] = {"lake": {"url": url, "timeout": "30m"}}
            for name, dataset in config["datasets"].items():
                files = dataset.pop("files").removesuffix("/*.parquet")
                dataset.update(engine="lake", table=name)
                _create(url, f"CREATE TABLE {name} USING parquet LOCATION '{files}'")
        parsed = Config.model_validate(config)
        self.store, self.pipeline = Store(f"sqlite:///{state}", "benchmark"), build(parsed)
        self.runner = Runner(self.pipeline, self.store, SystemClock())

    def learn(self) -> None:
        """Build the references that the drift checks hold windows against."""
        checks = [check.id for check in self.pipeline.checks["events"] if check.has_reference]
        built = Builder(self.runner, self.store).build(made.REFERENCE, checks)
        if problems := [line.problem for line in built if line.problem]:
            raise SystemExit("; ".join(problems))

    def run(self) -> Run:
        """Judge the day; nothing is committed, so that each run finds the same state."""
        began = time.time()
        judged = self.runner.run("events", [(check, made.DAY) for check in self.pipeline.checks["events"]])
        ended = time.time()
        found = {
            (verdict.check, str(verdict.subject)): [
                verdict.outcome.value, verdict.value, verdict.limit, verdict.good, verdict.total, verdict.reason,
                verdict.details,
            ]
            for each in judged
            for verdict in each.verdicts
        }  # fmt: skip
        return Run(began, ended, found)

    def close(self) -> None:
        """Close the state and all connections."""
        self.pipeline.close()
        self.store.close()


def _create(url: str, statement: str) -> None:
    with closing(connect("lake", url)) as engine, engine.sqlalchemy_engine.connect() as connection:
        connection.exec_driver_sql(statement)


def equal(left: Any, right: Any) -> bool:
    """Return whether two results are equal; floats to nine digits."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return set(left) == set(right) and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, float) and isinstance(right, int | float):
        return isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    return bool(left == right)


def spent(log: Path, runs: Sequence[Run]) -> list[Counter[str]]:
    """Return the figures of each run, by an event log of Spark's."""
    with log.open() as lines:
        events = [json.loads(line) for line in lines if "SparkListenerTaskEnd" in line or "ListenerJobStart" in line]
    found = []
    for run in runs:
        total: Counter[str] = Counter(wall=run.ended - run.began)
        stages: defaultdict[int, list[float]] = defaultdict(list)
        for event in events:
            at = event.get("Submission Time") or event["Task Info"]["Launch Time"]
            if not run.began <= at / 1000 <= run.ended:
                continue
            if event["Event"] == "SparkListenerJobStart":
                total["jobs"] += 1
                continue
            took = event["Task Metrics"]
            stages[event["Stage ID"]].append(took["Executor Run Time"] / 1e3)
            total["cpu"] += took["Executor CPU Time"] / 1e9
            total["shuffled"] += took["Shuffle Write Metrics"]["Shuffle Bytes Written"] / 1e6
            total["crossed"] += took["Shuffle Read Metrics"]["Remote Bytes Read"] / 1e6
        total["tasks"] = sum(map(len, stages.values()))
        total["seconds"] = sum(map(sum, stages.values()))
        total["single"] = sum(sum(stage) for stage in stages.values() if len(stage) == 1)
        found.append(total)
    return found


def measure(rows: int, runs: int, folder: Path) -> None:
    """Print what the runs took: medians, and the median of the ratios of two that followed each other."""
    where = made.made(rows, folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with closing(Suite(where, Path(scratch) / "duckdb.db")) as duckdb:
            duckdb.learn()
            expected = duckdb.run()
        print(f"DuckDB, in one process: {expected.ended - expected.began:.1f} s", file=sys.stderr)
        found: dict[int, list[Run]] = {count: [] for count in EXECUTORS}
        with ExitStack() as stack:
            suites: dict[int, Suite] = {}
            for count in EXECUTORS:
                url = stack.enter_context(cluster(count, logged(Path(scratch) / f"log-{count}")))
                suites[count] = stack.enter_context(closing(Suite(where, Path(scratch) / "spark.db", url)))
            suites[EXECUTORS[0]].learn()
            for at in range(runs + 1):
                for count, suite in suites.items():
                    run = suite.run()
                    print(f"{count} executors: {run.ended - run.began:.1f} s", file=sys.stderr)
                    compare(run.found, expected.found)
                    found[count] += [run] if at else []
        # The logs are whole once the clusters have ended.
        show([spent(next((Path(scratch) / f"log-{count}").iterdir()), found[count]) for count in EXECUTORS])


def logged(folder: Path) -> dict[str, Any]:
    """Return the settings with which Spark logs events into a folder."""
    folder.mkdir()
    said = {"enabled": "true", "dir": folder, "rolling.enabled": "false", "compress": "false"}
    # What one executor wrote would be read from the disk by the other, as if they were always on one machine.
    return {f"spark.eventLog.{name}": at for name, at in said.items()} | {"spark.shuffle.readHostLocalDisk": "false"}


def compare(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Stop if Spark finds anything else than DuckDB."""
    for key in expected.keys() | found.keys():
        if not equal(found.get(key), expected.get(key)):
            raise SystemExit(f"{key}: Spark finds {found.get(key)}, DuckDB {expected.get(key)}")


def show(measured: Sequence[Sequence[Mapping[str, float]]]) -> None:
    """Print the table of what each number of executors took."""
    print(f"| executors | {' | '.join(FIGURES.values())} |\n|---:{'|---:' * len(FIGURES)}|")
    for count, runs in zip(EXECUTORS, measured, strict=True):
        print(f"| {count} | {' | '.join(f'{median(run[name] for run in runs):.3g}' for name in FIGURES)} |")
    pairs = list(zip(*measured, strict=True))
    ratios = [median(more[name] / one[name] for one, more in pairs) if pairs[0][0][name] else nan for name in FIGURES]
    print(f"| ratio | {' | '.join('' if isnan(ratio) else f'{ratio:.2f}' for ratio in ratios)} |")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="number of events")
    parser.add_argument("--runs", type=int, default=5, help="runs on each cluster, in turn; medians are shown")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recwatch-benchmark")
    arguments = parser.parse_args()
    if (why := missing()) is not None:
        raise SystemExit(why)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    measure(arguments.rows, arguments.runs, arguments.folder)


if __name__ == "__main__":
    main()
