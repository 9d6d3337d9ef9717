"""The small drawing beside each value: what is marked, what is broken, what is said."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from checks.check import Outcome
from monitor.records import Point
from monitor.sparkline import HEIGHT, WIDTH, sparkline

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
GOOD, BAD, UNKNOWN, ERROR = Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN, Outcome.ERROR


def point(
    n: float, outcome: Outcome = GOOD, value: float | None = 1.0, limit: float | None = 2.0, **more: str
) -> Point:
    return Point(NOON + n * timedelta(minutes=1), outcome, more.get("measure", "unknown_ratio"), value, limit)


def drawn(*points: Point) -> dict[str, list[str]]:
    """Return the paths by their class."""
    svg = ElementTree.fromstring(str(sparkline(points)))
    found: dict[str, list[str]] = {}
    for element in svg:
        if element.tag != "title":
            found.setdefault(element.attrib["class"], []).append(element.attrib.get("d", ""))
    return found


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.?\d+", path)]


def test_nothing_is_drawn_of_nothing() -> None:
    assert sparkline(()) == ""
    assert sparkline((point(0, UNKNOWN, None), point(1, ERROR, None))) == ""


def test_values_are_one_line_from_the_left_edge_to_the_right() -> None:
    (line,) = drawn(*(point(n, value=n) for n in range(5)))["value"]
    places = numbers(line)
    assert places[0] == 4
    assert places[-2] == WIDTH - 4
    assert places[1::2] == sorted(places[1::2], reverse=True), "more is higher up"


def test_bad_values_are_marked_at_both_ends_of_a_run() -> None:
    found = drawn(*(point(n, BAD if n in (2, 3, 4, 7) else GOOD) for n in range(9)))
    assert len(found["over"]) == 2
    assert len(found["bad"]) == 3
    assert len(found["good"]) == 1


def test_unknown_and_error_are_gaps_with_a_mark_on_the_ground() -> None:
    found = drawn(*(point(n, {3: UNKNOWN, 4: ERROR}.get(n, GOOD)) for n in range(8)))
    assert len(found["value"]) == 2
    assert len(found["unknown"]) == len(found["error"]) == 1
    assert numbers(found["error"][0])[1] >= HEIGHT - 6


def test_an_unknown_value_is_not_drawn_even_where_it_has_a_number() -> None:
    quiet = numbers(drawn(*(point(n) for n in range(4)))["value"][0])
    wild = drawn(*(point(n) for n in range(4)), point(4, UNKNOWN, 1e6))["value"][0]
    assert min(numbers(wild)[1::2]) == min(quiet[1::2]), "it does not squash the scale either"


def test_missing_windows_break_the_line() -> None:
    assert len(drawn(*(point(n) for n in (0, 1, 2, 3, 4, 30, 31, 32)))["value"]) == 2
    assert len(drawn(*(point(n) for n in (0, 1, 2, 3, 5, 6, 7)))["value"]) == 1


def test_the_limit_is_a_line_in_steps() -> None:
    (flat,) = drawn(*(point(n) for n in range(5)))["limit"]
    assert flat.count("H") == 1
    (steps,) = drawn(*(point(n, limit=2.0 + (n > 2) * 0.1) for n in range(5)))["limit"]
    assert steps.count("V") == 1
    assert "limit" not in drawn(*(point(n, limit=None) for n in range(5)))


def test_a_band_that_shows_its_other_side_does_not_draw_a_wall() -> None:
    points = [point(n, value=10.0, limit=14.0 if n < 3 else 6.0, measure="density") for n in range(6)]
    (line,) = drawn(*points)["limit"]
    assert line.count("M") == 2
    assert "V" not in line


def test_one_verdict_alone_stands_on_the_right() -> None:
    svg = str(sparkline((point(0),)))
    assert f'cx="{WIDTH - 4:.1f}"' in svg


def test_different_measures_are_drawn_in_multiples_of_their_limit() -> None:
    mixed = (point(0, GOOD, 0.05, 0.1, measure="js_distance"), point(1, BAD, 0.03, 0.02, measure="l_infinity"))
    svg = str(sparkline(mixed))
    assert "1 good, 1 bad; 0.5 to 1.5 times the limit" in svg


def test_what_is_drawn_is_said() -> None:
    points = (*(point(n, BAD if n == 2 else GOOD, 0.01 * n) for n in range(4)), point(4, ERROR, None))
    title = ElementTree.fromstring(str(sparkline(points))).find("title")
    assert title is not None
    assert title.text == "last 5 windows, 12:00 to 12:04 UTC: 3 good, 1 bad, 1 error; 0 % to 3 %"
    days = ElementTree.fromstring(str(sparkline((point(0), point(3000))))).find("title")
    assert days is not None
    assert "03 Mar 12:00 to 05 Mar 14:00 UTC" in str(days.text)


@given(
    some.lists(
        some.tuples(some.sampled_from(list(Outcome)), some.none() | some.floats(), some.none() | some.floats()),
        max_size=30,
    )
)
@example([(Outcome.GOOD, 1.0, float("inf"))])
@example([(Outcome.GOOD, 1.7e308, None), (Outcome.BAD, -1.7e308, 1.0)])
def test_anything_is_drawn_within_its_box(found: list[tuple[Outcome, float | None, float | None]]) -> None:
    points = tuple(point(n, *verdict) for n, verdict in enumerate(found))
    if sparkline(points):
        paths = drawn(*points)
        assert not [path for found in paths.values() for path in found if "n" in path], "neither nan nor inf"
        for line in paths.get("value", ()):
            assert all(-0.1 <= number <= WIDTH for number in numbers(line))


@pytest.mark.parametrize("measure", ["density", "rows"])
def test_levels_are_not_drawn_from_zero(measure: str) -> None:
    (line,) = drawn(*(point(n, value=1000.0 + n, limit=None, measure=measure) for n in range(5)))["value"]
    heights = numbers(line)[1::2]
    assert max(heights) - min(heights) > HEIGHT / 2
