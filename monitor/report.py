"""Evidently reports on bounded samples, with our scores over all rows beside Evidently's."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func

from checks.check import Verdict
from checks.clipped import clip_cells
from checks.dataset import Dataset, Role
from checks.feature_drift import FeatureDrift
from checks.measure import Row
from checks.rows import PRIVATE_ROLES, Rows, spelt
from checks.window import Window
from monitor import evidently_child
from monitor.engine import Session
from monitor.errors import EngineError, RecwatchError
from monitor.ranking import extent, shown, slice_of
from monitor.resolve import Resolver
from monitor.runner import Runner
from monitor.wording import value_text

LONGEST_SECONDS, MEMORY_GB = 300.0, 6.0
SAMPLE_ROWS = 10_000
# What spreads times evenly: a prime, and a number that its powers go through all others with (Lehmer's generator).
_PRIME, _FACTOR = 2_147_483_647, 950_706_376


class ReportError(RecwatchError):
    """There is nothing to report on, or Evidently is not there or failed."""


@dataclass(frozen=True)
class Sample:
    """Some rows of a window.

    Args:
        window: Which one.
        rows: The rows, each cell as text or number.
        total: How many rows there are in all.
    """

    window: Window
    rows: Sequence[Row]
    total: int


@dataclass(frozen=True)
class Asked:
    """What a report is about.

    Args:
        dataset: Name of a watched dataset.
        current: The window in question.
        reference: What it is compared with.
        features: Columns; by default the dataset's features.
        sample_rows: About how many rows of each window Evidently gets.
        seed: Another one draws other rows; the same one the same rows.
        rank: Column with the rank of what was shown, 1 the best: recommender metrics instead of drift.
        hits: Event types that say that what was shown was right; needed with ``rank``.
    """

    dataset: str
    current: Window
    reference: Window
    features: tuple[str, ...] = ()
    sample_rows: int = SAMPLE_ROWS
    seed: int = 0
    rank: str = ""
    hits: tuple[str, ...] = ()


def write(
    runner: Runner, asked: Asked, out: Path, on_start: Callable[[subprocess.Popen[str]], None] | None = None
) -> list[list[Any]]:
    """Write an HTML report; return Evidently's feature, method, threshold and score, and SciPy's p-value.

    Of a feature without any value in a sample the name alone is returned: Evidently takes no such column.

    Args:
        runner: Its engines are asked.
        asked: What the report is about.
        out: The file.
        on_start: Called with Evidently's process once it runs; who kills it ends the report.

    Raises:
        ReportError: A window is empty, Evidently is not installed, took too long, or failed.
        EngineError: The data cannot be read.
    """
    if not is_there():
        raise ReportError("Evidently is not installed; run: pip install 'recwatch[reports]'")
    with ExitStack() as stack:
        resolver = Resolver(runner.pipeline, stack)
        dataset, session = resolver.dataset(asked.dataset), resolver.session(asked.dataset)
        if asked.rank:
            lists = [_lists(session, dataset, window, asked) for window in (asked.reference, asked.current)]
            return _write_ranking(asked, lists, out, on_start)
        features = _features(dataset, asked.features)
        samples = [
            _sampled(session, Rows(dataset, window), features, asked) for window in (asked.reference, asked.current)
        ]
    kept = [at for at in range(len(features)) if all(_holds(sample, at) for sample in samples)]
    if not kept:
        raise ReportError(f"dataset {asked.dataset}: a window holds no value of {', '.join(features)}")
    columns = [features[at] for at in kept]
    numeric = [name for name in columns if dataset.columns[name].kind.is_numeric]
    question = {
        "columns": columns, "numeric": numeric, "categorical": [name for name in columns if name not in numeric],
        **{of: [[row[at] for at in kept] for row in sample.rows] for of, sample in zip(_OF, samples, strict=True)},
    }  # fmt: skip
    scores = _evidently(question, out, on_start)
    _explain(out, f"Drift of {asked.dataset}", samples, _beside(_ours(runner, asked), scores))
    return [*scores, *([name] for name in features if name not in columns)]


def _holds(sample: Sample, at: int) -> bool:
    """Return whether a column of a sample has a value; NaN is none."""
    return any(row[at] is not None and row[at] == row[at] for row in sample.rows)


def _lists(session: Session, dataset: Dataset, window: Window, asked: Asked) -> Sample:
    """Return what was shown in a part of a window of about so many rows."""
    total, filled = extent(session, Rows(dataset, window))
    part = slice_of(filled, asked.sample_rows / max(total, 1), asked.seed)
    found = shown(session, Rows(dataset, part), (asked.rank, asked.hits), 2 * asked.sample_rows)
    if not any(is_hit for *_, is_hit in found):
        said = f"{len(found):,} items shown, of which none was a hit"
        raise ReportError(f"dataset {asked.dataset}: {said}, in {part}; check --rank and --hit, or take more rows")
    return Sample(part, found, total)


def _write_ranking(
    asked: Asked, lists: Sequence[Sample], out: Path, on_start: Callable[[subprocess.Popen[str]], None] | None
) -> list[list[Any]]:
    """Write a report of recommender metrics; return the name and the value of each."""
    question = {"rank": True, "reference": lists[0].rows, "current": lists[1].rows}
    scores = _evidently(question, out, on_start)
    _explain(out, f"Recommender metrics of {asked.dataset}", lists, _scored(scores))
    return scores


def _scored(scores: Sequence[Sequence[Any]]) -> str:
    rows = "".join(f"<tr><td>{escape(str(name))}</td><td>{value:.4g}</td></tr>" for name, value in scores)
    return f"<p>Of the current sample, at the first {evidently_child.TOP} ranks:</p><table>{rows}</table>"


def is_there() -> bool:
    """Return whether Evidently is installed; it is not loaded."""
    return importlib.util.find_spec("evidently") is not None


def _features(dataset: Dataset, wanted: Sequence[str]) -> list[str]:
    named = list(wanted or dataset.features)
    missing = [name for name in named if name not in dataset.columns]
    ids = [str(role) for role in PRIVATE_ROLES if dataset.roles.get(role) in named]
    if ids:
        raise ReportError(
            f"dataset {dataset.name}: the column of the role {ids[0]} never leaves the engine; leave it out"
        )
    if missing or not named:
        there = ", ".join(dataset.columns)
        what = f"has no column {', '.join(missing)}" if missing else "names no features"
        raise ReportError(f"dataset {dataset.name} {what}; give --features of: {there}")
    return named


def _sampled(session: Session, rows: Rows, features: Sequence[str], asked: Asked) -> Sample:
    """Return about so many rows, the same ones every time: those whose time leaves a certain rest."""
    total = int(session.run(rows.select(func.count()), 1, f"rows of {asked.dataset}")[0][0])
    if not total:
        raise ReportError(f"dataset {asked.dataset} has no rows in {rows.window}; choose another window")
    dataset = rows.dataset
    cells = [
        dataset.table.c[name] if dataset.columns[name].kind.is_numeric else spelt(dataset, name) for name in features
    ]
    statement = rows.select(*cells)
    if total > asked.sample_rows:
        clock = Role.EVENT_TIME if Role.EVENT_TIME in dataset.roles else rows.clock_role
        statement = statement.where(_scattered(rows.micros(clock), asked.seed) < _PRIME * asked.sample_rows // total)
    # A burst of rows of the same time may be drawn as a whole; twice the size bounds that.
    most = 2 * asked.sample_rows
    found = session.run(statement.limit(most), most, f"sample of {asked.dataset}")
    plain = [tuple(float(cell) if _is_number(cell) else cell for cell in row) for row in clip_cells(found)]
    return Sample(rows.window, plain, total)


def _is_number(cell: Any) -> bool:
    return cell is not None and not isinstance(cell, str | bool)


def _scattered(at: ColumnElement[int], seed: int) -> ColumnElement[int]:
    """Return a number from 0 to below a prime for each time: times in even steps are spread evenly over them."""
    # Each remainder has the sign of what is divided: before 1970 it is below 0.
    spread = (at + seed * 7_919) % _PRIME * _FACTOR % _PRIME
    return (spread + _PRIME) % _PRIME


def _evidently(
    question: dict[str, Any], out: Path, on_start: Callable[[subprocess.Popen[str]], None] | None
) -> list[list[Any]]:
    """Let Evidently work in a process of its own, which is ended when it takes too long."""
    command = [sys.executable, str(Path(evidently_child.__file__)), str(out), str(MEMORY_GB)]
    pipe = subprocess.PIPE
    # Our own interpreter and file.
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:  # noqa: S603
        if on_start is not None:
            on_start(child)
        try:
            answer, said = child.communicate(_harmless(json.dumps(question)), timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise ReportError(
                f"Evidently took longer than {LONGEST_SECONDS:g} s; take fewer rows or features"
            ) from None
        except OSError as error:
            child.kill()
            raise ReportError(f"Evidently could not be asked: {error.strerror}") from error
    if child.returncode:
        last = (said.strip().splitlines() or ["no word"])[-1]
        raise ReportError(f"Evidently failed: {last}")
    scores: list[list[Any]] = json.loads(answer)
    return scores


def _harmless(text: str) -> str:
    """Return a text that opens and ends no element: Evidently writes names and values into its script as they are."""
    return text.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")


def _ours(runner: Runner, asked: Asked) -> list[Verdict]:
    """Return our verdicts over all rows of the window; none where drift is not watched or has no reference."""
    drift = [check for check in runner.pipeline.checks[asked.dataset] if isinstance(check, FeatureDrift)]
    try:
        judged = runner.run(asked.dataset, [(check, asked.current) for check in drift])
    except EngineError:
        return []
    return [verdict for found in judged for verdict in found.verdicts if verdict.is_whole and verdict.feature]


def _beside(ours: Sequence[Verdict], theirs: Sequence[Sequence[Any]]) -> str:
    """Return how the sample compares with all rows, as HTML."""
    scored = {name: more for name, *more in theirs}
    rows = "".join(_row(verdict, scored.get(_harmless(str(verdict.feature)))) for verdict in ours)
    said = "recwatch itself judges all rows, on bins frozen with its reference."
    if not rows:
        return f"<p>{said} There is no score over all rows: no reference.</p>"
    return f"<p>{said}</p><table><tr>{_HEAD}</tr>{rows}</table>"


_OF = ("reference", "current")


def _explain(out: Path, title: str, samples: Sequence[Sample], table: str) -> None:
    """Put before Evidently's page what it is about: a sample."""
    spans = "; ".join(
        f"{name} {len(sample.rows):,} of {sample.total:,} rows, {sample.window}"
        for name, sample in zip(_OF, samples, strict=True)
    )
    said = (
        f"<section style='{_STYLE}'><h1>{escape(title)}: a sample</h1>"
        f"<p>Evidently's report below is made of a sample: {escape(spans)}.</p>{table}</section>"
    )
    page = out.read_text(encoding="utf-8")
    place = page.index(">", page.index("<body")) + 1
    out.write_text(page[:place] + said + page[place:], encoding="utf-8")


_STYLE = "font: 15px/1.5 system-ui, sans-serif; padding: 1.5rem; border-bottom: 1px solid #ccc; overflow-x: auto"
_HEAD = "".join(
    f"<th style='text-align: left; padding-right: 2rem'>{name}</th>"
    for name in (
        "feature",
        "recwatch, all rows",
        "limit",
        "verdict",
        "Evidently, sample",
        "its threshold",
        "p by SciPy, sample",
    )
)


def _row(verdict: Verdict, theirs: Sequence[Any] | None) -> str:
    said = ("not scored: no value in a sample", "", "")
    if theirs is not None:
        method, threshold, score, chance = theirs
        said = (f"{score:.4g} ({method})", f"{threshold:g}", "" if chance is None else f"{chance:.2g}")
    ours = f"{value_text(verdict.measure, verdict.value)} ({verdict.measure})"
    cells = (str(verdict.feature), ours, value_text(verdict.measure, verdict.limit), verdict.outcome.value, *said)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
