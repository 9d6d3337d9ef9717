"""What is normal: how wide a band is, and which windows it is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from checks.baseline import Band, BandSettings, Baseline, Past
from checks.window import Window

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# A Tuesday.
NOW = Window(datetime(2026, 3, 3, 12, tzinfo=UTC), datetime(2026, 3, 3, 13, tzinfo=UTC))


def band(values: dict[datetime, float | None], settings: BandSettings) -> Band | None:
    """Return the band for ``NOW`` after windows that ended then."""
    return Baseline(Past(list(values), {"rows": list(values.values())})).band("rows", NOW, settings)


def before(step: timedelta, values: list[float]) -> dict[datetime, float | None]:
    """Return values of windows at a distance from ``NOW`` and each other."""
    return {NOW.end - step * at: value for at, value in enumerate(values, start=1)}


@pytest.mark.parametrize(
    ("deviations", "relative", "absolute", "half"),
    # The median is 114, and the median distance from it 2.
    [(6.0, 0.1, 0.5, 6 * 1.4826 * 2), (6.0, 0.5, 0.5, 57), (6.0, 0.1, 30, 30)],
)
def test_a_band_is_as_wide_as_the_largest_of_spread_and_floors(
    deviations: float, relative: float, absolute: float, half: float
) -> None:
    found = band(before(HOUR, [110, 112, 114, 116, 300]), BandSettings(5, deviations, relative, absolute))
    assert found is not None
    assert (found.centre, found.low, found.high) == pytest.approx((114, 114 - half, 114 + half))
    assert (found.low in found, found.high in found, found.low - 1 in found, found.high + 1 in found) == (
        True, True, False, False,
    )  # fmt: skip


def test_a_band_never_reaches_below_0() -> None:
    found = band(before(HOUR, [1, 1, 1, 1]), BandSettings(4, 6.0, 0.0, 5.0))
    assert found is not None
    assert (found.low, found.high) == (0, 6)


def test_only_what_was_over_before_the_window_is_its_past() -> None:
    settings = BandSettings(2, 6.0, 0.0, 0.0)
    past: dict[datetime, float | None] = {NOW.start - HOUR: 5, NOW.start: 5}
    later = {NOW.start + timedelta(microseconds=1): 900, NOW.end: 900, NOW.end + DAY: 900}
    found = band({**past, NOW.start - DAY: None, **later}, settings)
    assert found is not None
    assert (found.centre, found.windows) == (5, 2)
    assert band({NOW.start: 5, **later}, settings) is None, "one is fewer than two"


def test_the_most_alike_of_enough_windows_are_compared() -> None:
    weeks, days, hours = before(7 * DAY, [1] * 3), before(DAY, [2] * 3), before(HOUR, [3] * 3)
    for least, comparable, centre, windows in [
        (3, "same hour of the week", 1, 3), (4, "same hour of the day", 1.5, 6), (7, "all hours", 2, 9),
    ]:  # fmt: skip
        found = band({**weeks, **days, **hours}, BandSettings(least, 6.0, 0.5, 0.0))
        assert found is not None
        assert (found.comparable, found.centre, found.windows) == (comparable, centre, windows)
        assert found.origin == f"median of {windows} windows ({comparable})"
    assert band({**weeks, **days, **hours}, BandSettings(10, 6.0, 0.5, 0.0)) is None
