"""``recwatch report``: Evidently on a sample, labelled as one, beside our own scores; and every way it can fail."""

from __future__ import annotations

import importlib.util
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from sqlalchemy import BigInteger, literal_column

from checks.check import Outcome, Verdict
from checks.rows import Rows
from checks.window import Window
from monitor import report, reporter
from monitor.app import App
from monitor.baselines import Builder
from monitor.clock import SystemClock
from monitor.commands.report import command
from monitor.errors import RecwatchError
from monitor.evidence import Collector
from monitor.load import load
from monitor.report import Asked, ReportError
from monitor.resolve import Resolver, build
from monitor.runner import Runner
from monitor.status import Watched
from monitor.store import Store

HOUR = [datetime(2026, 3, 3, hour, tzinfo=UTC) for hour in range(24)]
CONFIG = """\
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events.parquet
    roles: {event_time: at, event_id: id}
    features: [price, tone]
"""
needs_evidently = pytest.mark.skipif(
    importlib.util.find_spec("evidently") is None, reason="evidently is not installed: pip install 'recwatch[reports]'"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of 20,000 events each; in the second one prices are three times what they were."""
    folder = tmp_path_factory.mktemp("report")
    duckdb.sql(f"""
        COPY (
          SELECT 'canary-' || i AS id, TIMESTAMP '2026-03-03 10:00:00' + to_milliseconds(i * 180) AS at,
            (i * 7919 % 1000) / 10.0 * CASE WHEN i < 20000 THEN 1 ELSE 3 END AS price,
            CASE i * 31 % 3 WHEN 0 THEN 'warm' WHEN 1 THEN 'cold' END AS tone
          FROM range(40000) AS t(i)
        ) TO '{folder}/events.parquet'
    """)
    path = folder / "recwatch.yml"
    path.write_text(CONFIG.replace("FOLDER", str(folder)))
    loaded = load(path)
    with closing(build(loaded)) as pipeline, closing(Store(f"sqlite:///{folder}/state.db", "default")) as store:
        Builder(Runner(pipeline, store, SystemClock()), store).build(Window(HOUR[10], HOUR[11]), ["feature_drift"])
    return path


@pytest.fixture(scope="module")
def written(config: Path) -> tuple[str, str]:
    """What the command says, and what it writes."""
    out = config.parent / "report.html"
    span = ["--from", HOUR[11].isoformat(), "--to", HOUR[12].isoformat()]
    done = CliRunner().invoke(command, ["--config", str(config), *span, "--sample-rows", "2000", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return done.output, out.read_text()


@needs_evidently
@pytest.mark.slow
def test_it_says_that_it_is_a_sample_and_what_all_rows_say(written: tuple[str, str]) -> None:
    said, page = written
    head = page[page.index("<section") : page.index("</section>")]
    assert "is made of a sample: reference 1,8" in head or "is made of a sample: reference 1,9" in head
    assert "of 20,000 rows" in head
    price = head[head.index("<td>price</td>") :]
    price = price[: price.index("</tr>")]
    assert "(psi)" in price
    assert "bad" in price
    assert "Wasserstein distance (normed)" in price
    tone = head[head.index("<td>tone</td>") :]
    assert "good" in tone[: tone.index("</tr>")]
    drift = {line.split(":")[0]: float(line.split()[1]) for line in said.splitlines() if " by " in line}
    assert drift["price"] > 0.5
    assert drift["tone"] < 0.1
    chance = {
        line.split(":")[0]: float(line.split("; p ")[1].split()[0]) for line in said.splitlines() if "SciPy" in line
    }
    assert chance["price"] < 1e-6
    assert chance["tone"] > 0.001


@needs_evidently
@pytest.mark.slow
def test_it_asks_nobody_else_and_shows_no_id(written: tuple[str, str]) -> None:
    _said, page = written
    assert "canary-" not in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet" href="http' not in page


def sampled(config: Path, seed: int) -> list[tuple[object, ...]]:
    with closing(build(load(config))) as pipeline, ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        window = Window(HOUR[10], HOUR[11])
        asked = Asked("events", window, window, sample_rows=1_000, seed=seed)
        rows = Rows(resolver.dataset("events"), window)
        found = report._sampled(resolver.session("events"), rows, ["price", "tone"], asked)
        assert found.total == 20_000
        return sorted(found.rows, key=str)


def test_a_seed_draws_the_same_rows_again_and_another_one_others(config: Path) -> None:
    first = sampled(config, 0)
    assert sampled(config, 0) == first
    assert sampled(config, 1) != first
    assert 800 <= len(first) <= 1_100


@pytest.mark.parametrize("step_us", [1, 1_000_000, 30_000_000, 3_600_000_000, 86_400_000_000])
@pytest.mark.parametrize("start", ["2026-03-01", "1969-12-01", "1900-01-01"])
def test_times_in_even_steps_are_drawn_evenly(start: str, step_us: int) -> None:
    times = f"SELECT epoch_us(TIMESTAMP '{start}') + i * {step_us} AS us FROM range(30000) t(i)"
    drawn = report._scattered(literal_column("us", BigInteger), 3) < report._PRIME // 30
    asked = f"SELECT count(*) FROM ({times}) WHERE {drawn.compile(compile_kwargs={'literal_binds': True})}"
    assert 800 <= duckdb.sql(asked).fetchall()[0][0] <= 1_200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from", HOUR[1].isoformat(), "--to", HOUR[2].isoformat()], "has no rows in 2026-03-03 01:00"),
        (["--from", HOUR[11].isoformat(), "--to", HOUR[12].isoformat(), "--features", "price,nope"], "no column nope"),
        (["--from", HOUR[11].isoformat()], "come together"),
        (["--from", HOUR[12].isoformat(), "--to", HOUR[11].isoformat()], "--to: must be after"),
    ],
)
def test_what_is_wrong_is_said(options: list[str], says: str, config: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--config", str(config), *options, "--out", str(tmp_path / "out.html")])
    assert done.exit_code != 0
    assert says in done.output


@needs_evidently
@pytest.mark.slow
def test_a_feature_that_has_become_null_takes_no_report_of_the_others_along(tmp_path: Path) -> None:
    duckdb.sql(f"""
        COPY (
          SELECT TIMESTAMP '2026-03-03 10:00:00' + to_seconds(i * 4) AS at, i % 7 / 2 AS price,
            CASE WHEN i < 900 THEN CASE i % 3 WHEN 0 THEN 'warm' ELSE 'cold' END END AS tone
          FROM range(1800) AS t(i)
        ) TO '{tmp_path}/events.parquet'
    """)
    path = tmp_path / "recwatch.yml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)).replace(", event_id: id", ""))
    span = ["--from", HOUR[11].isoformat(), "--to", HOUR[12].isoformat(), "--out", str(tmp_path / "out.html")]
    done = CliRunner().invoke(command, ["--config", str(path), *span])
    assert done.exit_code == 0, done.output
    first, second, _file = done.output.splitlines()
    assert (first.split(":")[0], second) == ("price", "tone: no value in a sample, so no score")
    alone = CliRunner().invoke(command, ["--config", str(path), *span, "--features", "tone"])
    assert "a window holds no value of tone" in alone.output


def test_a_report_needs_a_folder_to_be_in(config: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--config", str(config), "--out", str(tmp_path / "none" / "out.html")])
    assert (done.exit_code, "there is no folder" in done.output) == (2, True)


def ask(config: Path, tmp_path: Path) -> None:
    with closing(build(load(config))) as pipeline:
        asked = Asked("events", Window(HOUR[11], HOUR[12]), Window(HOUR[10], HOUR[11]), sample_rows=500)
        report.write(Runner(pipeline, None, SystemClock()), asked, tmp_path / "out.html")


@needs_evidently
@pytest.mark.parametrize(
    ("bound", "value", "says"),
    [("LONGEST_SECONDS", 0.5, "took longer than 0.5 s"), ("MEMORY_GB", 0.05, "Evidently failed")],
)
def test_it_is_bounded(
    bound: str, value: float, says: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, bound, value)
    with pytest.raises(ReportError, match=says):
        ask(config, tmp_path)


def test_without_evidently_it_says_what_to_install(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(RecwatchError, match=r"pip install 'recwatch\[reports\]'"):
        ask(config, tmp_path)


@needs_evidently
@pytest.mark.slow
def test_a_drift_alarm_gets_a_report_with_its_evidence(config: Path) -> None:
    loaded = load(config)
    with closing(build(loaded)) as pipeline, closing(Store(f"sqlite:///{config.parent}/state.db", "default")) as store:
        runner, clock = Runner(pipeline, store, SystemClock()), SystemClock()
        collector = Collector(runner, store, clock)
        drift = next(check for check in pipeline.checks["events"] if check.id == "feature_drift")
        (judged,) = runner.run("events", [(drift, Window(HOUR[11], HOUR[12]))])
        name, *_normal = collector.after(judged)
        ends = time.monotonic() + 90
        while reporter.find(store, name) is None and time.monotonic() < ends:
            time.sleep(0.2)
        watched = Watched(loaded, pipeline.checks, {}, clock.now())
        app = App(store, clock, lambda: watched, lambda: None, lambda: None)
        page, html = (ask_app(app, f"/evidence/{name}{rest}") for rest in ("", "/report"))
        assert "Evidently's report on a sample" in unescape(page[1])
        assert "is made of a sample" in html[1]
        assert "sandbox allow-scripts" in html[0]["Content-Security-Policy"]
        assert "connect-src" not in html[0]["Content-Security-Policy"], "by default nothing can be asked"
        collector.close()


@needs_evidently
def test_a_report_ends_with_the_daemon(config: Path) -> None:
    loaded = load(config)
    with closing(build(loaded)) as pipeline, closing(Store(f"sqlite:///{config.parent}/state.db", "default")) as store:
        made = reporter.Reporter(Runner(pipeline, store, SystemClock()), store, SystemClock())
        verdict = Verdict("feature_drift", "events", Window(HOUR[11], HOUR[12]), Outcome.BAD, "psi", feature="price")
        assert made.begin("0" * 16, verdict)
        assert not made.begin("1" * 16, verdict), "one at a time"
        made.close()
        began = time.monotonic()
        while made._busy.locked() and time.monotonic() < began + 30:
            time.sleep(0.05)
        assert time.monotonic() - began < 5
        assert reporter.find(store, "0" * 16) is None


def ask_app(app: App, path: str) -> tuple[dict[str, str], str]:
    headers: dict[str, str] = {}
    body = app({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda _status, said: headers.update(said))
    return headers, b"".join(body).decode()


@needs_evidently
@pytest.mark.slow
def test_no_name_or_value_of_the_data_becomes_a_script(tmp_path: Path) -> None:
    evil, out = "</script><script>canary()</script><!--<script>", tmp_path / "report.html"
    before, now = [[evil if n % 2 else "b"] for n in range(100)], [[evil if n % 9 else "b"] for n in range(100)]
    question = {"columns": [evil], "numeric": [], "categorical": [evil], "reference": before, "current": now}
    scores = report._evidently(question, out, None)
    page = out.read_text()
    assert page.count("canary()") > 2
    assert "<script>canary" not in page
    verdict = Verdict("feature_drift", "events", Window(*HOUR[10:12]), Outcome.BAD, "psi", 0.9, 0.2, feature=evil)
    assert "not scored" not in report._beside([verdict], scores), "its score is found all the same"


def test_ids_are_no_features_of_a_report(config: Path) -> None:
    span = ["--from", HOUR[11].isoformat(), "--to", HOUR[12].isoformat(), "--out", str(config.parent / "ids.html")]
    done = CliRunner().invoke(command, ["--config", str(config), *span, "--features", "price,id"])
    assert "the column of the role event_id never leaves the engine" in done.output
    assert not (config.parent / "ids.html").exists()
