"""What makes a mask odd, worked out by hand."""

import numpy as np

from mdp_jax.data.doctor.oddness import Measures, measure, oddest


def test_a_mask_in_numbers():
    label = np.int16([[0, 0, 1], [-1, 2, 1]])  # of 7 pairs of neighbours only (0, 0) and (1, 1) are alike
    assert measure(4, label, np.array([1, 2, 2, 1])) == Measures(4, 1 / 6, 5 / 7, 2 / 5, 3)
    nothing = np.full((2, 2), -1, np.int16)
    assert measure(0, nothing, np.array([4, 0])) == Measures(0, 1.0, 0.0, 0.0, 0)
    assert measure(0, np.zeros((1, 1), np.int16), np.array([0, 1])) == Measures(0, 0.0, 0.0, 1.0, 1)


def test_the_oddest_masks_and_why():
    usual = [Measures(i, 0.05, 0.01, 0.5, 4) for i in range(8)]
    ignored, speckled = Measures(8, 0.45, 0.01, 0.5, 4), Measures(9, 0.05, 0.21, 0.5, 4)
    # 0.4 / 0.02 = 20 deviations, 0.2 / 0.004 = 50 of them.
    assert oddest([*usual, ignored, speckled], 5) == [
        (9, "21.0 times as many edges as most masks have"),
        (8, "45% of the pixels are ignored (5% in most masks)"),
    ]
    assert oddest([*usual, ignored, speckled], 1)[0].photo == 9
    assert oddest(usual, 5) == oddest([], 5) == []


def test_masks_that_differ_among_themselves_are_not_odd():
    spread = [Measures(i, 0.1 * i, 0.01, 0.5, 4) for i in range(10)]
    assert oddest(spread, 5) == []
    all_one = [Measures(i, 0.0, 0.01, 0.4, 4) for i in range(9)] + [Measures(9, 0.0, 0.01, 1.0, 11)]
    assert oddest(all_one, 5) == [(9, "one class has 100% of the labelled pixels (40% in most)")]
