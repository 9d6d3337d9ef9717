"""The same history through the rule pack in promtool and through our own evaluation: the same alerts, at the same time.

Every minute a made run is committed where one is due, the exposition is scraped as Prometheus would, and the
objectives are evaluated as the daemon does. What was scraped is then given to promtool with the rule pack.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from alerts import rules
from alerts.alarms import firing
from alerts.evaluate import BURN, INGESTION_DOWN, NO_DATA
from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.alerting import Alerting
from monitor.config import Config
from monitor.exposition_slo import defined, running, seen
from monitor.objectives import points
from monitor.records import Judged, series_name
from monitor.resolve import build
from monitor.status import Watched
from monitor.store import Store

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
START = datetime(2026, 3, 3, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OUTCOMES = {"+": Outcome.GOOD, "-": Outcome.BAD, "?": Outcome.UNKNOWN, "!": Outcome.ERROR}
EVENTS = 1_000


@dataclass(frozen=True)
class Story:
    """What happens, minute by minute: ``+`` good, ``-`` bad, ``?`` unknown, ``!`` error, ``.`` the daemon is down.

    Between runs that are further apart than a minute the character of the run counts, the others do not.
    """

    minutes: str
    check: str = "freshness"
    every: int = 1
    objective: float = 0.99
    bad_share: float = 0.5
    events: int = EVENTS
    replicas: int = 1
    old_by: timedelta = timedelta(days=30)
    slo: Mapping[str, object] = field(default_factory=dict)


STORIES = {
    "outage": Story("+" * 90 + "-" * 45 + "+" * 60),
    "outage of events": Story("+" * 90 + "-" * 45 + "+" * 60, check="ingestion", objective=0.999),
    "blip": Story("+" * 90 + "-" + "+" * 60),
    "two bad runs": Story("+" * 90 + "--" + "+" * 60),
    "flapping": Story("+" * 60 + "---+++" * 15 + "+" * 30),
    "slow burn": Story("+" * 60 + ("-" + "+" * 9) * 36, check="ingestion", objective=0.99, bad_share=0.6),
    "low traffic": Story("+" * 90 + "-" * 20 + "+" * 40, check="ingestion", events=3, slo={"min_events": 500}),
    "enough traffic": Story("+" * 90 + "-" * 20 + "+" * 40, check="ingestion", events=100, slo={"min_events": 500}),
    "gaps": Story("+" * 60 + "." * 20 + "+" * 20 + "-" * 10 + "." * 15 + "-" * 20 + "+" * 60),
    "restart while it burns": Story("+" * 90 + "-" * 20 + "." * 2 + "-" * 10 + "+" * 40),
    "restart of events": Story("+" * 90 + "-" * 20 + "." * 7 + "-" * 10 + "+" * 40, check="ingestion"),
    "young": Story("+" * 5 + "-" * 60 + "+" * 40, old_by=timedelta(0)),
    "young events": Story("-" * 40 + "+" * 40, check="ingestion", old_by=timedelta(0)),
    "two replicas": Story("+" * 90 + "-" * 30 + "+" * 40, replicas=2),
    "unknown": Story("+" * 60 + "?" * 40 + "-" * 20 + "?" * 20 + "+" * 40),
    "unknown counts as bad": Story("+" * 60 + "?" * 40 + "+" * 40, slo={"on_unknown": "bad"}),
    "errors": Story("+" * 60 + "!" * 40 + "+" * 40),
    "sparse": Story("+" * 120 + "-" * 60 + "+" * 90, every=10),
    "loose objective": Story("+" * 60 + "-" * 300 + "+" * 60, objective=0.9),
    "hopeless objective": Story("+" * 60 + "-" * 240 + "+" * 10, objective=0.8),
    "sustained": Story("+" * 240 + "-" * 30 + "+" * 60, slo={"tiers": "sustained-5x"}),
    "down": Story("+" * 60 + "-" * 15 + "+" * 30, check="ingestion", bad_share=0.8),
    "down, checked rarely": Story("+" * 60 + "-" * 120 + "+" * 60, check="ingestion", every=15, bad_share=0.8),
    "down, then no engine": Story("+" * 60 + "-" * 15 + "!" * 45 + "+" * 30, check="ingestion", bad_share=0.8),
    "down, then no traffic": Story("+" * 60 + "-" * 15 + "?" * 45 + "+" * 30, check="ingestion", bad_share=0.8),
    "burns, then no engine": Story("+" * 60 + "-" * 20 + "!" * 90 + "+" * 30),
    "burns, then no engine for long": Story("+" * 60 + "-" * 20 + "!" * 240 + "+" * 30),
    "burns, then no engine for long, and on": Story("+" * 60 + "-" * 20 + "!" * 240 + "-" * 5 + "+" * 30),
    "burns, then no traffic for long": Story("+" * 60 + "-" * 20 + "?" * 240 + "+" * 30, check="ingestion"),
    "worse as good is forgotten": Story("+" * 60 + "-" * 6 + "!" * 150 + "+" * 20),
    "worse as good events are forgotten": Story(
        "+" * 60 + "-" * 6 + "?" * 150 + "+" * 20, check="ingestion", bad_share=0.9
    ),
    "down, then no traffic for long": Story(
        "+" * 60 + "-" * 15 + "?" * 240 + "+" * 5, check="ingestion", bad_share=0.8
    ),
    "over, then no engine": Story("+" * 60 + "-" * 20 + "+" * 15 + "!" * 45 + "+" * 30),
    "over, then no traffic": Story("+" * 60 + "-" * 20 + "+" * 15 + "?" * 45 + "+" * 30, check="ingestion"),
    "nothing counted yet": Story("?" * 40 + "!" * 40 + "-" * 20 + "+" * 20, check="ingestion", old_by=timedelta(0)),
    "two lost events": Story(
        "?" * 60 + "-" + "?" * 40 + "-" + "?" * 60, check="ingestion", events=1, bad_share=1, slo={"min_events": 500}
    ),
    "good, then unknown at once": Story("+" * 90 + "-" * 20 + "=" + "?" * 60 + "+" * 20),
    "volume out of its band": Story(
        "+" * 60 + "-" * 15 + "+" * 30, check="ingestion", bad_share=0.8, slo={"kind": "slices", "objective": 0.99}
    ),
    "not quite down": Story("+" * 60 + "-" * 15 + "+" * 30, check="ingestion", bad_share=0.4),
}


class Play:
    """Plays a story through the state, the exposition and our own evaluation."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story, check = story, story.check
        settings = {"every": f"{story.every}m", "window": f"{story.every}m", "settle": "0s"}
        events = {"files": "x.csv", "roles": {"event_time": "at"}, "sent": "sent"}
        off = {
            name: {"enabled": False} for name in ("freshness", "ingestion", "contract", "unknown_ids") if name != check
        }
        self.config = Config.model_validate(
            {
                "pipeline": "shop",
                "datasets": {"events": events, "sent": {"files": "y.csv", "roles": {"event_time": "at"}}},
                "checks": {check: settings, **off},
                "slos": {check: {"objective": story.objective, **story.slo}},
            }
        )
        self.pipeline, self.store = build(self.config), Store(f"sqlite:///{folder}/state.db", "shop")
        (self.slo,) = self.pipeline.slos.values()
        self.watched = Watched(self.config, self.pipeline.checks, {}, START, slos=self.pipeline.slos)
        self.ours: dict[str, list[int]] = {}
        self.series: dict[str, dict[int, float]] = {}
        self.alerting: Alerting | None = None

    def run(self) -> None:
        if self.story.old_by:
            self._commit(START - self.story.old_by, "+")
        for minute, what in enumerate(self.story.minutes):
            now = START + minute * MINUTE
            if what == ".":
                self.alerting = None
                continue
            self.alerting = self.alerting or Alerting(self.store, self.pipeline, now)
            if minute % self.story.every == 0:
                # A step that catches up may commit two windows.
                for each in {"=": "+?"}.get(what, what):
                    self._commit(now, each, behind=int(what == "=" and each == "+"))
            self.alerting.evaluate(now)
            for alarm in firing(self.alerting.memory.alarms).values():
                if alarm.sign.alert not in ASKED:
                    continue
                self.ours.setdefault(f"{alarm.sign.alert} {alarm.sign.tier}", []).append(minute)
            self._scrape(minute, now)

    def _commit(self, now: datetime, what: str, behind: int = 0) -> None:
        end, bad = now - behind * MINUTE / 2, round(self.story.events * self.story.bad_share)
        window = Window(end - self.story.every * MINUTE, end)
        outcome = OUTCOMES[what]
        counted = {"good": self.story.events - (bad if what == "-" else 0), "total": self.story.events}
        ratio = counted if self.story.check == "ingestion" and what in "+-" else {}
        verdict = Verdict(self.story.check, "events", window, outcome, "x_ratio", reason="made", **ratio)  # type: ignore[arg-type]
        found = tuple(points([self.slo], [verdict], now))
        self.store.commit(Judged(self.story.check, "events", window, [verdict], now, 0.1, points=found))

    def _scrape(self, minute: int, now: datetime) -> None:
        slos = running(self.watched)
        told = (*defined(slos.values()), *seen(self.store, slos, now))
        samples = {series_name(sample): sample for sample in told}
        samples |= {series_name(sample): sample for sample in self.store.counters()}
        for sample in samples.values():
            labels = ", ".join(f'{name}="{text}"' for name, text in {"pipeline": "shop", **sample.labels}.items())
            # In promtool time begins at 0.
            since = START.timestamp() if sample.metric.endswith("_timestamp_seconds") else 0
            self.series.setdefault(f"{sample.metric}{{{labels}", {})[minute] = sample.value - since

    def scraped(self) -> Iterator[dict[str, str]]:
        for name, values in self.series.items():
            written = " ".join(str(values.get(minute, "_")) for minute in range(len(self.story.minutes)))
            for replica in range(self.story.replicas):
                yield {"series": f'{name}, instance="{replica}"}}', "values": written}

    def close(self) -> None:
        self.pipeline.close()
        self.store.close()


