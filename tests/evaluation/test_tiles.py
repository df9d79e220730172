"""mdp_jax/evaluation/tiles.py: cuts by hand, and a network that sees no farther than the margin."""

import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.evaluation import tiles
from mdp_jax.evaluation.tiles import Span, fitting, grid, require_tile, spans

RNG = np.random.default_rng(0)


def test_cuts_by_hand():
    # Margins of 64 leave 128 of 256 pixels.
    assert spans(512, 256, 8) == [Span(0, 0, 192), Span(128, 192, 320), Span(256, 320, 512)]
    # Tiles of 232 pixels, as 392 - 232 = 160; margins of 32 leave 168, of which tiles begin at a multiple of 32.
    assert fitting(392, 256, 8) == 232
    assert spans(392, 256, 8) == [Span(0, 0, 196), Span(160, 196, 392)]
    # Patches of 14 pixels lie on a grid of 42. Tiles of 252 - 42 + 14 pixels, margins of 42: 126 to the next one.
    assert fitting(350, 256, 14) == 224
    assert spans(350, 256, 14) == [Span(0, 0, 175), Span(126, 175, 350)]


@pytest.mark.parametrize("length", [*range(257, 1040, 37), 3000, 4001])
@pytest.mark.parametrize("tile", [256, 288, 512])
@pytest.mark.parametrize("stride", [8, 14, 32])
def test_every_pixel_is_taken_once_and_has_its_margin(length, tile, stride):
    if length <= tile:
        return
    cuts, step = spans(length, tile, stride), grid(stride)
    assert [cut.first for cut in cuts] == [0, *(cut.end for cut in cuts[:-1])] and cuts[-1].end == length
    tile = fitting(length, tile, stride)
    margin = tile // 4 // step * step
    assert step % stride == 0 and margin >= step
    for cut in cuts:
        assert cut.start % step == 0 and cut.start <= cut.first < cut.end <= cut.start + tile
        assert cut.start == 0 or cut.first - cut.start >= margin
        assert cut is cuts[-1] or cut.start + tile - cut.end >= margin
    assert cuts[-1].start + tile == length and len(cuts) <= length / (tile / 2 - step) + 1


def strided(reach):
    """Labels by means over cells of 8 pixels and their neighbours, so many cells away; zeros beyond the photo."""

    def label(image):
        cells = image[..., 0].astype(np.float64)
        cells = cells.reshape(cells.shape[0] // 8, 8, -1, 8).mean(axis=(1, 3))
        padded = np.pad(cells, reach)
        around = sum(
            padded[i : i + cells.shape[0], j : j + cells.shape[1]]
            for i in range(2 * reach + 1)
            for j in range(2 * reach + 1)
        )
        return np.repeat(np.repeat((around * 7).astype(np.int32) % 5, 8, axis=0), 8, axis=1)

    return label


def labels_by_tiles(label, image, tile, stride):
    """By a function of the pixels of a tile."""
    found = tiles.labels_by_tiles(lambda one: label(one.image), tiles.cut(image, tile, stride))
    return found[: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize("size", [(512, 640), (96, 456), (328, 64), (504, 392)])
def test_whole_and_by_tiles_where_the_network_sees_no_farther_than_the_margin(size):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(labels_by_tiles(strided(4), image, 256, 8), strided(4)(image))
    shapes = set()
    labels_by_tiles(lambda part: shapes.add(part.shape) or np.zeros(part.shape[:2], np.int32), image, 256, 8)
    assert len(shapes) == 1 and max(*shapes.pop()) <= 256


def test_a_network_that_sees_farther_differs_at_the_seams_alone():
    image = RNG.integers(0, 256, (64, 1024, 3), dtype=np.uint8)
    whole, found = strided(10)(image), labels_by_tiles(strided(10), image, 256, 8)
    seams = {cut.end for cut in spans(1024, 256, 8)[:-1]}
    wrong = np.flatnonzero((whole != found).any(axis=0))
    assert len(wrong) and all(min(abs(column - seam) for seam in seams) <= 16 for column in wrong)


def test_a_photo_that_is_no_multiple_is_filled_up():
    image = RNG.integers(0, 256, (70, 300, 3), dtype=np.uint8)
    filled = []
    found = labels_by_tiles(lambda part: filled.append(part) or part[..., 1].astype(np.int32), image, 256, 8)
    np.testing.assert_array_equal(found, image[..., 1])
    assert all(part.shape == (70, fitting(304, 256, 8), 3) for part in filled)
    assert (filled[-1][:, -4:] == image[:, -1:]).all()


@pytest.mark.parametrize("tile", [1, 224, 260, -256])
def test_sides_that_cannot_be(tile):
    with pytest.raises(UserError, match=f"^--tile {tile}: expected a multiple of 32 from 256 on, or 0"):
        require_tile(tile, f"--tile {tile}")
