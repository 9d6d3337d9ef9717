"""Drawings of long histories: a strip of how a check fared, and a chart of values with limit and usual band.

Only classes are used for colours, so that the page's own style decides them; a chart is as wide as
its place, and its words do not grow or shrink with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import isfinite

from markupsafe import Markup, escape

from checks.window import Window
from monitor.overview import Timeline
from monitor.rollups import DAY, OUTCOMES, Bucket, Counts
from monitor.sparkline import LEVELS
from monitor.wording import span_text, value_text

STRIP_WIDTH, STRIP_HEIGHT = 168.0, 12.0
# However few of many verdicts were bad, they are seen.
LEAST_SHARE = 0.3
_URGENT = ("bad", "error", "unknown")
WIDTH, HEIGHT, TOP = 1000.0, 120.0, 8.0
_LABELLED_HEIGHT = 140
_TICKS = 4


@lru_cache(maxsize=2_000)
def strip(timeline: Timeline) -> Markup:
    """Return a timeline as a row of cells: what was bad stands at the bottom of its cell, what is missing is empty."""
    width = STRIP_WIDTH / len(timeline.cells)
    gap = min(1.0, width / 4)
    paths: dict[str, list[str]] = {}
    for at, cell in enumerate(timeline.cells):
        height = STRIP_HEIGHT
        for outcome, share in _shares(cell):
            part = share * STRIP_HEIGHT
            height -= part
            paths.setdefault(outcome, []).append(
                f"M{at * width:.1f} {height:.1f}h{width - gap:.1f}v{part:.1f}h{gap - width:.1f}z"
            )
    drawn = "".join(f'<path class="{outcome}" d="{"".join(parts)}"/>' for outcome, parts in paths.items())
    box = f'viewBox="0 0 {STRIP_WIDTH:g} {STRIP_HEIGHT:g}" width="{STRIP_WIDTH:g}" height="{STRIP_HEIGHT:g}"'
    said = escape(described(timeline))
    return Markup(f'<svg class="strip" role="img" {box} preserveAspectRatio="none"><title>{said}</title>{drawn}</svg>')  # noqa: S704 - numbers, and one escaped text


def _shares(cell: Counts) -> Iterator[tuple[str, float]]:
    """Yield the outcomes of a cell with their shares of its height, what is most urgent first."""
    if not cell.total:
        return
    urgent = {name: getattr(cell, name) / cell.total for name in _URGENT if getattr(cell, name)}
    shown = {name: max(share, LEAST_SHARE) for name, share in urgent.items()}
    # Where enlarged parts leave no room, they share it.
    whole = max(1.0, sum(shown.values())) if cell.good == 0 else max(1.0, sum(shown.values()) + LEAST_SHARE)
    for name, share in shown.items():
        yield name, share / whole
    if cell.good:
        yield "good", 1 - sum(shown.values()) / whole


def described(timeline: Timeline) -> str:
    """Return in words what a strip shows."""
    step, length = span_text(timeline.step.total_seconds()), span_text(timeline.span.duration.total_seconds())
    said = []
    for outcome in _URGENT:
        places = [at for at, cell in enumerate(timeline.cells) if getattr(cell, outcome)]
        if places:
            last = timeline.span.start + places[-1] * timeline.step
            when = f"{last:%d %b}" if timeline.step >= DAY else f"{last:%d %b %H:%M}"
            said.append(f"{outcome} in {len(places)}, last {when}")
    known = sum(cell.total > 0 for cell in timeline.cells)
    found = "; ".join(said) or ("all good" if known else "nothing is known")
    return f"last {length} in steps of {step}, {known} of {len(timeline.cells)} known: {found}"


def chart(buckets: Sequence[Bucket], span: Window) -> Markup:
    """Return the history of one subject as SVG, with a word for each bucket to point at.

    Args:
        buckets: Oldest first, at least one of them with a value; those of another measure than the last are left out.
        span: What the width stands for.
    """
    measured = [bucket for bucket in buckets if bucket.greatest is not None]
    measure = measured[-1].measure
    buckets = [bucket for bucket in buckets if bucket.measure == measure or bucket.greatest is None]
    numbers = [n for bucket in buckets for n in _numbers(bucket) if n is not None and isfinite(n)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    low = low if measure in LEVELS else min(0.0, low)

    def x(at: datetime) -> float:
        return WIDTH * ((at - span.start) / span.duration)

    def y(value: float) -> float:
        return HEIGHT - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP)

    drawn = "".join([*_tints(buckets, x), *_areas(buckets, x, y), *_lines(buckets, x, y), *_targets(buckets, x)])
    plot = (
        f'<svg class="plot" width="100%" height="{HEIGHT:g}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
        f' preserveAspectRatio="none">{drawn}</svg>'
    )
    words = "".join([*_scale(measure, low, high), *_ticks(span)])
    when = f"{span.start:%d %b %H:%M} to {span.end:%d %b %H:%M} UTC"
    said = escape(f"{value_text(measure, low)} to {value_text(measure, high)} from {when}")
    opened = f'<svg class="chart" role="img" aria-label="{said}" width="100%" height="{_LABELLED_HEIGHT}">'
    return Markup(f"{opened}{plot}{words}</svg>")  # noqa: S704 - numbers, and escaped texts


def _numbers(bucket: Bucket) -> tuple[float | None, ...]:
    return bucket.least, bucket.greatest, bucket.limit, *(bucket.band or ())


def _tints(buckets: Sequence[Bucket], x: Callable[[datetime], float]) -> Iterator[str]:
    """Yield what was bad as columns, and what could not be judged as marks on the ground."""
    for outcome in _URGENT:
        place = f"0h{{:.1f}}v{HEIGHT:g}h-{{:.1f}}z" if outcome == "bad" else f"{HEIGHT - 5:g}h{{:.1f}}v5h-{{:.1f}}z"
        path = ""
        for bucket in buckets:
            if getattr(bucket.counts, outcome):
                width = x(bucket.span.end) - x(bucket.span.start)
                path += f"M{x(bucket.span.start):.1f} " + place.format(width, width)
        if path:
            yield f'<path class="{outcome}" d="{path}"/>'


def _areas(buckets: Sequence[Bucket], x: Callable[[datetime], float], y: Callable[[float], float]) -> Iterator[str]:
    """Yield the usual band, and between least and greatest values, each bucket as wide as it lasts."""
    for name, bounds in (("band", lambda one: one.band), ("range", lambda one: (one.least, one.greatest))):
        path = ""
        for bucket in buckets:
            low, high = bounds(bucket) or (None, None)
            if low is not None and high is not None and (name == "band" or low < high):
                start, width = x(bucket.span.start), x(bucket.span.end) - x(bucket.span.start)
                path += f"M{start:.1f} {y(high):.1f}h{width:.1f}V{y(low):.1f}h-{width:.1f}z"
        if path:
            yield f'<path class="{name}" d="{path}"/>'


def _lines(buckets: Sequence[Bucket], x: Callable[[datetime], float], y: Callable[[float], float]) -> Iterator[str]:
    """Yield the limit in steps, and the greatest values as a line that is broken where there are none."""
    limit, path, before = "", "", None
    for bucket in buckets:
        if bucket.limit is not None and bucket.band is None:
            limit += f"M{x(bucket.span.start):.1f} {y(bucket.limit):.1f}H{x(bucket.span.end):.1f}"
        if bucket.greatest is not None:
            middle, at = x(bucket.span.start + bucket.span.duration / 2), f"{y(bucket.greatest):.1f}"
            follows = before is not None and bucket.span.start - before <= bucket.span.duration
            # One that stands alone is as wide as its bucket: a line of no length is not seen.
            own = "" if follows else f"M{x(bucket.span.start):.1f} {at}H{x(bucket.span.end):.1f}M{middle:.1f} {at}"
            path += own or f"L{middle:.1f} {at}"
            before = bucket.span.end
    if limit:
        yield f'<path class="limit" d="{limit}"/>'
    if path:
        yield f'<path class="value" d="{path}"/>'


def _targets(buckets: Sequence[Bucket], x: Callable[[datetime], float]) -> Iterator[str]:
    """Yield what to point at for figures."""
    for bucket in buckets:
        start, width = x(bucket.span.start), x(bucket.span.end) - x(bucket.span.start)
        yield (
            f'<rect class="target" x="{start:.1f}" y="0" width="{width:.1f}" height="{HEIGHT:g}">'
            f"<title>{escape(bucket_text(bucket))}</title></rect>"
        )


def bucket_text(bucket: Bucket) -> str:
    """Return a bucket in words."""
    counts = ", ".join(f"{getattr(bucket.counts, name)} {name}" for name in OUTCOMES if getattr(bucket.counts, name))
    low, high = (value_text(bucket.measure, value) for value in (bucket.least, bucket.greatest))
    values = "no value" if bucket.greatest is None else low if low == high else f"{low} to {high}"
    held = ""
    if bucket.band is not None:
        held = f", usual {' to '.join(value_text(bucket.measure, bound) for bound in bucket.band)}"
    elif bucket.limit is not None:
        held = f", limit {value_text(bucket.measure, bucket.limit)}"
    # A bucket has the windows that end in it.
    ending = f"{bucket.span.start:%d %b %H:%M} to {bucket.span.end:%d %b %H:%M} UTC"
    return f"windows ending {ending}: {values}{held}; {counts}"


def _scale(measure: str, low: float, high: float) -> Iterator[str]:
    for value, y in ((high, TOP + 4), (low, HEIGHT - 3)):
        yield f'<text class="scale" x="2" y="{y:g}">{escape(value_text(measure, value))}</text>'


def _ticks(span: Window) -> Iterator[str]:
    """Yield moments along the ground."""
    words = "%d %b" if span.duration > timedelta(days=2) else "%H:%M"
    ends = [span.start + n * (span.duration / _TICKS) for n in range(_TICKS + 1)]
    for at, (moment, after) in enumerate(pairwise([*ends, ends[-1]])):
        anchor = "start" if at == 0 else "end" if moment == after else "middle"
        place = f'x="{100 * at / _TICKS:g}%" y="{HEIGHT + 15:g}" text-anchor="{anchor}"'
        yield f'<text class="tick" {place}>{moment:{words}}</text>'
