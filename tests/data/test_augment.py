import dataclasses
import math

import numpy as np
import pytest

from mdp_jax.configs import FinetuneDataConfig, PhotometricConfig, PretrainDataConfig
from mdp_jax.data.batches import augment

NO_DISTORTION = PhotometricConfig(0.0, 0.0, 0.0, 0.0)
DISTORTION = PhotometricConfig()
FILL = (124, 116, 104)
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 10], [10, 240, 240]], np.uint8)


YES, NO = 0.0, 0.9  # draws that decide for and against


class Scripted:
    """Answers draws from given lists instead of at random."""

    def __init__(self, random=(), uniform=(), integers=()):
        self._random, self._uniform, self._integers = list(random), list(uniform), list(integers)

    def random(self) -> float:
        return self._random.pop(0)

    def uniform(self, low: float, high: float) -> float:
        value = self._uniform.pop(0)
        assert low <= value <= high
        return value

    def integers(self, high: int) -> int:
        value = self._integers.pop(0)
        assert 0 <= value < high
        return value

    def spent(self) -> bool:
        return not (self._random or self._uniform or self._integers)


def _coloured(rng: np.random.Generator, height: int, width: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo whose colour says its label: blocks of five colours and some black, ignored ones."""
    blocks = rng.integers(-1, len(COLOURS), (-(-height // block), -(-width // block)))
    label = np.kron(blocks, np.ones((block, block), int))[:height, :width].astype(np.int16)
    return np.where(label[..., None] >= 0, COLOURS[label], 0).astype(np.uint8), label


def _assert_colours_match(image: np.ndarray, label: np.ndarray, black: tuple[int, ...] = (0, 0, 0), reach: int = 3):
    """Pixels whose neighbourhood has one label must have its colour; resizing mixes colours elsewhere."""
    height, width = label.shape
    inside = np.lib.stride_tricks.sliding_window_view(label, (2 * reach + 1, 2 * reach + 1))
    one_label = np.zeros((height, width), bool)
    one_label[reach:-reach, reach:-reach] = (inside == inside[..., :1, :1]).all((2, 3))
    expected = np.where(label[..., None] >= 0, COLOURS[label], black)
    error = np.abs(image.astype(int) - expected).max(-1)
    assert error[one_label].max(initial=0) <= 1
    return one_label.mean()


def _pretrain(image, label, rng, **changes):
    data = PretrainDataConfig(crop=(48, 64), photometric=NO_DISTORTION)
    return augment.pretrain_view(image, label, rng, dataclasses.replace(data, **changes))


def _finetune(image, label, rng, **changes):
    data = FinetuneDataConfig(crop=(48, 64), photometric=NO_DISTORTION, mean=FILL)
    return augment.finetune_view(image, label, rng, dataclasses.replace(data, **changes))


def test_pretrain_view_keeps_colours_on_their_labels():
    rng = np.random.default_rng(0)
    shares = []
    for height, width in ((90, 120), (130, 70), (40, 50)):
        image, label = _coloured(rng, height, width, block=25)
        image.flags.writeable = label.flags.writeable = False
        for _ in range(20):
            view, view_label = _pretrain(image, label, rng)
            assert (view.shape, view.dtype) == ((48, 64, 3), np.uint8)
            assert (view_label.shape, view_label.dtype) == ((48, 64), np.int16)
            shares.append(_assert_colours_match(view, view_label))
    assert np.mean(shares) > 0.2  # else nothing was compared


def test_finetune_view_keeps_colours_on_their_labels():
    rng = np.random.default_rng(1)
    shares, padded = [], 0
    for height, width in ((90, 120), (130, 70), (40, 50)):
        image, label = _coloured(rng, height, width, block=25)
        image.flags.writeable = label.flags.writeable = False
        for _ in range(20):
            view, view_label = _finetune(image, label, rng)
            assert (view.shape, view.dtype) == ((48, 64, 3), np.uint8)
            assert (view_label.shape, view_label.dtype) == ((48, 64), np.int16)
            filled = (view == FILL).all(-1)
            assert (view_label[filled] == -1).all()
            padded += filled.any()
            shares.append(_assert_colours_match(np.where(filled[..., None], 0, view), view_label))
    assert np.mean(shares) > 0.2
    assert padded > 5


def test_photometric_does_not_move_or_touch_the_input():
    rng = np.random.default_rng(2)
    image, label = _coloured(rng, 60, 80, block=20)
    before = image.copy()
    image.flags.writeable = False
    for view in (_pretrain, _finetune):
        views = [view(image, label, np.random.default_rng(7), photometric=DISTORTION) for _ in range(2)]
        np.testing.assert_array_equal(views[0][0], views[1][0])
        np.testing.assert_array_equal(views[0][1], views[1][1])
    np.testing.assert_array_equal(image, before)


def test_ignored_photo_passes():
    image, label = np.zeros((30, 30, 3), np.uint8), np.full((30, 30), -1, np.int16)
    rng = np.random.default_rng(0)
    for view in (_pretrain, _finetune):
        for _ in range(5):
            assert (view(image, label, rng)[1] == -1).all()


def test_flip_mirrors_both():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    label = np.arange(8, dtype=np.int16).reshape(2, 4) - 1
    flipped = augment.random_flip(image, label, Scripted(random=[0.49]), 0.5)
    np.testing.assert_array_equal(flipped[0], image[:, ::-1], strict=True)
    np.testing.assert_array_equal(flipped[1], label[:, ::-1], strict=True)
    same = augment.random_flip(image, label, Scripted(random=[0.5]), 0.5)
    np.testing.assert_array_equal(same[0], image)
    np.testing.assert_array_equal(same[1], label)


def test_random_resized_box_by_hand():
    # 0.25 of 40 x 60 pixels are 600; at width / height 1.5 that is 20 x 30.
    rng = Scripted(uniform=[0.25, np.log(1.5)], integers=[20, 5])
    box = augment.random_resized_box(40, 60, rng, scale=(0.2, 1.0), ratio=(0.5, 2.0))
    assert box == (20, 5, 20, 30)
    assert rng.spent()


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((10, 100), (1.0, 1.0), (0, 45, 10, 10)),  # too wide: all rows, the middle columns
        ((100, 10), (0.5, 1.0), (40, 0, 20, 10)),  # too high: all columns, the middle rows
    ],
)
def test_random_resized_box_falls_back_to_the_middle(size, ratio, expected):
    rng = np.random.default_rng(0)
    assert augment.random_resized_box(*size, rng, scale=(1.0, 1.0), ratio=ratio) == expected


def test_random_resized_box_takes_the_eleventh_way_out_after_ten_draws():
    # A box of the whole area and another ratio never fits; the photo itself has an allowed ratio.
    rng = Scripted(uniform=[1.0, np.log(4 / 3)] * 10)
    assert augment.random_resized_box(50, 50, rng, scale=(0.2, 1.0), ratio=(0.75, 4 / 3)) == (0, 0, 50, 50)
    assert rng.spent()


def test_random_resized_box_stays_in_range():
    rng = np.random.default_rng(0)
    boxes = [augment.random_resized_box(200, 300, rng, scale=(0.2, 0.8), ratio=(0.75, 4 / 3)) for _ in range(2000)]
    top, left, height, width = np.array(boxes).T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 200).all() and (left + width <= 300).all()
    share, aspect = height * width / 60000, width / height
    assert share.min() > 0.19 and share.max() < 0.81
    assert aspect.min() > 0.74 and aspect.max() < 1.35
    assert abs(np.log(aspect[share < 0.5]).mean()) < 0.02  # where nothing is rejected: log-uniform around 1
    assert (top == 0).any() and (top + height == 200).any()


@pytest.mark.parametrize(
    ("photo", "crop", "factor", "expected"),
    [
        (100, 40, 1.0, (40, 40)),
        (100, 40, 2.0, (20, 40)),
        (100, 40, 0.5, (80, 40)),
        (80, 40, 0.5, (80, 40)),
        (60, 40, 0.5, (60, 30)),  # scaled to 30 pixels: all of them, ten are missing
        (30, 40, 1.2, (30, 36)),
    ],
)
def test_extent(photo, crop, factor, expected):
    assert augment._extent(photo, crop, factor) == expected


def test_finetune_view_by_hand():
    label = np.array([[0, 1], [2, -1]], np.int16)
    image = np.where(label[..., None] >= 0, COLOURS[label], 0).astype(np.uint8)
    # Factor 2 makes 4 x 4 pixels, the crop wants 6 x 7; no flip, no distortion.
    rng = Scripted(uniform=[2.0], integers=[0, 0], random=[0.9] * 6)
    view, view_label = _finetune(image, label, rng, crop=(6, 7), category_ratio=1.0)
    expected = np.full((6, 7), -1)
    expected[:2, :2], expected[:2, 2:4], expected[2:4, :2] = 0, 1, 2
    np.testing.assert_array_equal(view_label, expected)
    np.testing.assert_array_equal(view[[0, 0, 3], [0, 3, 0]], COLOURS[:3])
    assert (view[4:] == FILL).all() and (view[:, 4:] == FILL).all()


@pytest.mark.parametrize(("factor", "crop"), [(2.0, (8, 8)), (0.5, (2, 2))])
def test_finetune_view_distorts_photos_that_grow_and_that_shrink(factor, crop):
    image, label = np.full((4, 4, 3), (100, 150, 250), np.uint8), np.zeros((4, 4), np.int16)
    # Drawn in this order: the factor, top and left, flip (no), then brightness alone, + 10 levels.
    rng = Scripted(uniform=[factor, 10.0], integers=[0, 0], random=[0.9, YES, NO, NO, NO, NO])
    view, _ = _finetune(image, label, rng, crop=crop, category_ratio=1.0, photometric=DISTORTION)
    assert rng.spent()
    assert view.shape == (*crop, 3) and (view == (110, 160, 255)).all()
    assert (image == (100, 150, 250)).all()


def test_finetune_view_shrinks_bilinearly():
    image = np.repeat(np.tile(np.uint8([0, 30, 60, 90]), (4, 1))[..., None], 3, axis=-1)
    rng = Scripted(uniform=[0.75], integers=[0, 0], random=[0.9] * 6)
    view, _ = _finetune(image, np.zeros((4, 4), np.int16), rng, crop=(3, 3), category_ratio=1.0)
    # The centres of the three pixels are at 4/3 (i + 1/2) - 1/2 = 1/6, 3/2 and 17/6 of the four.
    np.testing.assert_array_equal(view, np.broadcast_to(np.uint8([5, 45, 85])[:, None], (3, 3, 3)))


def _columns(*classes: int) -> np.ndarray:
    return np.tile(np.array(classes, np.int16), (4, 1))


def test_category_ratio_draws_until_a_box_has_two_classes_in_proportion():
    label = _columns(0, 0, 0, 0, 1, 1, 1, 1)
    # Columns 0..3 and 4..7: one class. 1..4: a share of 3/4, not less than 0.75. 2..5: a half.
    rng = Scripted(integers=[0, 0, 0, 4, 0, 1, 0, 2])
    assert augment.choose_box(label, (4, 4), rng, 0.75) == (0, 2)
    assert rng.spent()


def test_category_ratio_counts_labelled_pixels_alone():
    label = _columns(0, 0, 0, 1, 1, -1, -1, -1)
    rng = Scripted(integers=[0, 0])  # 3 of 5 labelled pixels are of class 0
    assert augment.choose_box(label, (4, 8), rng, 0.75) == (0, 0)
    rng = Scripted(integers=[0, 2] + [0, 0] * 10)  # 1 of 3; and 3 of 4 are too many at 0.7
    assert augment.choose_box(label, (4, 6), rng, 0.7) == (0, 2)


def test_category_ratio_takes_the_last_box_after_ten_tries():
    label = _columns(5, 5, 5, 5, 5, 5)
    rng = Scripted(integers=[0, 0] * 10 + [0, 2])
    assert augment.choose_box(label, (4, 4), rng, 0.75) == (0, 2)
    assert rng.spent()
    rng = Scripted(integers=[0, 1])
    assert augment.choose_box(label, (4, 4), rng, 1.0) == (0, 1)


def _distort(colour: tuple[int, int, int], random: list[float], uniform: list[float]) -> list[int]:
    """`random`: draw brightness, draw contrast, contrast first, draw saturation, draw hue; below 0.5 is yes."""
    rng = Scripted(random=random, uniform=uniform)
    strengths = {"brightness": 255.0, "contrast": 5.0, "saturation": 5.0, "hue": 90.0}
    image = augment.photometric(np.array([[colour]], np.uint8), rng, PhotometricConfig(**strengths))
    assert rng.spent()
    return image[0, 0].tolist()


@pytest.mark.parametrize(
    ("colour", "random", "uniform", "expected"),
    [
        ((100, 150, 200), [NO, NO, YES, NO, NO], [], [100, 150, 200]),
        ((100, 150, 250), [YES, NO, YES, NO, NO], [10.0], [110, 160, 255]),
        ((5, 150, 250), [YES, NO, YES, NO, NO], [-10.0], [0, 140, 240]),
        ((100, 150, 200), [NO, YES, YES, NO, NO], [1.5], [150, 225, 255]),
        ((100, 150, 200), [YES, YES, YES, NO, NO], [10.0, 0.5], [55, 80, 105]),
        ((100, 150, 200), [YES, YES, NO, NO, NO], [10.0, 0.5], [55, 80, 105]),
        ((255, 0, 0), [NO, NO, YES, YES, NO], [0.5], [255, 127, 127]),  # saturation 255 -> 128
        ((255, 0, 0), [NO, NO, YES, NO, YES], [60.0], [0, 255, 0]),  # 120 degrees on
        ((255, 0, 0), [NO, NO, YES, NO, YES], [-10.0], [255, 0, 85]),  # 20 degrees back, past the end of the circle
        # Contrast first: (255, 120, 120) has saturation 135, times 1.6 216, so 255 (1 - 216 / 255) = 39.
        ((200, 80, 80), [NO, YES, YES, YES, NO], [1.5, 1.6], [255, 39, 39]),
        # Contrast last: saturation 153, times 1.6 245, so 200 (1 - 245 / 255) = 8, times 1.5 12.
        ((200, 80, 80), [NO, YES, NO, YES, NO], [1.5, 1.6], [255, 12, 12]),
    ],
)
def test_photometric_by_hand(colour, random, uniform, expected):
    assert _distort(colour, random, uniform) == expected


def test_photometric_without_strength_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(10):
        np.testing.assert_array_equal(augment.photometric(image, rng, NO_DISTORTION), image)


def test_photometric_probabilities_and_ranges():
    grey = np.full((1, 1, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    settings = PhotometricConfig(32.0, 0.0, 0.0, 0.0)
    shifts = np.array([int(augment.photometric(grey, rng, settings)[0, 0, 0]) - 100 for _ in range(2000)])
    assert shifts.min() < -30 and shifts.max() > 30 and np.abs(shifts).max() <= 32
    assert abs((shifts != 0).mean() - 0.5) < 0.05


def test_pretrain_view_by_hand():
    """A box of the share, of the ratio and at the place that were drawn; then flip, then distortion, of the config."""
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    label = np.arange(64, dtype=np.int16).reshape(8, 8)
    # 1/16 of 64 pixels is a box of 4, at width / height 4 one row. 0.9 is below 0.95: it is flipped. + 10 levels.
    rng = Scripted(uniform=[1 / 16, math.log(4.0), 10.0], integers=[5, 2], random=[0.9, YES, NO, NO, NO, NO])
    values = {"crop": (1, 4), "scale": (0.05, 0.1), "ratio": (3.9, 4.1), "flip": 0.95, "photometric": DISTORTION}
    view, view_label = _pretrain(image, label, rng, **values)
    assert rng.spent()
    np.testing.assert_array_equal(view_label, label[5:6, 2:6][:, ::-1])
    np.testing.assert_array_equal(view, image[5:6, 2:6][:, ::-1] + 10)


def test_finetune_view_is_flipped_as_often_as_the_config_says():
    image, label = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.array([[0, 1], [2, 3]], np.int16)
    for draw, step in ((0.9, -1), (0.96, 1)):
        rng = Scripted(uniform=[1.0], integers=[0, 0], random=[draw, NO, NO, NO, NO, NO])
        view, view_label = _finetune(image, label, rng, crop=(2, 2), category_ratio=1.0, flip=0.95)
        np.testing.assert_array_equal(view, image[:, ::step])
        np.testing.assert_array_equal(view_label, label[:, ::step])
