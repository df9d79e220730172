"""Intervals against tables of Student's t, verdicts at their borders."""

import pytest

from mdp_jax.studies.experiments import EQUIVALENT, GREATER, MEASURED
from mdp_jax.studies.statistics import Interval, interval, verdict


def test_three_differences():
    # Mean 2, standard deviation 1; the printed tables have t = 4.3027 for 2 degrees of freedom.
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_five_differences():
    # Mean 1, squares of the deviations 4 + 1 + 0 + 1 + 4 = 10, so s^2 = 2.5; t = 2.7764 for 4 degrees of freedom.
    found = interval([-1.0, 0.0, 1.0, 2.0, 3.0])
    assert found.high - found.mean == pytest.approx(2.7764 * (2.5 / 5) ** 0.5, abs=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_too_few_for_an_interval():
    assert interval([]) == (None, None, None)
    assert interval([3.0]) == (3.0, None, None)


def test_equal_differences():
    assert interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("kind", "low", "high", "says"),
    [
        (GREATER, 0.1, 2.0, "holds"),
        (GREATER, 0.0, 2.0, "undecided"),
        (GREATER, -1.0, 2.0, "undecided"),
        (GREATER, -2.0, -0.1, "contradicted"),
        (GREATER, None, None, "undecided"),
        (EQUIVALENT, -1.0, 1.0, "holds"),
        (EQUIVALENT, 0.2, 0.9, "holds"),
        (EQUIVALENT, -1.1, 0.5, "undecided"),
        (EQUIVALENT, 0.5, 1.1, "undecided"),
        (EQUIVALENT, -3.0, 3.0, "undecided"),
        (EQUIVALENT, 1.1, 2.0, "contradicted"),
        (EQUIVALENT, -4.0, -1.1, "contradicted"),
        (EQUIVALENT, None, None, "undecided"),
        (MEASURED, 0.1, 2.0, None),
        (MEASURED, None, None, None),
    ],
)
def test_verdicts(kind, low, high, says):
    assert verdict(kind, Interval(0.0, low, high)) == says