ASKED = (BURN, INGESTION_DOWN, NO_DATA)


def theirs(play: Play, folder: Path) -> dict[str, list[int]]:
    """Return at which minutes each alert and tier fires in Prometheus."""
    (folder / "pack.yml").write_text(rules.rendered())
    minutes = range(len(play.story.minutes))
    asked = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []} for minute in minutes for name in ASKED
    ]  # nothing is expected, so that promtool prints whatever fires
    test = {"interval": "1m", "input_series": list(play.scraped()), "alert_rule_test": asked}
    order = [group["name"] for group in rules.pack()["groups"]]
    document = {"rule_files": ["pack.yml"], "evaluation_interval": "1m", "group_eval_order": order, "tests": [test]}
    (folder / "test.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(folder / "test.yml")], capture_output=True, text=True, timeout=300
    )
    said = done.stdout + done.stderr
    assert "many-to-many" not in said
    assert "FAILED" in said or "SUCCESS" in said, said[:2_000]
    found: dict[str, list[int]] = {}
    for name, at, got in re.findall(r"alertname: (\w+), time: (\S+?),.*?got:\[(.*?)\n\s*\]", said, re.DOTALL):
        tiers = re.findall(r'tier="(\w+)"', got) if name == BURN else [""]
        for tier in tiers:
            found.setdefault(f"{name} {tier}", []).append(_minutes(at))
    return found


