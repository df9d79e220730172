"""mdp_jax/data/doctor/shrinking.py, by hand."""

import pytest

from mdp_jax.data.doctor import shrinking

SIZES = [(960, 1280), (966, 1296), (1296, 966)]


def test_how_many_times_smaller():
    assert shrinking.factor(SIZES, 96) == pytest.approx(966 / 96)
    assert shrinking.factor(SIZES, 0) == 1.0
    assert shrinking.factor([(48, 64)], 96) == 0.5
    assert shrinking.factor([], 96) == 1.0


def test_area_in_features():
    # 4,800 pixels of a photo of a short side of 960: a hundredth of that, 48, at 96; features have 8 x 8 = 64.
    assert shrinking.features([(4800, 960)], 96, 8) == pytest.approx(48 / 64)
    assert shrinking.features([(4800, 960)], 0, 8) == pytest.approx(75)
    assert shrinking.features([(4800, 960), (1, 960), (9600, 960)], 96, 8) == pytest.approx(48 / 64)  # the median


def test_short_side_that_is_enough():
    # 48 pixels at 96 become 64 at 96 * sqrt(4 / 3) = 110.9, and the next multiple of 8 is 112.
    assert shrinking.short_side_for([(4800, 960)], 8) == 112
    assert shrinking.features([(4800, 960)], 112, 8) >= 1 > shrinking.features([(4800, 960)], 104, 8)
    assert shrinking.short_side_for([(64, 96)], 8) == 96  # just enough is enough


def test_lines_name_what_is_lost_and_what_to_set():
    areas = {"road": [(400_000, 960)], "pole": [(4800, 960)], "sign": [(2400, 960)]}
    shrunk, lost = shrinking.remarks("mine train", SIZES, areas, 96, 8)
    assert shrunk.startswith("mine train: photos are shrunk 10.1 times, from a short side of 966 pixels (median)")
    assert "config.data.short_side=96" in shrunk
    assert "8 x 8 pixels" in lost and "sign (0.38), pole (0.75)" in lost and "road" not in lost
    assert lost.endswith("set config.data.short_side=160 for all of them, or 0 for photos of their own size")


def test_what_no_size_mends_has_other_advice():
    (line,) = shrinking.remarks("mine", [(960, 1280)], {"dot": [(4, 960)]}, 0, 8)
    assert line.endswith("lower config.model.output_stride, or drop these classes")
    _, line = shrinking.remarks("mine", [(960, 1280)], {"dot": [(4, 960)]}, 96, 8)
    assert "3840 would be needed: set config.data.short_side=0" in line


def test_nothing_is_said_where_nothing_is_lost():
    assert shrinking.remarks("mine", SIZES, {"road": [(400_000, 960)]}, 0, 8) == []
    assert shrinking.remarks("mine", SIZES, {"road": [(400_000, 960)]}, 800, 8) == []
    assert shrinking.remarks("mine", [], {}, 96, 8) == []
