"""Draws a preview of each dashboard: its layout with queried data, by a plotting library and not by Grafana.

``python -m dashboards.preview --prometheus URL --minutes 5 --out DIR``. It shows whether the panels make
sense together and say what they should; colours, fonts and behaviour are Grafana's own.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import urllib3

from dashboards.layout import WIDTH, placed
from dashboards.render import BOARDS
from dashboards.views import Board, Query, View

matplotlib.use("Agg")
from matplotlib import dates, pyplot
from matplotlib.patches import Rectangle

LABEL = "Preview: layout and data drawn by a plotting library. Grafana draws it differently."
COLOURS = {"green": "#3f9f5f", "orange": "#e0862c", "red": "#d0443e", "text": "#333333", "#8e8e8e": "#8e8e8e"}
INTERVALS = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
UNIT_INCHES = (0.62, 0.36)
MOST_SERIES, MOST_ROWS = 14, 12
Series = Mapping[str, Any]


@dataclass(frozen=True)
class Prometheus:
    """Where data is asked for, and of which time.

    Args:
        url: Address of a Prometheus.
        start: From when.
        end: Until when.
        variables: What Grafana's variables stand for, by their name with the dollar sign.
    """

    url: str
    start: datetime
    end: datetime
    variables: Mapping[str, str]

    def ask(self, query: Query) -> list[Series]:
        """Return the series of a query: over the time, or at its end."""
        expression = query.expression
        for name, value in self.variables.items():
            expression = expression.replace(name, value)
        step = max(1, int((self.end - self.start).total_seconds() / 200))
        span = {"start": str(self.start.timestamp()), "end": str(self.end.timestamp()), "step": str(step)}
        path, when = ("query", {"time": span["end"]}) if query.instant else ("query_range", span)
        answer = urllib3.request("GET", f"{self.url}/api/v1/{path}", fields={"query": expression, **when})
        found: list[Series] = answer.json()["data"]["result"]
        return found


def draw(board: Board, prometheus: Prometheus, path: Path) -> int:
    """Draw a dashboard to a file; return how many of its panels had data."""
    places = placed(board)
    height = max(place.y + place.h for _view, place in places)
    figure = pyplot.figure(figsize=(WIDTH * UNIT_INCHES[0], (height + 2) * UNIT_INCHES[1]), dpi=80)
    figure.text(0.01, 1 - 0.5 / (height + 2), board.title, fontsize=15, weight="bold", va="center")
    figure.text(0.99, 1 - 0.5 / (height + 2), LABEL, fontsize=9, color="#a03030", ha="right", va="center")
    shown = 0
    for view, place in places:
        top = 1 - (place.y + 1.2) / (height + 2)
        if view is None:
            figure.text(place.x / WIDTH + 0.01, top - 0.5 / (height + 2), f"▾ {place.title}", fontsize=11, va="center")
            continue
        box = (place.x / WIDTH + 0.004, top - (place.h - 0.2) / (height + 2), place.w / WIDTH - 0.008,
               (place.h - 0.4) / (height + 2))  # fmt: skip
        shown += _panel(figure, view, box, prometheus)
    figure.savefig(path, facecolor="white")
    pyplot.close(figure)
    return shown


def _panel(figure: Any, view: View, box: tuple[float, float, float, float], prometheus: Prometheus) -> bool:
    x, y, width, height = box
    figure.add_artist(Rectangle((x, y), width, height, fill=False, edgecolor="#d5d5d5", transform=figure.transFigure))
    figure.text(x + 0.006, y + height - 0.004, view.title, fontsize=9, weight="bold", va="top")
    title = 20 / (figure.get_size_inches()[1] * figure.dpi)
    inset = {"series": (0.045, 0.03), "timeline": (0.13, 0.02), "history": (0.13, 0.02)}.get(view.kind, (0.01, 0.005))
    axes = figure.add_axes((x + inset[0], y + inset[1], width - inset[0] - 0.01, height - inset[1] - title))
    found = [prometheus.ask(query) for query in view.queries]
    if view.kind != "text" and not any(found):
        axes.axis("off")
        axes.text(0.5, 0.5, view.no_data or "No data", ha="center", va="center", color="#888888")
        return False
    _DRAWN[view.kind](axes, view, found)
    return True


# -- by kind ---------------------------------------------------------------------------------


def _words(axes: Any, view: View, _found: Sequence[Any]) -> None:
    axes.axis("off")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", view.text).replace("*", "").replace("`", "")
    lines = [part for line in plain.splitlines() for part in (textwrap.wrap(line, 78) or [""])]
    axes.text(0, 1, "\n".join(lines), fontsize=7, va="top", wrap=False)


def _stat(axes: Any, view: View, found: Sequence[Sequence[Series]]) -> None:
    axes.axis("off")
    values = [
        (_legend(query, series), float(series["value"][1]))
        for query, result in zip(view.queries, found, strict=True) for series in result
    ]  # fmt: skip
    for at, (name, value) in enumerate(values):
        middle = (at + 0.5) / len(values)
        axes.text(
            middle, 0.5, spelt(value, view.unit), fontsize=18, color=_colour(view, value), ha="center", va="center"
        )
        axes.text(middle, 0.18, textwrap.fill(name, 12), fontsize=8, ha="center", color="#666666")


def _bars(axes: Any, view: View, found: Sequence[Sequence[Series]]) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    for at, series in enumerate(found[0]):
        value = float(series["value"][1])
        axes.barh(at, max(value, 0.005), color=_colour(view, value))
        axes.text(0.02, at, f"{_legend(view.queries[0], series)}  {spelt(value, view.unit)}", va="center", fontsize=9)


def _lines(axes: Any, view: View, found: Sequence[Sequence[Series]]) -> None:
    bottom: dict[float, float] = {}
    for query, result in zip(view.queries, found, strict=True):
        for series in result[:MOST_SERIES]:
            at = [datetime.fromtimestamp(float(moment), UTC) for moment, _value in series["values"]]
            values = [float(value) for _moment, value in series["values"]]
            if view.stacked:
                base = [bottom.get(moment, 0.0) for moment, _value in series["values"]]
                values = [value + under for value, under in zip(values, base, strict=True)]
                bottom.update(zip((moment for moment, _value in series["values"]), values, strict=True))
                axes.fill_between(at, base, values, alpha=0.25)
            axes.plot(at, values, linewidth=1, linestyle="--" if query.dashed else "-", label=_legend(query, series))
    for value, colour in view.steps:
        if value is not None:
            axes.axhline(value, color=COLOURS.get(colour, colour), linewidth=0.8, linestyle=":")
    low, high = view.bounds
    axes.set_ylim(bottom=low, top=high)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_formatter(lambda value, _place: spelt(value, view.unit))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6, loc="upper left", frameon=False, ncols=2)


def _states(axes: Any, view: View, found: Sequence[Sequence[Series]]) -> None:
    rows = [
        (_legend(query, series), series)
        for query, result in zip(view.queries, found, strict=True) for series in result
    ][:MOST_ROWS * 2]  # fmt: skip
    for at, (_name, series) in enumerate(rows):
        moments = [float(moment) for moment, _value in series["values"]]
        width = min((after - before for before, after in pairwise(moments)), default=1.0)
        for moment, value in series["values"]:
            word = view.words.get(f"{float(value):g}")
            colour = word[1] if word else _colour(view, float(value))
            axes.broken_barh([(float(moment), width)], (at + 0.1, 0.8), color=COLOURS.get(colour, colour))
    axes.set_yticks([at + 0.5 for at in range(len(rows))], [name[:34] for name, _series in rows], fontsize=6)
    axes.set_xticks([])
    axes.invert_yaxis()


def _table(axes: Any, view: View, found: Sequence[Sequence[Series]]) -> None:
    axes.axis("off")
    labels = [column for column in view.columns if not column.startswith("Value")]
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for letter, result in zip("ABCDEFGHIJ", found, strict=False):
        column = f"Value #{letter}"
        for series in result:
            of = series["metric"]
            row = cells.setdefault(tuple(of.get(name, "") for name in ("pipeline", "slo", "check", "entity", "feature",
                                                                      "alertname", "tier")), {})  # fmt: skip
            row.update({label: of[label] for label in labels if label in of})
            if column in view.columns:
                unit = view.column_units.get(view.columns[column], view.unit)
                value = series.get("value") or series["values"][-1]
                row[column] = spelt(float(value[1]), unit)
    rows = [[row.get(column, "")[:28] for column in view.columns] for row in list(cells.values())[:MOST_ROWS]]
    table = axes.table(
        rows, colLabels=list(view.columns.values()), loc="upper left", cellLoc="left", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(6.5)
    table.auto_set_column_width(list(range(len(view.columns))))


_DRAWN = {
    "text": _words, "stat": _stat, "bars": _bars, "series": _lines, "timeline": _states, "history": _states,
    "table": _table,
}  # fmt: skip


def _legend(query: Query, series: Series) -> str:
    name = query.legend
    for label, value in series["metric"].items():
        name = name.replace(f"{{{{{label}}}}}", value)
    while "{{" in name:
        name = name[: name.index("{{")] + name[name.index("}}") + 2 :]
    return " ".join(name.split())


def _colour(view: View, value: float) -> str:
    found = next((colour for least, colour in reversed(view.steps) if least is None or value >= least), "text")
    return COLOURS.get(found, found)


def spelt(value: float, unit: str) -> str:
    """Return a value in its unit, roughly as Grafana writes it.

    Examples:
        >>> spelt(0.9871, "percentunit"), spelt(12.5, "s"), spelt(130_000_000, "bytes"), spelt(3.0, "none")
        ('98.7%', '12.5 s', '130 MB', '3')
    """
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB"
    suffix = {"s": " s", "h": " h", "cps": " c/s"}.get(unit, "")
    return f"{value:.4g}{suffix}"


def main() -> None:
    """Draw every dashboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", required=True, help="address of a Prometheus that scrapes the daemon")
    parser.add_argument("--minutes", type=float, default=60, help="how far to look back")
    parser.add_argument("--slo", default=".+", help="objectives of the close-up, as a regular expression")
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    end = datetime.now(UTC)
    variables = {"$pipeline": ".+", "$slo": arguments.slo, **INTERVALS}
    span = timedelta(minutes=arguments.minutes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        path = arguments.out / f"{board.uid}.png"
        shown = draw(board, Prometheus(arguments.prometheus, end - span, end, variables), path)
        sys.stdout.write(f"{path}: {shown} panels with data\n")


if __name__ == "__main__":
    main()
