"""What a panel shows, as plain data: queries, unit, colours, words. How Grafana spells it is in `layout`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# Every query says which pipelines; with two replicas scraped, the larger value of each series is taken.
HERE = 'pipeline=~"$pipeline"'
OF_SLO = f'{HERE}, slo=~"$slo"'
RATE = "$__rate_interval"
GREEN, AMBER, RED, GREY = "green", "orange", "red", "#8e8e8e"

Kind = Literal["stat", "bars", "timeline", "history", "series", "table", "text"]
Unit = Literal["percentunit", "s", "short", "none", "cps", "bytes", "h"]


@dataclass(frozen=True)
class Query:
    """One PromQL query of a panel.

    Args:
        expression: PromQL, with Grafana's variables.
        legend: Name of its series; labels stand in double braces.
        instant: Whether only the present value is asked for.
        dashed: Whether its line is a bound, drawn dashed.
    """

    expression: str
    legend: str = ""
    instant: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class View:
    """One panel.

    Args:
        title: What is seen, in a few words.
        description: What it means and what to do about it.
        kind: How it is drawn.
        queries: What is asked.
        unit: Of the values, by Grafana's id; a column of a table may have its own.
        size: Width of 24, and height.
        steps: From which value on which colour holds; the first has None for its value.
        words: What a value is called, and its colour.
        columns: Of a table: what ``Value #A``, or a label, is called; what is not named is hidden.
        column_units: Of a table: units by the name of the column.
        link: Uid of the dashboard that tells more.
        text: Markdown, of a text panel.
        stacked: Whether series are added up.
        bounds: Least and greatest value of the axis.
        every: Least step between two values, such as ``5m``; empty leaves it to Grafana.
        no_data: What stands there when nothing comes back.
    """

    title: str
    description: str
    kind: Kind
    queries: tuple[Query, ...] = ()
    unit: Unit = "short"
    size: tuple[int, int] = (12, 8)
    steps: tuple[tuple[float | None, str], ...] = ()
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    column_units: Mapping[str, Unit] = field(default_factory=dict)
    link: str = ""
    text: str = ""
    stacked: bool = False
    bounds: tuple[float | None, float | None] = (None, None)
    every: str = ""
    no_data: str = ""


@dataclass(frozen=True)
class Section:
    """Panels under a heading; without a title they stand alone.

    Args:
        title: The heading.
        views: In reading order, left to right.
        collapsed: Whether the section is closed at first; its queries then run only when it is opened.
        repeat: Name of the variable for each of whose values the section comes once.
    """

    title: str
    views: tuple[View, ...]
    collapsed: bool = False
    repeat: str = ""


@dataclass(frozen=True)
class Board:
    """One dashboard.

    Args:
        uid: Fixed, so that links to it last.
        title: Its name in Grafana.
        description: Whose question it answers, and which.
        back: How far it looks back at first.
        refresh: How often it asks again.
        sections: Its panels.
        has_slo: Whether it can be narrowed to some objectives.
    """

    uid: str
    title: str
    description: str
    back: str
    refresh: str
    sections: tuple[Section, ...]
    has_slo: bool = False


STATE_WORDS = {"0": ("bad", RED), "1": ("good", GREEN)}
BUDGET_STEPS = ((None, RED), (0.1, AMBER), (0.5, GREEN))
# A budget that burns at 1 lasts for its period; from 14.4 on it is gone in two days.
BURN_STEPS = ((None, GREEN), (1.0, AMBER), (14.4, RED))


def largest(metric: str, *labels: str, of: str = HERE) -> str:
    """Return the largest value of a metric over replicas, by pipeline and these labels."""
    return f"max by ({', '.join(('pipeline', *labels))}) ({metric}{{{of}}})"


def in_words(metric: str, *labels: str, what: str = "") -> Query:
    """Return a metric by some labels, with a legend that spells them after the pipeline."""
    legend = " ".join(f"{{{{{label}}}}}" for label in ("pipeline", *labels))
    return Query(largest(metric, *labels), f"{legend} {what}".strip())


def burn(window: str, of: str = HERE) -> str:
    """Return how many times faster than allowed each objective burnt its budget over a recorded window."""
    spent = largest(f"recwatch_slo:bad_ratio:{window}", "slo", of=of)
    return f"{spent} / on (pipeline, slo) (1 - {largest('recwatch_slo_objective_ratio', 'slo', of=of)})"


def attained(of: str = HERE) -> str:
    """Return the share of the period that was good, from what is left of the budget."""
    left = largest("recwatch_slo_budget_remaining_ratio", "slo", of=of)
    return f"1 - (1 - {left}) * on (pipeline, slo) (1 - {largest('recwatch_slo_objective_ratio', 'slo', of=of)})"
