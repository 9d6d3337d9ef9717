"""Golden values: each file of a check's folder on each kind of engine, and the same verdicts on all of them.

A file has

- ``why``: what it shows,
- ``tables``: columns with their kinds (see ``KINDS`` in ``tests/conftest.py``), and rows. A time without a date is
  on 2026-03-03; ``{times: 3, row: [...]}`` is that row three times, ``{count: 3, row: ["#"]}`` three rows with 1, 2
  and 3 for ``#``, or with 8, 9 and 10 where there is ``from: 8``,
- ``datasets``: as in a configuration; ``events`` is judged,
- ``window``: start and end,
- ``settings`` of the check (``min_rows`` is 1 where there is one, unless set), ``checks``: those of others,
- ``reference``: start and end of what the check learns from beforehand, if anything; ``tables_then``: tables that
  were otherwise at that time,
- ``expect``: all verdicts, in any order; of each, whatever is given must be as given, of ``details`` likewise. Or
  ``disabled``: why the check does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks import CATALOGUE
from checks.check import Verdict
from checks.window import Window
from monitor.baselines import Builder

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.yml"))
DAY = date(2026, 3, 3)
SUBJECT = ("entity", "feature", "source")
FIELDS = ("outcome", "measure", "value", "limit", "good", "total", "reason")
Figures = dict[tuple[Any, ...], dict[str, Any]]


def moment(written: Any) -> datetime:
    """Return the moment of a cell; one without a date is of the day of all examples."""
    if isinstance(written, datetime | date):
        return datetime.combine(written, time()) if not isinstance(written, datetime) else written
    if written[2] == ":":
        return datetime.combine(DAY, time.fromisoformat(written))
    return datetime.fromisoformat(written)


def span(written: Sequence[Any]) -> Window:
    start, end = (moment(bound).replace(tzinfo=UTC) for bound in written)
    return Window(start, end)


def kinds(columns: Any) -> dict[str, str]:
    """Return names and kinds of columns, written as a mapping or as ``name kind, name kind``."""
    if isinstance(columns, Mapping):
        return dict(columns)
    return dict(column.split(maxsplit=1) for column in columns.split(", "))


def rows(written: Sequence[Any], columns: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that a table is written as."""
    for entry in written:
        many = entry if isinstance(entry, Mapping) else {"row": entry}
        first = many.get("from", 1)
        for number in range(first, first + many.get("count", 1)):
            row = tuple(
                _cell(number if cell == "#" else cell, kind)
                for cell, kind in zip(many["row"], columns.values(), strict=True)
            )
            for _ in range(many.get("times", 1)):
                yield row


def _cell(written: Any, kind: str) -> Any:
    if written is None or kind not in ("timestamp", "zoned", "date"):
        return written
    at = moment(written)
    if kind == "date":
        return at.date()
    return at.replace(tzinfo=at.tzinfo or UTC) if kind == "zoned" else at


def tables(written: Mapping[str, Any], made: Callable[..., Any]) -> dict[str, Any]:
    found = {name: (kinds(table["columns"]), table["rows"]) for name, table in written.items()}
    return {name: made(columns, list(rows(cells, columns))) for name, (columns, cells) in found.items()}


def judged(case: Mapping[str, Any], check: str, bench: Any, made: Callable[..., Any]) -> Figures:
    """Return the figures of every verdict by its subject."""
    now = tables(case["tables"], made)
    learn = None
    if "reference" in case:

        def learn(builder: Builder) -> None:
            bench.place.fill({**now, **tables(case.get("tables_then", {}), made)})
            assert [built.problem for built in builder.build(span(case["reference"]), [check])] == [None]
            bench.place.fill(now)

    bench.place.fill(now)
    least = {} if check == "freshness" else {"min_rows": 1}
    own = {**least, **case.get("settings", {})}
    settings = {**case.get("checks", {}), check: own}
    found: list[Verdict] = bench.verdicts(
        case["datasets"], span(case["window"]), checks=settings, only=[check], learn=learn
    )
    return {
        tuple(getattr(verdict, name) for name in SUBJECT): {
            **{name: getattr(verdict, name) for name in FIELDS},
            "outcome": verdict.outcome.value,
            "details": dict(verdict.details),
        }
        for verdict in found
    }


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.fixture(scope="module")
def elsewhere() -> dict[Path, Figures]:
    """What was found first, on whichever engine that was."""
    return {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_values(
    path: Path, bench: Any, elsewhere: dict[Path, Figures], table: Callable[..., Any], near: Callable[..., Any]
) -> None:
    case = load(path)
    if bench.place.is_finite and path.parent.name == "contract" and ".inf" in path.read_text():
        pytest.skip("no number is infinite there, so none breaks a rule")
    found = judged(case, path.parent.name, bench, table)
    if "disabled" in case:
        assert (bench.disabled[path.parent.name], found) == (case["disabled"], {})
        return
    expected = {tuple(entry.get(name) for name in SUBJECT): entry for entry in case["expect"]}
    assert set(found) == set(expected)
    for subject, entry in expected.items():
        figures = {name: value for name, value in entry.items() if name not in SUBJECT}
        seen = {name: found[subject][name] for name in figures}
        if "details" in figures:
            seen["details"] = {name: seen["details"].get(name) for name in figures["details"]}
        assert near(seen, figures), f"{subject}: {seen}"
    assert near(found, elsewhere.setdefault(path, found)), "another engine found something else"


def test_every_check_has_golden_values() -> None:
    assert {path.parent.name for path in FILES} == {check.id for check in CATALOGUE}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_says_what_it_shows(path: Path) -> None:
    case = load(path)
    assert len(case["why"]) > 20
    assert ("disabled" in case) != bool(case.get("expect"))
