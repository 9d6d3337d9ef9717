"""``recwatch report --rank``: recommender metrics of what was shown, where the data has ranks."""

from __future__ import annotations

import importlib.util
import math
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from checks.rows import Rows
from checks.window import Window
from monitor.commands.report import command
from monitor.load import load
from monitor.ranking import shown, slice_of
from monitor.resolve import Resolver, build

HOUR = [datetime(2026, 3, 3, hour, tzinfo=UTC) for hour in range(24)]
SPAN = ["--from", HOUR[11].isoformat(), "--to", HOUR[12].isoformat()]
CONFIG = """\
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events.parquet
    roles: {event_time: at, event_id: id, user: user, item: item, event_type: type}
    features: [place]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of ten for 1,000 users an hour; the last item is a hit in the first hour, the first in the second."""
    folder = tmp_path_factory.mktemp("ranking")
    duckdb.sql(f"""
        COPY (
          SELECT 'event' || i AS id, 'canary-' || (i // 10) AS user, 'item' || (i * 7919 % 500) AS item,
            TIMESTAMP '2026-03-03 10:00:00' + to_milliseconds(i * 360) AS at, 'shown' AS type, i % 10 + 1 AS place
          FROM range(20000) AS t(i)
          UNION ALL
          SELECT 'hit' || i, 'canary-' || (i // 10), 'item' || (i * 7919 % 500),
            TIMESTAMP '2026-03-03 10:00:00.1' + to_milliseconds(i * 360), 'click', NULL
          FROM range(20000) AS t(i) WHERE i % 10 = CASE WHEN i < 10000 THEN 9 ELSE 0 END
        ) TO '{folder}/events.parquet'
    """)
    path = folder / "recwatch.yml"
    path.write_text(CONFIG.replace("FOLDER", str(folder)))
    return path


@pytest.mark.skipif(importlib.util.find_spec("evidently") is None, reason="evidently is not installed")
@pytest.mark.slow
def test_what_stood_first_and_was_right_scores_best(config: Path) -> None:
    out = config.parent / "report.html"
    asked = ["--config", str(config), *SPAN, "--rank", "place", "--hit", "click", "--sample-rows", "4000"]
    done = CliRunner().invoke(command, [*asked, "--out", str(out)])
    assert done.exit_code == 0, done.output
    scores = {name: float(score) for name, _, score in (line.partition(": ") for line in done.output.splitlines()[:-1])}
    assert scores["MRR"] == pytest.approx(1.0, abs=0.01), "every list has its hit at the top"
    assert scores["NDCG"] == pytest.approx(1.0, abs=0.01)
    assert scores["HitRate"] == pytest.approx(1.0, abs=0.01)
    assert scores["PrecisionTopK"] == pytest.approx(0.1, abs=0.005)
    page = out.read_text()
    head = page[page.index("<section") : page.index("</section>")]
    assert "Recommender metrics of events: a sample" in head
    assert "of 11,000 rows" in head
    assert "canary-" not in page
    assert "item7" not in page


