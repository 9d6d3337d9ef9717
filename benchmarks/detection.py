"""What the daemon tells of each kind of fault, and without one: ``python benchmarks/detection.py`` (an hour a seed).

For every seed a made-up shop, another in each, whose events have the rhythm of days and weeks and are always a little
dirty. ``recwatch init`` writes the configuration, which is left as it is but for a channel, and ``recwatch baseline
build`` learns from the week before. The daemon's own code runs minute by minute with a clock that is moved on: a day
and a half without a fault, of which all that it tells is printed, then from there each kind of fault by itself, until
it was told and a while longer.

A message is right if a check has judged bad that has to see the fault or may follow it; its cause if it is the one that
the tests of triage want. All else that fires is listed beside it, such as that little can be judged of little traffic.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from alerts.evaluate import BLIND
from alerts.message import Alert, Problem, Severity, State
from benchmarks.soak import all_due
from checks.window import Window
from monitor import outbox
from monitor.baselines import Builder
from monitor.clock import ManualClock
from monitor.commands.init import command as init
from monitor.daemon import Daemon
from monitor.faults import KINDS, Fault
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings
from tests.faults.test_triage import CAUSES

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HISTORY = 7 * DAY
# A tier begins once half of its long window was watched; the longest but one has a day.
CALM = 36 * HOUR
# What takes longer to be told counts as not told.
PATIENCE = 6 * HOUR
# What else is told of a fault.
AFTERWARDS = 20 * MINUTE
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """A shop, and when its daemon starts."""

    stream: Stream
    start: datetime

    @classmethod
    def of(cls, seed: int, events_per_second: float) -> World:
        """Return the shop of a seed; each starts at another hour of another day."""
        users = int(max(20_000, 100 * events_per_second))
        settings = StreamSettings(
            seed=seed, events_per_second=events_per_second, users=users, items=users // 10, sent_bucket_seconds=60
        )
        return cls(Stream(settings), MONDAY + HISTORY + seed * 31 * HOUR)

    @property
    def since(self) -> datetime:
        """Nothing happened before."""
        return self.start - HISTORY


@dataclass
class Life:
    """A daemon whose clock is moved by hand, and the data that it reads.

    Args:
        world: Where the data come from.
        folder: Holds the data and ``recwatch.yml``.
        faults: What goes wrong.
        start: When it begins to look.
    """

    world: World
    folder: Path
    start: datetime
    faults: tuple[Fault, ...] = ()
    told: list[Alert] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._writer = LiveWriter(self.world.stream, self.folder, self.start, self.world.since, self.faults)
        self._clock = ManualClock(self.start)
        self._daemon = Daemon(self.folder / "recwatch.yml", self._clock)
        self._daemon.live.watch.lead(True)
        self._known = len(outbox.history(self._daemon.store, self.world.since, at_most=10_000))

    def minutes(self, span: timedelta) -> Iterator[datetime]:
        """Let time pass; yield each minute after all that is due was done."""
        for number in range(span // MINUTE):
            now = self._clock.now() + MINUTE
            self._writer.advance(now)
            self._clock.move(MINUTE)
            all_due(self._daemon, number, lambda _every: True)
            told = outbox.history(self._daemon.store, self.world.since, at_most=10_000)[::-1]
            self.told = [sent.alert for sent in told[self._known :]]
            yield now

    def close(self) -> None:
        """End it; data and state stay."""
        self._daemon._scheduler.start(paused=True)
        self._daemon.stop()


def configure(folder: Path) -> None:
    """Write what ``recwatch init`` writes, with a channel."""
    path = folder / "recwatch.yml"
    assert init.callback is not None
    with contextlib.redirect_stdout(io.StringIO()):
        init.callback(str(folder), path, "shop", True)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["state"] = f"sqlite:///{folder}/state.db"
    config["channels"] = {"log": {"type": "console"}}
    config["notify"] = {"pages": ["log"], "tickets": ["log"]}
    config["evidence"] = {"reports": False}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def learn(world: World, folder: Path) -> None:
    """Learn what is normal from the history, as ``recwatch baseline build`` does."""
    config = load(folder / "recwatch.yml")
    with (
        contextlib.closing(Store(config.state.get_secret_value(), config.pipeline)) as store,
        contextlib.closing(build(config)) as pipeline,
    ):
        built = Builder(Runner(pipeline, store, ManualClock(world.start)), store).build(
            Window(world.since, world.start)
        )
    problems = [found.problem for found in built if found.problem]
    if problems:
        raise SystemExit("; ".join(problems))


@dataclass(frozen=True)
class Seen:
    """What was told of one fault.

    Args:
        minutes: From its begin to the first right message; None if there was none.
        severity: Of that message; empty if there was none.
        first: What that message named as the cause; empty if it named none.
        last: What the last message of that incident named.
        others: What fired beside it, with its severity.
    """

    minutes: float | None
    severity: str
    first: str
    last: str
    others: tuple[str, ...]


def fired(alerts: list[Alert]) -> Iterator[tuple[Alert, Problem]]:
    """Yield each problem as it first fires, with the message that tells of it."""
    known = set()
    for alert in alerts:
        for problem in alert.problems:
            if problem.state is State.FIRING and (identity := (problem.title, problem.severity)) not in known:
                known.add(identity)
                yield alert, problem


def seen(world: World, folder: Path, kind: str, at: datetime) -> Seen:
    """Let one fault happen, and return what was told."""
    fault = Fault(kind, at, at + PATIENCE)
    life = Life(world, folder, at, (fault,))
    checks = {*KINDS[kind].seen_by, *KINDS[kind].may_follow}
    first: tuple[datetime, Alert, Severity] | None = None
    others: set[str] = set()
    for now in life.minutes(PATIENCE):
        for alert, problem in fired(life.told):
            if problem.check not in checks or problem.alert in BLIND:
                others.add(f"{problem.severity} {problem.title}")
            elif first is None:
                first = now, alert, problem.severity
        if first is not None and now - first[0] >= AFTERWARDS:
            break
    life.close()
    if first is None:
        return Seen(None, "", "", "", tuple(sorted(others)))
    last = next(alert for alert in reversed(life.told) if alert.key == first[1].key)
    causes = [alert.triage[0] if alert.triage else "" for alert in (first[1], last)]
    return Seen((first[0] - at) / MINUTE, first[2].value, *causes, tuple(sorted(others)))


def seed(number: int, events_per_second: float, kinds: list[str], folder: Path) -> dict[str, Seen]:
    """Live through the calm time of one shop and each of its faults; print a line for each."""
    world, calm = World.of(number, events_per_second), folder / "calm"
    LiveWriter(world.stream, calm, world.since).advance(world.start)
    configure(calm)
    learn(world, calm)
    life = Life(world, calm, world.start)
    for _minute in life.minutes(CALM):
        pass
    life.close()
    for alert, problem in fired(life.told):
        print(f"seed {number}: without a fault: {problem.severity} {problem.title}: {alert.change}", flush=True)
    found = {}
    for kind in kinds:
        scene = folder / kind
        # What is written anew is not shared.
        kept = shutil.ignore_patterns("state.db*", "*.yml", "users.parquet", "items.parquet")
        shutil.copytree(calm, scene, copy_function=os.link, ignore=kept)
        shutil.copy(calm / "state.db", scene)
        text = (calm / "recwatch.yml").read_text(encoding="utf-8").replace(str(calm), str(scene))
        (scene / "recwatch.yml").write_text(text, encoding="utf-8")
        found[kind] = seen(world, scene, kind, world.start + CALM)
        print(f"seed {number}: {kind}: {found[kind]}", flush=True)
        shutil.rmtree(scene)
    return found


def main() -> None:
    """Print what was told of each kind of fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="which shops")
    parser.add_argument("--rate", type=float, default=10.0, help="events per second, on average")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS), help="kinds of faults")
    arguments = parser.parse_args()
    found = []
    for number in arguments.seeds:
        with tempfile.TemporaryDirectory(prefix="recwatch-detection-") as name:
            found.append(seed(number, arguments.rate, arguments.kinds, Path(name)))
    print("| fault | told | after, min (median) | as | cause at once | in the end | beside it |")
    print("|---|---:|---:|---|---:|---:|---|")
    for kind in arguments.kinds:
        runs = [one[kind] for one in found]
        minutes = [run.minutes for run in runs if run.minutes is not None]
        others = sorted({other for run in runs for other in run.others})
        print(
            f"| {kind} | {len(minutes)} of {len(runs)} | {median(minutes) if minutes else float('nan'):.0f} "
            f"| {', '.join(sorted({run.severity for run in runs if run.severity}))} "
            f"| {sum(CAUSES.get(kind, '?') in run.first for run in runs)} "
            f"| {sum(CAUSES.get(kind, '?') in run.last for run in runs)} | {', '.join(others)} |"
        )


if __name__ == "__main__":
    main()
