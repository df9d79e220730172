"""mdp_jax/reporting/colors.py."""

import itertools

import cv2
import numpy as np
import pytest

from mdp_jax.reporting import colors

STRIPES = {(255, 255, 255), (215, 215, 215)}


def colours_of(picture):
    return {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}


def test_palette_is_the_same_whatever_its_length():
    np.testing.assert_array_equal(colors.palette(7), colors.palette(300)[:7])
    np.testing.assert_array_equal(colors.palette(1030)[1024:], colors.palette(6))
    assert colors.palette(0).shape == (0, 3)
    assert colors.palette(2).tolist() == [[0, 114, 178], [230, 159, 0]]


def test_palette_keeps_hundreds_of_classes_and_ignored_pixels_apart():
    palette = np.concatenate([colors.palette(300), np.array(sorted(STRIPES), np.uint8)])
    lab = cv2.cvtColor(palette[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    smallest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
    assert smallest > 8  # about 2.3 is a just noticeable difference


def test_colorize_by_hand():
    label = np.array([[0, 1], [-1, 0]], np.int16)
    picture = colors.colorize(label, 2)
    assert picture.dtype == np.uint8
    blue, orange = colors.palette(2).tolist()
    assert picture[0].tolist() == [blue, orange] and picture[1, 1].tolist() == blue
    assert tuple(picture[1, 0].tolist()) in STRIPES


def test_ignored_pixels_are_striped():
    assert colours_of(colors.colorize(np.full((16, 16), -1), 3)) == STRIPES


@pytest.mark.parametrize("width", [40, 300, 1000])
def test_legend_shows_every_class_asked_for_and_no_other(width):
    classes = ["sky", "road", "a rather long class name", "car", "_x $y$"]
    picture = colors.legend([0, 2, 4, -1], classes, width)
    shown, palette = colours_of(picture), [tuple(colour) for colour in colors.palette(5).tolist()]
    assert {palette[0], palette[2], palette[4]} | STRIPES <= shown
    assert palette[1] not in shown and palette[3] not in shown
    assert picture.shape[1] >= width
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert np.all(edge == 255)  # nothing is cut off


def test_legend_of_nothing_is_white():
    assert colours_of(colors.legend([], ["sky"], 50)) == {(255, 255, 255)}


def test_overlay_blends_the_photo_and_adds_the_legend_below():
    image = np.full((30, 200, 3), 100, np.uint8)
    label = np.zeros((30, 200), np.int32)
    label[:, 100:] = 2
    label[:10] = -1
    picture = colors.overlay(image, label, ["sky", "road", "car"])
    assert picture.shape[0] > 30 and picture.shape[1] == 200
    assert picture[20, 50].tolist() == [50, 107, 139]  # half of (100, 100, 100) and of (0, 114, 178)
    assert picture[20, 150].tolist() == [50, 129, 108]  # (0, 158, 115)
    assert picture[5, 50].tolist() == [100, 100, 100]
    below = colours_of(picture[30:])
    palette = [tuple(colour) for colour in colors.palette(3).tolist()]
    assert palette[0] in below and palette[2] in below and palette[1] not in below


def test_overlay_of_a_photo_narrower_than_its_legend_keeps_the_photos_size():
    picture = colors.overlay(np.zeros((20, 12, 3), np.uint8), np.zeros((20, 12), int), ["a very long class name"])
    assert picture.shape[1] > 12
    assert np.all(picture[:20, 12:] == 255) and not np.any(np.all(picture[:20, :12] == 255, axis=-1))


def test_a_sheet_has_exactly_the_pixels_asked_for():
    for size in range(20, 60):
        assert colors.pixels(colors.sheet(size, 2 * size + 1)).shape == (size, 2 * size + 1, 3)
