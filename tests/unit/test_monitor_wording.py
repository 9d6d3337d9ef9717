"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from monitor.wording import NOTHING, ago, duration_words, span_text, told_apart, unit_text, value_text


@pytest.mark.parametrize(
    ("measure", "value", "said"),
    [
        ("unknown_ratio", 0.0, "0 %"),
        ("unknown_ratio", 1.0, "100 %"),
        ("unknown_ratio", 0.000042, "0.0042 %"),
        ("failed_ratio", 0.12345, "12.3 %"),
        ("lag_seconds", 0.0, "0 s"),
        ("lag_seconds", 0.25, "250 ms"),
        ("lag_seconds", 59.96, "60 s"),
        ("lag_seconds", 60.0, "1 min"),
        ("lag_seconds", 5400.0, "1.5 h"),
        ("lag_seconds", 1e7, "116 d"),
        ("lag_seconds", 1e9, "11,574 d"),
        ("rows", 1234567.0, "1,234,567"),
        ("rows", 0.0, "0"),
        ("changes", 2.0, "2"),
        ("density", 0.0630467, "0.063"),
        ("js_distance", 0.3831, "0.383"),
        ("psi", 12.0, "12"),
        ("lag_seconds", None, NOTHING),
        ("psi", float("nan"), NOTHING),
        ("psi", float("inf"), NOTHING),
    ],
)
def test_values(measure: str, value: float | None, said: str) -> None:
    assert value_text(measure, value) == said


@given(some.sampled_from(["unknown_ratio", "lag_seconds", "psi"]), some.floats(0, 1e6), some.floats(0, 1e6))
def test_a_value_over_its_limit_never_looks_equal_to_it(measure: str, value: float, limit: float) -> None:
    said = told_apart(measure, value, limit)
    if abs(value - limit) > 1e-7 * max(value, limit):
        assert said[0] != said[1]
    if value == limit:
        assert said[0] == said[1]


def test_a_limit_alone_keeps_its_short_form() -> None:
    assert told_apart("unknown_ratio", None, 0.01) == (NOTHING, "1 %")


@given(some.floats(0, 1e9))
def test_durations_keep_three_digits(seconds: float) -> None:
    number, unit = duration_words(seconds).split()
    size = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(seconds, rel=0.0051, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "200 ms"), (1, "1 s"), (90, "1 min 30 s"), (3600, "1 h"), (86400 * 6 + 3600 * 21 + 59, "6 d 21 h")],
)
def test_spans(seconds: float, said: str) -> None:
    assert span_text(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "just now"), (1, "1 s ago"), (60, "1 min ago"), (86399, "23 h ago"), (86400, "1 d ago")]
)
def test_how_long_ago(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_only_bare_numbers_need_a_name() -> None:
    assert [unit_text(name) for name in ("lag_seconds", "unknown_ratio", "psi", "rows")] == ["", "", "PSI", "rows"]
