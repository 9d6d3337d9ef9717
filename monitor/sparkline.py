"""A row of past verdicts as a small drawing: the value, its limit, what was bad, and the gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from markupsafe import Markup, escape

from checks.check import Outcome
from monitor.records import Point
from monitor.wording import value_text

WIDTH, HEIGHT, MARGIN = 168.0, 40.0, 4.0
# Below the values lies a strip in which windows without a value leave their mark.
_FLOOR = HEIGHT - 6.0
# A line is broken where windows are missing: at this many times the usual distance.
_BROKEN_AT = 2.6
# Values that vary about a level of their own; all others are seen best from zero.
LEVELS = frozenset({"rows", "density"})
_IN_LIMITS = "times"


class _Place(NamedTuple):
    """A verdict with its place in the drawing; without ``y`` where it has no value that counts."""

    point: Point
    x: float
    y: float | None
    limit_y: float | None


@lru_cache(maxsize=500)
def sparkline(points: tuple[Point, ...]) -> Markup:
    """Return past verdicts as SVG, oldest left, or nothing if none of them had a value.

    Unknown verdicts and errors are gaps, with a mark on the ground. Only classes are used for
    colours, so that the page's own style decides them. Where the measure changed on the way, values
    are drawn in multiples of their limits.
    """
    judged = [point for point in points if _is_judged(point)]
    if not judged:
        return Markup("")
    measure = judged[-1].measure
    if any(point.measure != measure for point in judged):
        measure, points = _IN_LIMITS, tuple(_in_limits(point) for point in points)
    places = _places(points, measure)
    parts = [
        *(f'<path class="limit" d="{path}"/>' for path in _limits(places)),
        *(f'<path class="value" d="{path}"/>' for path in _values(places)),
        *_marks(places),
    ]
    said = escape(describe(points, measure))
    box = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}"'
    return Markup(f'<svg class="trend" role="img" {box}><title>{said}</title>{"".join(parts)}</svg>')  # noqa: S704 - numbers, and one escaped text


def describe(points: Sequence[Point], measure: str) -> str:
    """Return in words what the drawing shows."""
    counts = Counter(point.outcome for point in points)
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if outcome in counts)
    values = [point.value for point in points if _is_judged(point) and point.value is not None] or [0.0]
    low, high = (value_text(measure, value) for value in (min(values), max(values)))
    high = f"{high} times the limit" if measure is _IN_LIMITS else high
    first, last = points[0].end, points[-1].end
    when = "%H:%M" if first.date() == last.date() else "%d %b %H:%M"
    return f"last {len(points)} windows, {first:{when}} to {last:{when}} UTC: {said}; {low} to {high}"


def _is_judged(point: Point) -> bool:
    return point.outcome in (Outcome.GOOD, Outcome.BAD) and point.value is not None and isfinite(point.value)


def _in_limits(point: Point) -> Point:
    value = None if point.value is None or not point.limit else point.value / point.limit
    return point._replace(measure=_IN_LIMITS, value=value, limit=1.0)


def _places(points: Sequence[Point], measure: str) -> list[_Place]:
    judged = [point for point in points if _is_judged(point)]
    numbers = [n for point in judged for n in (point.value, point.limit) if n is not None and isfinite(n)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    low = low if measure in LEVELS else min(0.0, low)
    span = high - low or 1.0
    first, last = points[0].end, points[-1].end
    length = (last - first).total_seconds()

    def y(value: float | None) -> float | None:
        height = nan if value is None else _FLOOR - (value - low) / span * (_FLOOR - MARGIN)
        return height if isfinite(height) else None

    places, drawn = [], set(map(id, judged))
    for point in points:
        # One verdict alone stands on the right: the newest is always there.
        share = (point.end - first).total_seconds() / length if length else 1.0
        heights = (y(point.value), y(point.limit)) if id(point) in drawn else (None, None)
        places.append(_Place(point, MARGIN + share * (WIDTH - 2 * MARGIN), *heights))
    return places


def _values(places: Sequence[_Place]) -> Iterator[str]:
    """Yield the line of values, in pieces: it is broken at gaps and missing windows."""
    steps = [after.x - before.x for before, after in pairwise(places)]
    broken_at = _BROKEN_AT * median(steps) if steps else WIDTH
    piece: list[_Place] = []
    for place in places:
        if piece and (place.y is None or place.x - piece[-1].x > broken_at):
            yield _path(piece)
            piece = []
        if place.y is not None:
            piece.append(place)
    if piece:
        yield _path(piece)


def _path(piece: Sequence[_Place]) -> str:
    joined = "L".join(f"{place.x:.1f} {place.y:.1f}" for place in piece)
    # A line needs two ends; a lone value gets a short one.
    return f"M{joined}" if len(piece) > 1 else f"M{joined}h.1"


def _limits(places: Sequence[_Place]) -> Iterator[str]:
    """Yield the limit as steps, broken where it leaps: a band shows the side that is nearer."""
    found = [place for place in places if place.limit_y is not None]
    path, x, height = "", 0.0, -1.0
    for place in found:
        to = round(place.limit_y or 0.0, 1)
        if not path:
            path = f"M{place.x:.1f} {to:g}"
        elif abs(to - height) > HEIGHT / 4:
            path += f"H{x:.1f}M{x:.1f} {to:g}"
        elif to != height:
            path += f"H{x:.1f}V{to:g}"
        x, height = place.x, to
    if path:
        yield f"{path}H{x:.1f}"


def _over(places: Sequence[_Place]) -> list[list[_Place]]:
    """Return what is bad, in runs of neighbours."""
    runs: list[list[_Place]] = [[]]
    for place in places:
        if place.y is not None and place.point.outcome is Outcome.BAD:
            runs[-1].append(place)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _marks(places: Sequence[_Place]) -> Iterator[str]:
    """Yield what is bad, marks on the ground for windows without a value, and a dot at the end."""
    for run in _over(places):
        yield f'<path class="over" d="{_path(run)}"/>'
        for place in (run[0], run[-1])[: len(run)]:
            yield f'<path class="bad" d="M{place.x:.1f} {(place.y or 0.0) - 3.2:.1f}l3.2 3.2-3.2 3.2-3.2-3.2z"/>'
    for place in places:
        if place.y is None:
            kind = "error" if place.point.outcome is Outcome.ERROR else "unknown"
            yield f'<path class="{kind}" d="M{place.x:.1f} {HEIGHT - 4:g}v4"/>'
    end = places[-1]
    if end.y is not None and end.point.outcome is Outcome.GOOD:
        yield f'<circle class="good" cx="{end.x:.1f}" cy="{end.y:.1f}" r="2.4"/>'