def _minutes(text: str) -> int:
    hours, minutes = re.search(r"(?:(\d+)h)?(?:(\d+)m)?", text).groups()  # type: ignore[union-attr]
    return 60 * int(hours or 0) + int(minutes or 0)


def spans(minutes: list[int], story: Story) -> list[tuple[int, int]]:
    """Return first and last minute of each time that something fired without a break; nobody looks while it is down."""
    found: list[tuple[int, int]] = []
    for minute in sorted(minute for minute in minutes if story.minutes[minute] != "."):
        between = story.minutes[found[-1][1] + 1 : minute] if found else ""
        # After the daemon was down a rate needs a second scrape: one evaluation, as everywhere.
        if found and len(between.replace(".", "")) <= ("." in between):
            found[-1] = (found[-1][0], minute)
        else:
            found.append((minute, minute))
    return found


@pytest.mark.parametrize("name", STORIES)
def test_both_give_the_same_alerts(name: str, tmp_path: Path) -> None:
    play = Play(STORIES[name], tmp_path)
    play.run()
    prometheus = theirs(play, tmp_path)
    play.close()
    ours = {key: spans(minutes, play.story) for key, minutes in play.ours.items()}
    is_worth_playing(name, ours)
    other = {key: spans(minutes, play.story) for key, minutes in prometheus.items()}
    assert ours.keys() == other.keys(), (ours, other)
    for key, found in ours.items():
        assert len(found) == len(other[key]), (key, found, other[key])
        for mine, its in zip(found, other[key], strict=True):
            assert abs(mine[0] - its[0]) <= 1, (key, found, other[key])
            assert abs(mine[1] - its[1]) <= 1, (key, found, other[key])


def is_worth_playing(name: str, told: Mapping[str, list[tuple[int, int]]]) -> None:
    """An outage must fire, and a blip must not, or equal silence would prove nothing."""
    burns, down = told.get(f"{BURN} page_fast", []), told.get(f"{INGESTION_DOWN} ", [])
    if name in ("outage", "outage of events"):
        assert burns
    elif name == "blip":
        assert told == {}
    elif name == "two lost events":
        assert set(told) == {f"{NO_DATA} "}
    elif name == "down, checked rarely":
        assert down == [(75, 184)], "one alarm from the second bad run until the first good one, and a little longer"
    elif name == "burns, then no engine":
        ((_first, last),) = burns
        assert last == 80 + 90 + 5, "it goes on while nothing is known, until a good run and a little longer"
    elif name == "burns, then no engine for long":
        assert all(len(spans) == 1 for spans in told.values()), "what is forgotten is no news"
        assert burns[0][1] > 80 + 240, "however long nothing is known"
    elif name in ("worse as good is forgotten", "worse as good events are forgotten"):
        assert not burns
    elif name == "volume out of its band":
        assert burns
        assert not down, "a share of time is not one of events"
    elif name == "down, then no traffic for long":
        assert len(down) == 1
    elif name == "over, then no engine":
        ((_first, last),) = burns
        assert last <= 80 + 10, "what was known to be over does not begin anew"
