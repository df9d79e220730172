"""mdp_jax/reporting/contact_sheet.py: what the pixels of a contact sheet hold."""

import cv2
import numpy as np

from mdp_jax.data import label_space
from mdp_jax.method import mixing
from mdp_jax.reporting import colors, contact_sheet, figures
from tests.data.fixtures import MemorySource

SIDE = 40
OWN = np.array([[200, 100, 50], [10, 20, 30], [90, 90, 200]], np.uint8)  # a palette of three classes


def purple(shade):
    """A colour that is in no palette, and no shade of black text."""
    return np.array([shade, 0, shade], np.uint8)


def decoded(png):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def pixels_of(picture, colour):
    return int(np.sum(np.all(picture == np.asarray(colour, np.uint8), axis=-1)))


def source(name, classes, palette=None):
    made = MemorySource(name, classes, [])
    made.palette = palette
    return made


SOURCES = [source("town", ("car", "road")), source("harbor", ("boat", "quay", "sea"), OWN)]
SPACE = label_space.build(SOURCES)


def batch_of(kind: int, lam: float, box=(0, 0, 0, 0)) -> dict:
    """One pair: purple 60 of town, all road, and purple 160 of harbor, all sea."""
    return {
        "image": np.stack([np.tile(purple(shade), (SIDE, SIDE, 1)) for shade in (60, 160)]),
        "label": np.stack([np.full((SIDE, SIDE), index, np.int16) for index in (1, 4)]),
        "dataset": np.array([0, 1], np.int32),
        "mix_kind": np.array([kind], np.int32),
        "lam": np.array([lam], np.float32),
        "box": np.array([box], np.int32),
    }


def drawn(batch):
    return decoded(contact_sheet.pairs(batch, SPACE, contact_sheet.class_colours(SOURCES)))


def cells_of(picture, colour, cell: float) -> float:
    """How many cells a colour fills, a swatch of the legend aside."""
    return round(pixels_of(picture, colour) / cell, 1)


def test_a_palette_of_the_sets_own_is_kept():
    found = contact_sheet.class_colours(SOURCES)
    np.testing.assert_array_equal(found, np.concatenate([colors.palette(5)[:2], OWN]))


def test_chosen_pairs_keep_their_members_and_their_mixing():
    batch = {
        "image": np.arange(8)[:, None, None, None],
        "dataset": np.arange(8),
        "mix_kind": np.array([0, 1, 2, 0]),
        "lam": np.array([1.0, 0.5, 0.25, 1.0]),
        "box": np.arange(16).reshape(4, 4),
    }
    chosen = contact_sheet.choose_pairs(batch, [2, 0])
    assert chosen["dataset"].tolist() == chosen["image"].ravel().tolist() == [4, 5, 0, 1]
    assert chosen["mix_kind"].tolist() == [2, 0] and chosen["lam"].tolist() == [0.25, 1.0]
    assert chosen["box"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


def test_a_region_shows_two_colours_where_the_box_is():
    batch = batch_of(mixing.REGION, 0.75, (0, 0, SIDE // 2, SIDE // 2))  # a quarter is exchanged
    picture = drawn(batch)
    cell = pixels_of(picture, OWN[2])  # 3/4 of one label and 1/4 of the other
    assert cell > 120 * 120
    for colour in (colors.palette(2)[1], *colors.of_sets(2)):
        assert cells_of(picture, colour, cell) == 1.0
    assert {cells_of(picture, purple(shade), cell) for shade in (60, 160)} <= {1.9, 2.0}  # edges are smooth
    row = np.argmax(np.any(np.all(picture == colors.of_sets(2)[0], axis=-1), axis=1))
    first = np.where(np.all(picture[row] == colors.of_sets(2)[1], axis=-1))[0]  # the box is at the top left
    second = np.where(np.all(picture[row] == colors.of_sets(2)[0], axis=-1))[0]
    assert first[0] < second[0] < second[-1] < first[-1]


def test_a_pixel_mixed_pair_shows_two_labels_and_blends_with_their_weights():
    picture = drawn(batch_of(mixing.PIXEL, 0.75))
    town, harbor = colors.of_sets(2).astype(float)
    blends = [np.rint(0.75 * town + 0.25 * harbor), np.rint(0.25 * town + 0.75 * harbor)]
    cell = pixels_of(picture, purple(60))
    assert cell > 120 * 120
    assert pixels_of(picture, purple(85)) == cell == pixels_of(picture, purple(135))
    for blend in blends:
        assert cells_of(picture, blend, cell) == 1.0
    for label in (OWN[2], colors.palette(2)[1]):  # once as the own and once as the second label
        assert cells_of(picture, label, cell) == 2.0
    assert pixels_of(picture, colors.of_sets(2)[0]) == 0


def test_a_plain_pair_has_no_second_label_and_no_stripes():
    picture = drawn(batch_of(mixing.PLAIN, 1.0))
    cell = pixels_of(picture, purple(60)) / 2  # as it is and mixed
    assert cells_of(picture, OWN[2], cell) == 1.0
    assert pixels_of(picture, (215, 215, 215)) < 200  # of a stripe; text has some


def test_the_key_view_is_drawn_where_there_is_one():
    batch = batch_of(mixing.PLAIN, 1.0)
    key = {"key_image": batch["image"] // 2, "key_label": np.full((2, SIDE, SIDE), -1, np.int16)}
    without, with_key = drawn(batch), drawn(batch | key)
    assert pixels_of(without, purple(30)) == 0
    assert pixels_of(with_key, purple(30)) == pixels_of(with_key, purple(60)) // 2
    assert pixels_of(with_key, (215, 215, 215)) > 10000 and with_key.shape[0] > without.shape[0] + 200


def test_samples_of_one_dataset():
    batch = {
        "image": np.tile(purple(60), (3, SIDE, SIDE, 1)),
        "label": np.stack([np.full((SIDE, SIDE), i, np.int16) for i in (0, 1, 1)]),
    }
    picture = decoded(contact_sheet.samples(batch, SOURCES[1].classes, OWN))
    cell = pixels_of(picture, purple(60)) / 3
    assert [cells_of(picture, colour, cell) for colour in OWN] == [1.0, 2.0, 0.0]


def test_examples_are_in_the_row_of_their_class():
    def photo(shade):
        return np.tile(purple(shade), (SIDE, 60, 1))

    label = np.full((SIDE, 60), 1, np.int16)
    shown = {"boat": [(photo(60), label), (photo(80), label)], "sea": [(photo(100), label)]}
    picture = decoded(contact_sheet.examples(shown, SOURCES[1].classes, OWN))
    places = [np.argwhere(np.all(picture == purple(shade), axis=-1)) for shade in (60, 80, 100)]
    (top, left), (top_2, left_2), (top_3, left_3) = (place.min(axis=0) for place in places)
    assert top == top_2 < top_3 and left == left_3 < left_2
    assert cells_of(picture, OWN[1], len(places[0])) == 3.0


def test_pictures_below_each_other():
    red, blue = np.zeros((10, 30, 3), np.uint8), np.zeros((20, 12, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    picture = decoded(contact_sheet.stacked([figures.encode_png(red), figures.encode_png(blue)]))
    assert picture.shape == (30, 30, 3)
    assert (picture[:10] == (255, 0, 0)).all() and (picture[10:, :12] == (0, 0, 255)).all()
    assert (picture[10:, 12:] == 255).all()
