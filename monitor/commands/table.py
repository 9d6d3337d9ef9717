"""Verdicts as a table that a person likes to read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.wording import printable
from checks.check import Outcome, Verdict
from monitor.commands import screen
from monitor.runner import Disabled
from monitor.wording import value_text

# A sign beside the colour, so that the state can be told without it.
MARKS = {
    Outcome.GOOD: ("✓ good", "green"),
    Outcome.BAD: ("✗ bad", "bold red"),
    Outcome.UNKNOWN: ("? unknown", "yellow"),
    Outcome.ERROR: ("! error", "bold magenta"),
}
MOST_SOURCES = 5


def show(verdicts: Sequence[Verdict], disabled: Sequence[Disabled], console: Console | None = None) -> None:
    """Print verdicts by dataset and window, then what is disabled, then one sentence that sums up."""
    console = console or screen()
    for title in dict.fromkeys(map(_title, verdicts)):
        console.print(_table(title, [verdict for verdict in verdicts if _title(verdict) == title]))
    for entry in disabled:
        console.print(Text(f"{entry.check} on {entry.dataset} is disabled: it {entry.reason}", style="dim"))
    console.print(summary(verdicts))


def _title(verdict: Verdict) -> str:
    return f"{verdict.dataset}, {verdict.window}"


def _table(title: str, verdicts: Sequence[Verdict]) -> Table:
    table = Table(
        title=plain(title), title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name, options in (
        ("check", {"no_wrap": True}),
        ("verdict", {"no_wrap": True}),
        ("value", {"justify": "right", "no_wrap": True}),
        ("limit", {"justify": "right", "no_wrap": True}),
        ("what was found", {"overflow": "fold"}),
    ):
        table.add_column(name, header_style="dim", **options)
    for verdict in _bounded(verdicts):
        mark, style = MARKS[verdict.outcome]
        indent = "  " if verdict.subject else ""
        subject = " ".join(verdict.subject.values())
        name = f"{verdict.check} {subject}" if subject and not verdict.source else indent + (subject or verdict.check)
        table.add_row(
            plain(name),
            Text(mark, style=style),
            value_text(verdict.measure, verdict.value),
            value_text(verdict.measure, verdict.limit),
            plain(verdict.reason),
        )
    return table


def plain(said: str) -> Text:
    """Return a text with words of the data as a cell: they are neither markup nor orders to the terminal."""
    return Text(printable(said))


def _bounded(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return all but the good and unknown sources beyond the first few of each check, each below what it is part of."""
    parts: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        part = (verdict.check, *(name for kind, name in verdict.subject.items() if kind != "source"))
        parts.setdefault(part, []).append(verdict)
    kept: list[Verdict] = []
    seen: dict[tuple[str, str | None], int] = {}
    for verdict in chain.from_iterable(parts.values()):
        if verdict.source is not None and verdict.outcome not in (Outcome.BAD, Outcome.ERROR):
            key = (verdict.check, verdict.entity)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > MOST_SOURCES:
                continue
        kept.append(verdict)
    return kept


def summary(verdicts: Sequence[Verdict]) -> Text:
    """Return one sentence: how many verdicts of each kind, and what is bad."""
    counts = {outcome: sum(verdict.outcome is outcome for verdict in verdicts) for outcome in Outcome}
    said = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)
    bad = sorted({verdict.check for verdict in verdicts if verdict.outcome is Outcome.BAD})
    if bad:
        return Text(f"{said}. Look at: {', '.join(bad)}", style="bold red")
    return Text(f"{said or 'nothing was judged'}.", style="bold")
