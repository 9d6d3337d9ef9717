"""The chi-square law against SciPy's."""

import pytest

from checks.chi_square import chance_above, exceeded_with

special = pytest.importorskip("scipy.special", reason="compares with SciPy, which is not installed")

DEGREES = (1, 2, 3, 4, 5, 7, 19, 20, 50, 99, 100, 101, 999, 1000, 4999, 10_000)
TAILS = (0.999, 0.9, 0.5, 0.2, 0.05, 0.01, 1e-3, 1e-6, 1e-12, 1e-100)
# Values as parts of the degrees, far below and far above what is usual.
PARTS = (1e-6, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 1.5, 2.0, 5.0, 20.0)


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_chance_above_a_value_is_that_of_scipy(degrees: int) -> None:
    for part in PARTS:
        value = degrees * part
        assert chance_above(degrees, value) == pytest.approx(special.chdtrc(degrees, value), rel=1e-9, abs=1e-290)


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_value_exceeded_with_a_chance_is_that_of_scipy(degrees: int) -> None:
    for tail in TAILS:
        assert exceeded_with(degrees, tail) == pytest.approx(special.chdtri(degrees, tail), rel=1e-9)


def test_at_the_ends() -> None:
    assert chance_above(5, 0.0) == chance_above(5, -1.0) == chance_above(5, 5e-324) == 1.0
    assert chance_above(5, float("inf")) == chance_above(5, 1e6) == 0.0
    assert exceeded_with(3, 1 - 1e-12) < exceeded_with(3, 0.5) < exceeded_with(3, 1e-300)
