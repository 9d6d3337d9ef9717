"""The whole suite of checks against one bare scan of the same columns: time and peak memory.

``python benchmarks/suite.py`` makes the data (once), runs both in turn, each in a process of its own,
and prints medians with their ratio. Absolute seconds are of the machine; the ratio is the claim.
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


def once(what: str, folder: Path) -> dict[str, Any]:
    """Return what one run in a fresh process measured."""
    done = subprocess.run([sys.executable, str(ONCE), what, str(folder)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(rows: int, folder: Path, runs: int) -> None:
    """Print the figures for one size of data."""
    where = made.made(rows, folder)
    (where / "state.db").unlink(missing_ok=True)
    once("learn", where)
    bare, suite = [], []
    for _run in range(runs):
        bare.append(once("bare", where))
        suite.append(once("suite", where))
    scan, whole = (median(run["seconds"] for run in found) for found in (bare, suite))
    peak = median(run["peak_mb"] for run in suite)
    print(f"| {bare[0]['rows']:,} | {scan:.2f} | {whole:.2f} | {whole / scan:.1f} | {peak:.0f} |")
    names = [name for name, _seconds in suite[0]["statements"]]
    for at, name in enumerate(names):
        seconds = median(run["statements"][at][1] for run in suite)
        print(f"    {seconds:6.2f} s  {name}", file=sys.stderr)


def main() -> None:
    """Measure each size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recwatch-benchmark")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| events | bare scan, s | eight checks, s | ratio | peak memory, MB |\n|---:|---:|---:|---:|---:|")
    for rows in arguments.rows:
        measure(rows, arguments.folder, arguments.runs)


if __name__ == "__main__":
    main()
