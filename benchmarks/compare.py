"""Our suite beside other tools, on the same made data in one run: ``python benchmarks/compare.py``.

Each tool runs in an environment of its own, which is made here once, and in a process of its own. The table has
medians and ratios: seconds are of the machine, the ratios are the claim. What each tool does of it stands in its line,
and nothing but our suite does all: the hand-written ones compute the figures of the eight checks without references,
look-backs, verdicts, counters or state. Where a tool counts surplus copies or cells of the matrix, what it found must
be what we found.

The environments take 2 GB; Evidently needs 6 GB of memory for ten million events.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import made

HERE = Path(__file__).parent
# A tool that takes longer than this is measured once.
PATIENCE_SECONDS = 60.0
TIMEOUT_SECONDS = 3_600.0
HEAD = """
{rows:,} events

| tool | what it does | seconds | to the bare scan | to ours | peak memory, MB |
|---|---|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class Tool:
    """One line of the table: a script, its arguments, and what has to be installed for it."""

    name: str
    does: str
    script: tuple[str, ...]
    needs: tuple[str, ...] = ()
    # Against which of ours it is held.
    ours: str = "recwatch"
    # With more rows it is left out, for its time and memory.
    most_rows: int = 1_000_000_000


EVIDENTLY = ("evidently==0.7.23", "pandas<3.1", "pyarrow==26.0.1")
PARTLY = "volume, freshness, nulls, ids in tables, unique ids, sets, ranges"
TOOLS = (
    Tool("bare scan", "max of each column", ("once.py", "bare")),
    Tool("recwatch", "the eight checks", ("once.py", "suite")),
    Tool("recwatch, four checks", "freshness, contract, unknown ids, duplicates", ("once.py", "part")),
    Tool("SQL, fused by hand", "figures of the eight", ("peers/by_sql.py",), ("duckdb==1.5.6",)),
    Tool("SQL, one query a figure", "figures of the eight", ("peers/by_sql.py", "each"), ("duckdb==1.5.6",)),
    Tool("polars, by hand", "figures of the eight", ("peers/by_polars.py",), ("polars==2.1.0",)),
    Tool("pandas, by hand", "figures of the eight", ("peers/by_pandas.py",), ("pandas==3.0.6", "pyarrow==26.0.1")),
    Tool("Soda Core", PARTLY, ("peers/by_soda.py",), ("soda-core-duckdb==3.5.6",), "recwatch, four checks"),
    Tool(
        "Great Expectations", PARTLY, ("peers/by_great_expectations.py",),
        ("great_expectations==1.24.1", "pyarrow==26.0.1"), "recwatch, four checks",
    ),
    Tool(
        "Evidently, six features", "drift and summary presets, day against day, kinds of columns told",
        ("peers/by_evidently.py",), EVIDENTLY,
    ),
    Tool(
        "Evidently, all columns", "the same presets over the eleven columns, kinds guessed",
        ("peers/by_evidently.py", "all"), EVIDENTLY, most_rows=1_500_000,
    ),
)  # fmt: skip


def interpreter(tool: Tool, folder: Path) -> Path:
    """Return the Python that has what a tool needs; its environment is made if it is not there."""
    if not tool.needs:
        return Path(sys.executable)
    name = "-".join(need.partition("=")[0].partition("<")[0] for need in tool.needs)
    where = folder / "environments" / name
    python = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = where / "installed"
    if not done.exists():
        print(f"making an environment: {', '.join(tool.needs)}", file=sys.stderr)
        venv.create(where, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *tool.needs]
        subprocess.run(install, check=True)
        done.touch()
    return python


def once(tool: Tool, python: Path, where: Path, home: Path) -> dict[str, Any]:
    """Return what one run in a fresh process measured; tools that would report their use are told not to."""
    script, *arguments = tool.script
    order = [str(where), *arguments] if script.startswith("peers/") else [*arguments, str(where)]
    (home / ".soda").mkdir(parents=True, exist_ok=True)
    (home / ".soda" / "config.yml").write_text("send_anonymous_usage_stats: false\n", encoding="utf-8")
    quiet = {"GX_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "HOME": str(home)}
    command = [str(python), str(HERE / script), *order]
    done = subprocess.run(
        command, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise SystemExit(f"{tool.name} failed:\n{done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(tool: Tool, where: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Return the medians of several runs, of one where a run takes very long."""
    python, found = interpreter(tool, folder), []
    while len(found) < runs and not (found and found[0]["seconds"] > PATIENCE_SECONDS):
        found.append(once(tool, python, where, folder / "home"))
    return {**found[0], **{name: median(run[name] for run in found) for name in ("seconds", "peak_mb")}}


def disagreements(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return where a tool counted something else than we did."""
    ours = found["recwatch"]["found"]
    return [
        f"{name}: {what} is {counted['found'][what]}, ours {n}"
        for name, counted in found.items()
        for what, n in ours.items()
        if isinstance(counted.get("found"), dict) and counted["found"].get(what, n) != n
    ]


def compare(rows: int, folder: Path, runs: int) -> None:
    """Print the table for one size of data.

    Raises:
        SystemExit: A tool failed, or counted something else than we did.
    """
    where = made.made(rows, folder)
    (where / "state.db").unlink(missing_ok=True)
    subprocess.run([sys.executable, str(HERE / "once.py"), "learn", str(where)], check=True, stdout=subprocess.DEVNULL)
    print(HEAD.format(rows=rows))
    found: dict[str, dict[str, Any]] = {}
    for tool in (tool for tool in TOOLS if rows <= tool.most_rows):
        found[tool.name] = one = measured(tool, where, folder, runs)
        bare, ours = found["bare scan"]["seconds"], found.get(tool.ours, one)["seconds"]
        print(
            f"| {tool.name} | {tool.does} | {one['seconds']:.2f} | {one['seconds'] / bare:.1f} "
            f"| {one['seconds'] / ours:.2f} | {one['peak_mb']:.0f} |",
            flush=True,
        )
    wrong = disagreements(found)
    if wrong:
        raise SystemExit("; ".join(wrong))


def main() -> None:
    """Compare over each size that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="numbers of events")
    parser.add_argument("--runs", type=int, default=3, help="runs of each tool; medians are shown")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "recwatch-benchmark")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for rows in arguments.rows:
        compare(rows, arguments.folder, arguments.runs)


if __name__ == "__main__":
    main()
