"""Figures of what is in a dataset."""

import cv2
import numpy as np
import pytest

from mdp_jax.reporting import balance
from mdp_jax.reporting.balance import Amounts


def size(png: bytes) -> tuple[int, int]:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).shape[:2]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, ""), (100.0, "████"), (50.0, "██"), (1e-9, "▏"), (12.5, "▌"), (96.875, "███▉")]
)
def test_bars_of_text(value, text):
    assert balance.bar(value, 100.0, width=4) == text


def test_a_bar_of_nothing():
    assert balance.bar(0.0, 0.0) == ""


def test_bars_grow_with_the_classes_and_take_zeros():
    few = Amounts(np.array([90.0, 0.0]), np.array([5, 0]))
    many = Amounts(np.linspace(0, 10, 30), np.arange(30))
    small = size(balance.bars(["a", "$b$ 木"], {"train": few, "val": few}))
    large = size(balance.bars([f"class {i}" for i in range(30)], {"train": many}))
    assert small[1] == large[1] and large[0] > 2 * small[0]
    assert size(balance.bars(["a"], {"train": Amounts(np.zeros(1), np.zeros(1, int))}))


def test_classes_that_come_together_leave_out_what_is_never_seen():
    counts = np.array([[4, 0, 2], [0, 0, 0], [2, 0, 3]])
    two = size(balance.together(["a", "never", "c"], counts))
    assert two == size(balance.together(["a", "c"], counts[[0, 2]][:, [0, 2]]))


def test_sizes_of_photos():
    assert size(balance.sizes({"train": [(10, 20), (10, 20), (300, 200)], "val": [(5, 5)]}))