@pytest.mark.skipif(importlib.util.find_spec("evidently") is None, reason="evidently is not installed")
@pytest.mark.slow
def test_a_reference_that_is_mostly_before_the_first_row_has_lists_all_the_same(config: Path, tmp_path: Path) -> None:
    before = ["--reference-from", (HOUR[11] - timedelta(days=7)).isoformat(), "--reference-to", HOUR[11].isoformat()]
    asked = ["--config", str(config), *SPAN, *before, "--rank", "place", "--hit", "click", "--sample-rows", "4000"]
    done = CliRunner().invoke(command, [*asked, "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output


@pytest.mark.skipif(importlib.util.find_spec("evidently") is None, reason="evidently is not installed")
@pytest.mark.slow
def test_what_stood_last_and_was_right_counts_at_the_last_rank(config: Path, tmp_path: Path) -> None:
    spans = ["--from", HOUR[10].isoformat(), "--to", HOUR[11].isoformat()]
    spans += ["--reference-from", HOUR[11].isoformat(), "--reference-to", HOUR[12].isoformat()]
    asked = ["--config", str(config), *spans, "--rank", "place", "--hit", "click", "--sample-rows", "4000"]
    done = CliRunner().invoke(command, [*asked, "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    scores = {name: float(score) for name, _, score in (line.partition(": ") for line in done.output.splitlines()[:-1])}
    assert scores["NDCG"] == pytest.approx(1 / math.log2(11), abs=0.002)
    assert scores["MRR"] == pytest.approx(0.1, abs=0.002)
    assert scores["HitRate"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.skipif(importlib.util.find_spec("evidently") is None, reason="evidently is not installed")
@pytest.mark.slow
def test_lists_of_unlike_lengths_score_at_most_one(tmp_path: Path) -> None:
    """Evidently's MAP counts the last item of a list again at each rank up to the length of the longest: up to 10."""
    duckdb.sql(f"""
        COPY (
          SELECT 'event' || i AS id, 'somebody' || (i // 10) AS user, 'item' || (i * 7919 % 500) AS item,
            TIMESTAMP '2026-03-03 10:00:00' + to_milliseconds(i * 720) AS at,
            CASE i % 10 WHEN 0 THEN 'click' ELSE 'shown' END AS type, i % 10 + 1 AS place
          FROM range(10000) AS t(i) WHERE i % 10 = 0 OR i % 100 < 10
        ) TO '{tmp_path}/events.parquet'
    """)
    path = tmp_path / "recwatch.yml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    asked = ["--config", str(path), *SPAN, "--rank", "place", "--hit", "click", "--out", str(tmp_path / "report.html")]
    done = CliRunner().invoke(command, asked)
    assert done.exit_code == 0, done.output
    scores = {name: float(score) for name, _, score in (line.partition(": ") for line in done.output.splitlines()[:-1])}
    assert {name: score for name, score in scores.items() if not 0 <= score <= 1} == {}


def test_each_item_of_a_user_comes_once_with_its_best_rank_and_hits_of_any_row(config: Path) -> None:
    with closing(build(load(config))) as pipeline, ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        rows = Rows(resolver.dataset("events"), Window(HOUR[11], HOUR[11] + timedelta(seconds=36)))
        found = shown(resolver.session("events"), rows, ("place", ("click",)), 1_000)
    assert len(found) == 100
    assert {(rank, hit) for _user, _item, rank, hit in found} == {(n, int(n == 1)) for n in range(1, 11)}
    assert sorted({user for user, *_ in found}) == list(range(10))


def test_items_of_two_lists_at_the_same_rank_take_ranks_of_their_own(tmp_path: Path) -> None:
    duckdb.sql(f"""
        COPY (
          SELECT 'event' || i AS id, 'somebody' AS user, 'item' || i AS item, TIMESTAMP '2026-03-03 10:00:00' AS at,
            CASE WHEN i < 2 THEN 'click' ELSE 'shown' END AS type, i // 2 + 1 AS place
          FROM range(4) AS t(i)
        ) TO '{tmp_path}/events.parquet'
    """)
    path = tmp_path / "recwatch.yml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    with closing(build(load(path))) as pipeline, ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        rows = Rows(resolver.dataset("events"), Window(HOUR[10], HOUR[11]))
        found = shown(resolver.session("events"), rows, ("place", ("click",)), 1_000)
    # Both that stood first in their lists were hits.
    assert sorted((rank, hit) for _user, _item, rank, hit in found) == [(1, 1), (2, 1), (3, 0), (4, 0)]


def test_a_slice_is_a_part_without_gaps_and_follows_the_seed() -> None:
    window = Window(HOUR[10], HOUR[11])
    assert slice_of(window, 1.3, 0) == window
    parts = [slice_of(window, 0.1, seed) for seed in range(5)]
    assert all(part.duration == timedelta(minutes=6) for part in parts)
    assert all(window.start <= part.start and part.end <= window.end for part in parts)
    assert len({part.start for part in parts}) == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rank", "place"], "--rank and --hit come together"),
        (["--rank", "nope", "--hit", "click"], "dataset events has no column nope"),
        (["--rank", "place", "--hit", "buy"], "none was a hit"),
    ],
)
def test_what_is_wrong_is_said(options: list[str], says: str, config: Path, tmp_path: Path) -> None:
    asked = ["--config", str(config), *SPAN, *options, "--out", str(tmp_path / "out.html")]
    done = CliRunner().invoke(command, asked)
    assert done.exit_code != 0
    assert says in (done.output + str(done.exception))
