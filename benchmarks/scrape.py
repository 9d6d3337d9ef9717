"""Time of a scrape by series: ``python benchmarks/scrape.py``.

It fills a state with the counters and gauges of several datasets, until /metrics holds 1,000 series and then
10,000, and times the whole answer of the application, as the server would give it to Prometheus.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from wsgiref.util import setup_testing_defaults

sys.path.insert(0, str(Path(__file__).parents[1]))

from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.metrics import METRICS, Kind
from checks.window import Window
from monitor.app import App
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.records import Judged
from monitor.resolve import Pipeline, build
from monitor.runner import run_samples
from monitor.status import Watched
from monitor.store import Store

TIMES, SOURCES = 15, 10
ROLES = {"event_time": "at", "user": "user_id", "item": "item_id", "source": "app", "value": "price"}
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


def main() -> None:
    """Print the median and the slowest time of a scrape, by series."""
    for datasets in (6, 65):
        with tempfile.TemporaryDirectory() as folder:
            print(measured(Path(folder), datasets))


def measured(folder: Path, datasets: int) -> str:
    """Return what a scrape of so many datasets takes, each with some 155 series."""
    events = {"files": "events.csv", "roles": ROLES, "features": ["price"], "most_sources": SOURCES}
    asked = {"pipeline": "made", "datasets": {f"events{at}": events for at in range(datasets)}}
    config = Config.model_validate({**asked, "limits": {"max_series": 100_000}})
    store, pipeline = Store(f"sqlite:///{folder}/state.db", "made"), build(config)
    try:
        fill(store, pipeline)
        watched = Watched(config, pipeline.checks, {}, NOON)
        app = App(store, SystemClock(), lambda: watched, lambda: None, lambda: None)
        took, text = [], b""
        # As the daemon does at its start.
        gc.collect()
        gc.freeze()
        for _time in range(TIMES):
            started = time.perf_counter()
            text = scrape(app)
            took.append(1000 * (time.perf_counter() - started))
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        return f"{series:,} series: median {median(took):.1f} ms, slowest {max(took):.1f} ms"
    finally:
        pipeline.close()
        store.close()


def fill(store: Store, pipeline: Pipeline) -> None:
    """Commit one run of every check, with counters and gauges of every source."""
    window = Window(NOON - timedelta(minutes=1), NOON)
    for dataset, checks in pipeline.checks.items():
        for check in checks:
            verdicts = (Verdict(check.id, dataset, window, Outcome.GOOD, "share", 0.1, 0.2),)
            found = [
                (metric, Sample(metric.name, labels(metric.labels, dataset, at), 5 + at))
                for metric in METRICS
                if metric.check == check.id
                for at in range(SOURCES if "source" in metric.labels else 1)
            ]
            counted = [sample for metric, sample in found if metric.kind is Kind.COUNTER]
            gauges = [sample for metric, sample in found if metric.kind is Kind.GAUGE]
            store.commit(
                Judged(
                    check.id, dataset, window, verdicts, NOON, 0.1, Tally(dataset, window),
                    (*counted, *run_samples(check.id, dataset, verdicts)), tuple(gauges),
                )
            )  # fmt: skip


def labels(names: tuple[str, ...], dataset: str, at: int) -> dict[str, str]:
    """Return a value for each label of a metric."""
    known = {"dataset": dataset, "source": f"source {at}"}
    return {name: known.get(name, "any") for name in names}


def scrape(app: App) -> bytes:
    """Return the text of one scrape."""
    environ: dict[str, object] = {"PATH_INFO": "/metrics", "REMOTE_ADDR": "127.0.0.1"}
    setup_testing_defaults(environ)
    answered: list[str] = []
    text = b"".join(app(environ, lambda status, *_rest: answered.append(status)))
    if answered != ["200 OK"]:
        raise SystemExit(f"the scrape failed: {answered}")
    return text


if __name__ == "__main__":
    main()
