"""The whole suite of checks against one bare scan of the same columns: time and peak memory.

``python benchmarks/suite.py`` makes the data (once), runs both in turn, each in a process of its own,
and prints medians with their ratio. Absolute seconds are of the machine; the ratio is the claim.

The bare scan is one DuckDB statement that looks at every value of the eleven columns once and does the
least with it, ``max``. Beside it stands a scan that only counts what is not null, which never looks at
the values. The suite is all eight checks on one window, from a configuration to the committed verdicts:
what the daemon does in a tick, with references built, all links present and sources found by itself.
What each statement takes goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made

ONCE = Path(__file__).parent / "once.py"
HEAD = """\
| events | bare scan, s | only counting, s | eight checks, s | ratio | to counting | peak memory, MB |
|---:|---:|---:|---:|---:|---:|---:|"""


def once(what: str, folder: Path) -> dict[str, Any]:
    """Return what one run in a fresh process measured."""
    done = subprocess.run([sys.executable, str(ONCE), what, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(rows: int, folder: Path, runs: int) -> None:
    """Print the figures for one size of data."""
    where = made.made(rows, folder)
    (where / "state.db").unlink(missing_ok=True)
    once("learn", where)
    found = [{what: once(what, where) for what in ("bare", "count", "suite")} for _run in range(runs)]
    bare, count, suite = (median(run[what]["seconds"] for run in found) for what in ("bare", "count", "suite"))
    peak = median(run["suite"]["peak_mb"] for run in found)
    print(
        f"| {found[0]['bare']['rows']:,} | {bare:.2f} | {count:.2f} | {suite:.2f} "
        f"| {suite / bare:.1f} | {suite / count:.1f} | {peak:.0f} |"
    )
    _explain([run["suite"]["steps"] for run in found])


def _explain(runs: list[list[tuple[str, float, float, float]]]) -> None:
    print("seconds  cpu seconds  peak MB so far", file=sys.stderr)
    for steps in zip(*runs, strict=True):
        seconds, cpu_seconds, peak = (median(step[at] for step in steps) for at in (1, 2, 3))
        print(f"{seconds:7.2f} {cpu_seconds:12.2f} {peak:15.0f}  {steps[0][0]}", file=sys.stderr)


def main() -> None:
    """Measure each size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="numbers of events")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind, in turn; medians are shown")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recwatch-benchmark")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    for rows in arguments.rows:
        measure(rows, arguments.folder, arguments.runs)


if __name__ == "__main__":
    main()
