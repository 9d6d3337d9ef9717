"""The rule pack in a real Prometheus' own unit tests: when burn alerts fire, when they end, and when not."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from alerts import rules
from alerts.burn import PRESETS
from alerts.slo import Kind, Slo

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's prometheus)")
PERIOD = timedelta(days=28)
RULES = Path(rules.__file__).parent / "rules"
LABELS = 'pipeline="shop", slo="feed"'


def slo(objective: float = 0.99, interval_minutes: int = 2, preset: str = "workbook") -> Slo:
    interval = timedelta(minutes=interval_minutes)
    tiers = PRESETS[preset]
    return Slo("feed", "events", "freshness", Kind.SLICES, objective, PERIOD, interval, tiers)


@dataclass
class History:
    """Runs of one check, minute by minute: ``+`` good, ``-`` bad, ``?`` unknown; each holds for an interval."""

    slo: Slo
    runs: str
    observed_hours: float = 1_000

    def rendered(self) -> list[dict[str, str]]:
        step = int(self.slo.interval.total_seconds() // 60)
        minutes = [run for run in self.runs for _ in range(step)]
        slices = " ".join({"+": "1", "-": "0", "?": "_"}[run] for run in minutes)
        bad, counted = 0, []
        for at, run in enumerate(minutes):
            bad += run == "-" and at % step == 0
            counted.append(str(bad))
        thresholds = {
            f'recwatch_slo_alert_threshold_ratio{{{LABELS}, tier="{tier.name}"':
            tier.threshold_ratio(self.slo.objective, PERIOD) for tier in self.slo.active
        }  # fmt: skip
        fixed = {
            **thresholds,
            f"recwatch_slo_min_bad_checks{{{LABELS}": self.slo.min_bad_checks,
            f"recwatch_slo_min_events{{{LABELS}": self.slo.min_events,
            f'recwatch_slo_info{{{LABELS}, check="freshness", dataset="events", team="data"': 1,
        }
        many = len(minutes) - 1
        found = {name: f"{value}x{many}" for name, value in fixed.items()}
        found[f"recwatch_slo_slice_good{{{LABELS}"] = slices
        found[f'recwatch_slo_checks_total{{{LABELS}, result="bad"'] = " ".join(counted)
        start = int(self.observed_hours * 3600)
        found[f"recwatch_slo_observed_seconds{{{LABELS}"] = f"{start}+60x{many}"
        return [{"series": f'{name}, instance="0"}}', "values": values} for name, values in found.items()]


def firing(history: History, folder: Path) -> dict[str, list[int]]:
    """Return, for each tier, the minutes at which it fires; found by asking promtool about every minute."""
    assert PROMTOOL is not None
    minutes = len(history.runs) * int(history.slo.interval.total_seconds() // 60)
    document = {
        "rule_files": [str(RULES / "recwatch.rules.yml")],
        "evaluation_interval": "1m",
        # Otherwise promtool takes them in any order, and a minute is won or lost.
        "group_eval_order": [group["name"] for group in rules.pack()["groups"]],
        "tests": [
            {
                "interval": "1m",
                "input_series": history.rendered(),
                # Nothing is expected, so that promtool prints whatever fires.
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": "RecwatchSloBudgetBurn", "exp_alerts": []}
                    for minute in range(minutes)
                ],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, timeout=300)
    assert "many-to-many" not in done.stderr + done.stdout
    found: dict[str, list[int]] = {}
    for minute, got in re.findall(r"time: (\S+?),.*?got:\[(.*?)\n\s*\]", done.stdout + done.stderr, re.DOTALL):
        for tier in re.findall(r'tier="(\w+)"', got):
            found.setdefault(tier, []).append(_minutes(minute))
    return found


def _minutes(text: str) -> int:
    hours, minutes = re.search(r"(?:(\d+)h)?(?:(\d+)m)?", text).groups()  # type: ignore[union-attr]
    return 60 * int(hours or 0) + int(minutes or 0)


CALM = "+" * 60  # two hours at one run every two minutes


@needs_promtool
def test_an_outage_pages_within_minutes_and_ends_after_it(tmp_path: Path) -> None:
    found = firing(History(slo(), CALM + "-" * 30 + "+" * 30), tmp_path)
    start, end = 120, 180
    assert set(found) == {"page_fast", "page_slow", "ticket_fast", "ticket_slow"}
    assert start + 5 <= found["page_fast"][0] <= start + 12
    assert end <= found["page_fast"][-1] <= end + 12, "gone within 12 minutes of the recovery"


@needs_promtool
def test_ten_bad_minutes_are_one(tmp_path: Path) -> None:
    assert "page_fast" in firing(History(slo(), CALM + "-" * 5 + "+" * 30), tmp_path)


@needs_promtool
def test_unknown_is_neither_good_nor_bad(tmp_path: Path) -> None:
    assert firing(History(slo(), CALM + "?" * 60), tmp_path) == {}


@needs_promtool
def test_a_young_history_keeps_slow_tiers_quiet(tmp_path: Path) -> None:
    found = firing(History(slo(), "+" * 30 + "-" * 15 + "+" * 15, observed_hours=0.1), tmp_path)
    assert set(found) == {"page_fast"}


@needs_promtool
def test_tiers_that_cannot_fire_do_not(tmp_path: Path) -> None:
    loose = slo(objective=0.9)
    assert [tier.name for tier in loose.active] == ["page_slow", "ticket_fast", "ticket_slow"]
    assert "page_fast" not in firing(History(loose, CALM + "-" * 150), tmp_path)


@needs_promtool
def test_sparse_checks_lose_the_tiers_that_are_faster_than_they_are(tmp_path: Path) -> None:
    sparse = slo(interval_minutes=15)
    assert [tier.name for tier in sparse.active] == ["page_slow", "ticket_fast", "ticket_slow"]
    assert "page_slow" in firing(History(sparse, "+" * 30 + "-" * 8), tmp_path)


@needs_promtool
def test_the_sustained_page_fires_at_five_times_the_budget(tmp_path: Path) -> None:
    burning = slo(preset="sustained-5x")
    # 5 x 1 % is 5 % of six hours: eighteen minutes, nine runs.
    assert "page_sustained" in firing(History(burning, "+" * 180 + "-" * 11 + "+" * 10), tmp_path)
    assert "page_sustained" not in firing(History(burning, "+" * 180 + "-" * 8 + "+" * 10), tmp_path)


@needs_promtool
def test_promtool_accepts_the_pack() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(RULES / "recwatch.rules.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_rendered_files_are_up_to_date() -> None:
    assert (RULES / "recwatch.rules.yml").read_text() == rules.rendered(), "run: python -m alerts.rules"
    assert (RULES / "recwatch.prometheusrule.yml").read_text() == rules.prometheus_rule()
