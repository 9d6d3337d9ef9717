"""What the resting daemon gives back, and that nothing is lost by it."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from monitor import footprint

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")

SCRIPT = """
import re, sys
import duckdb
from monitor import footprint

def of(field):
    found, ours = 0, False
    for line in open("/proc/self/smaps"):
        head = re.match(r"[0-9a-f]+-[0-9a-f]+ (\\S+) .*", line)
        if head:
            ours = head[1] in ("r-xp", "r--p") and "duckdb" in line
        elif ours and line.startswith(field + ":"):
            found += int(line.split()[1])
    return found

def asked():
    return duckdb.connect().execute("SELECT count(*), sum(i % 7) FROM range(100000) r(i)").fetchone()

footprint.WORTH_IT_SECONDS = 0.0001
resting, first = footprint.Footprint(), asked()
before = of("Rss") - of("Anonymous")
worked = resting.settle()
again = resting.settle()
print(before > 2 * (of("Rss") - of("Anonymous")), worked, again, asked() == first)
"""


@linux
def test_code_and_constants_that_nobody_needs_are_given_back_and_come_again_when_somebody_does() -> None:
    command = [sys.executable, "-c", SCRIPT]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout.split(), ran.stderr) == (["True", "True", "False", "True"], "")


@linux
def test_only_what_nobody_has_written_to_is_given_back() -> None:
    found = dict(footprint.unchanged())
    changed: dict[int, int] = {}
    of_file, at = set[int](), 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            at = int(name.partition("-")[0], 16)
            if rest.startswith(("r--p", "r-xp")) and "/" in rest:
                of_file.add(at)
        elif name in ("Anonymous:", "Swap:"):
            changed[at] = changed.get(at, 0) + int(rest.split()[0])
    assert found
    assert {changed[start] for start in found} == {0}
    # The addresses that the loader filled in are among what may only be read.
    assert {at for at in of_file if changed[at]}.isdisjoint(found)
    assert any(changed[at] for at in of_file)


@linux
def test_garbage_that_refers_to_itself_is_collected_as_long_as_that_takes_next_to_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Statement:
        def __init__(self) -> None:
            self.comparator = self

    monkeypatch.setattr(footprint, "WORTH_IT_SECONDS", -1.0)
    monkeypatch.setattr(footprint, "COLLECT_EVERY", 100)
    # One collection takes 50 ms, by this clock.
    ticks = iter([100.0, 100.05, 104.9, 105.06, 105.11])
    monkeypatch.setattr(footprint.time, "monotonic", lambda: next(ticks))
    resting, left = footprint.Footprint(), []
    gc.disable()
    try:
        for _settled in range(3):
            garbage = weakref.ref(Statement())
            assert resting.settle()
            left.append(garbage() is not None)
    finally:
        gc.enable()
    assert left == [False, True, False]


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert footprint.Footprint().settle() is False


def test_only_engines_that_are_asked_are_loaded() -> None:
    script = """
import sys
import monitor.commands.run
from monitor.engines import NAMES, connect
engine = connect("files", "duckdb:///:memory:")
print(*(name for name in sys.modules if name.endswith((".mysql", ".hive", ".spark_functions", ".engines.postgres"))))
print(*(name for name in NAMES if connect("one", f"{name}://").sqlalchemy_engine.dialect.name.find(name) < 0))
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("\n\n", "")
