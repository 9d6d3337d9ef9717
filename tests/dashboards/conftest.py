"""The dashboards as shipped, and a real Prometheus that scrapes the demo's daemon through its faults."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.rules import TIERS, pack
from checks import CATALOGUE
from dashboards import shipped
from monitor.demo import Demo, free_port
from monitor.load import load
from monitor.resolve import build

PROMETHEUS = shutil.which("prometheus")
# Long enough for every check to run thrice and for each fault of the play.
PLAY = timedelta(seconds=80)
VARIABLES = {
    "$pipeline": ".+", "$slo": ".+", "$__rate_interval": "30s", "$__interval": "30s", "$__range": "5m",
}  # fmt: skip


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel of a dashboard, those in closed rows too."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def substituted(expression: str) -> str:
    """Return a query as Grafana sends it, with everything chosen."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@pytest.fixture(scope="session")
def boards() -> list[dict[str, Any]]:
    return list(shipped.boards())


class Prometheus:
    """A running Prometheus; asks it queries."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("/api/v1/query", query=substituted(expression))["result"]
        return found

    def over_time(self, expression: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        span = {"start": str(start.timestamp()), "end": str(end.timestamp()), "step": "2"}
        found: list[dict[str, Any]] = self.ask("/api/v1/query_range", query=substituted(expression), **span)["result"]
        return found


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, datetime, datetime]]:
    """Prometheus after the demo's faults, with the shipped rules, and from when to when the play lasted."""
    if PROMETHEUS is None:
        pytest.skip("Prometheus is not installed (Debian's prometheus)")
    folder = tmp_path_factory.mktemp("dashboards")
    demo, port = Demo(folder / "demo", PLAY), free_port()
    demo.prepare(lambda _what, _share: None)
    _add(demo.config)
    _configure(folder, demo)
    command = [
        PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        demo.start()
        while datetime.now(UTC) < demo.started + PLAY:
            demo.step()
            time.sleep(0.5)
        yield Prometheus(f"http://127.0.0.1:{port}"), demo.started, datetime.now(UTC)
    finally:
        process.terminate()
        demo.stop()
        process.wait(timeout=20)


def _add(config: Path) -> None:
    """Have the daemon watch what the demo has not: a budget, and cohorts."""
    loop = "feedback_loop: {every: 5s, window: 1m, settle: 2s, exposed: [iphone], control: [pixel]}"
    text = config.read_text(encoding="utf-8").replace(
        "      source: source\n", "      source: source\n      cohort: device\n"
    )
    text = text.replace("checks:\n", f"checks:\n  {loop}\n")
    text = text.replace("datasets:\n", f"datasets:\n{_experiment(config.parent)}")
    budget = "engines: {files: {url: 'duckdb:///:memory:', budget: {seconds_per_hour: 3600}}}\n"
    config.write_text(text + budget, encoding="utf-8")


def _experiment(folder: Path) -> str:
    """Write what ten users of each cohort are shown in each second, and return it as a dataset."""
    start = datetime.now(UTC) - timedelta(minutes=5)
    seconds = range(int((2 * PLAY + timedelta(minutes=5)).total_seconds()))
    rows = [
        f"{start + timedelta(seconds=second):%FT%T},{what},{arm}{user},{arm}"
        for second in seconds for user in range(10) for arm in ("new", "old")
        for what in (("view", "click") if (second + user) % 4 == 0 else ("view",))
    ]  # fmt: skip
    (folder / "experiment.csv").write_text("\n".join(("at,what,who,arm", *rows)), encoding="utf-8")
    off = ", ".join(f"{check.id}: {{enabled: false}}" for check in CATALOGUE if check.id != "click_through")
    roles = "{event_time: at, event_type: what, user: who, cohort: arm}"
    clicks = "click_through: {exposed: [new], control: [old], min_users: 2}"
    return f"  experiment:\n    files: experiment.csv\n    roles: {roles}\n    checks: {{{clicks}, {off}}}\n"


def _configure(folder: Path, demo: Demo) -> None:
    """Write Prometheus' configuration, and the rules with the demo's tiers, evaluated as often as it needs."""
    pipeline = build(load(demo.config))
    pipeline.close()
    tiers = {tier.name: tier for tier in (*TIERS, *(tier for slo in pipeline.slos.values() for tier in slo.tiers))}
    rules = pack(tuple(tiers.values()))
    for group in rules["groups"]:
        group["interval"] = "2s"
        for rule in group["rules"]:
            # The demo is over before anything has lasted for minutes.
            rule.pop("for", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    target = re.sub("https?://|/$", "", demo.url)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "recwatch", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
