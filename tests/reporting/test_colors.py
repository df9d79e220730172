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
    picture = colors.legend(colors.class_entries([0, 2, 4, -1], classes), width)
    shown, palette = colours_of(picture), [tuple(colour) for colour in colors.palette(5).tolist()]
    assert {palette[0], palette[2], palette[4]} | STRIPES <= shown
    assert palette[1] not in shown and palette[3] not in shown
    assert picture.shape[1] >= width
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert np.all(edge == 255)  # nothing is cut off


def test_legend_of_nothing_is_white():
    assert colours_of(colors.legend([], 50)) == {(255, 255, 255)}


def test_entries_say_the_shares():
    shares = {1: 0.434, 0: 0.0042, -1: 0.0002}
    entries = colors.class_entries([1, 0, -1], ["sky", "road"], shares=shares)
    assert [name for name, _ in entries] == ["road 43 %", "sky 0.4 %", "ignored under 0.1 %"]


def apart(colours):
    """Least distance of two colours, for each way of seeing."""
    return [
        min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) for lab in colors.seen_by_all(colours)
    ]


def test_first_colours_stay_apart_for_those_who_see_fewer():
    assert min(apart(colors.palette(10))) > 14
    assert min(apart(colors.palette(20))) > 10
    assert min(apart(colors.of_sets(5))) > 14


def test_a_red_and_a_green_that_few_tell_apart():
    """The model does what it is for: a red and a green that are far apart come near."""
    normal, without_red, without_green = apart(np.array([[190, 80, 60], [120, 120, 60]], np.uint8))
    assert normal > 2 * without_red and normal > 2 * without_green


def test_sets_keep_their_colours_and_have_none_of_a_class():
    np.testing.assert_array_equal(colors.of_sets(2), colors.of_sets(3)[:2])
    both = np.concatenate([colors.of_sets(8), colors.palette(1024)])
    assert len(np.unique(both, axis=0)) == len(both)
    assert min(apart(np.concatenate([colors.of_sets(3), colors.palette(20)]))) > 10


def test_equal_names_have_one_colour():
    own = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    sets = [(("sky", "road"), None), (("Road ", "sea"), None), (("car", "sea"), own)]
    found = colors.of_classes(sets)
    blue, orange = colors.palette(2).tolist()
    assert found.tolist() == [blue, orange, orange, [4, 5, 6], [1, 2, 3], [4, 5, 6]]
    assert colors.of_classes([]).shape == (0, 3)


def test_no_other_class_has_nearly_the_colour_that_a_set_brings():
    almost_blue = colors.palette(1) + np.uint8([[1, 0, 0]])
    found = colors.of_classes([(("sky", "road"), None), (("car",), almost_blue)])
    assert found[:2].tolist() == colors.palette(3)[1:].tolist()


def test_overlay_has_outlines_in_the_colours_of_the_legend_below():
    image = np.full((30, 200, 3), 100, np.uint8)
    label = np.zeros((30, 200), np.int32)
    label[:, 100:] = 2
    label[:10] = -1
    picture = colors.overlay(image, label, ["sky", "road", "car"], opacity=0.5)
    palette = [tuple(colour) for colour in colors.palette(3).tolist()]
    assert picture.shape[0] > 30 and picture.shape[1] == 200
    assert picture[20, 50].tolist() == [50, 107, 139]  # half of (100, 100, 100) and of (0, 114, 178)
    assert picture[20, 150].tolist() == [50, 129, 108]  # (0, 158, 115)
    assert picture[5, 50].tolist() == [100, 100, 100]
    assert tuple(picture[20, 99]) == tuple(picture[10, 50]) == tuple(picture[29, 50]) == palette[0]
    assert tuple(picture[20, 100]) == tuple(picture[20, 199]) == palette[2]
    below = colours_of(picture[30:])
    assert palette[0] in below and palette[2] in below and palette[1] not in below


def test_overlay_leaves_the_background_clear():
    image, label = np.full((30, 200, 3), 100, np.uint8), np.zeros((30, 200), np.int32)
    label[10:20, 50:90] = 1
    picture = colors.overlay(image, label, ["Background", "car"])
    assert np.all(picture[:9] == 100) and np.all(picture[21:30] == 100)
    assert tuple(picture[10, 50]) == tuple(colors.palette(2)[1])


def test_overlay_in_the_colours_of_a_set():
    own = np.array([[9, 8, 7]], np.uint8)
    picture = colors.overlay(np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), int), ["sky"], own)
    assert picture[0, 0].tolist() == [9, 8, 7]


def test_overlay_of_a_photo_narrower_than_its_legend_keeps_the_photos_size():
    picture = colors.overlay(np.zeros((20, 12, 3), np.uint8), np.zeros((20, 12), int), ["a very long class name"])
    assert picture.shape[1] > 12
    assert np.all(picture[:20, 12:] == 255) and not np.any(np.all(picture[:20, :12] == 255, axis=-1))


def test_a_sheet_has_exactly_the_pixels_asked_for():
    for size in range(20, 60):
        assert colors.pixels(colors.sheet(size, 2 * size + 1)).shape == (size, 2 * size + 1, 3)
