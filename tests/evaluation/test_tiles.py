"""mdp_jax/evaluation/tiles.py: cuts by hand, and a network that sees no farther than the margin."""

import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.evaluation.tiles import GRID, Span, labels_by_tiles, require_tile, spans

RNG = np.random.default_rng(0)


def test_cuts_by_hand():
    # Margins of 32 leave 64 of 128 pixels: tiles at 0, 64 and, at the end of 224 pixels, 96.
    assert spans(200, 128) == [Span(0, 0, 96), Span(64, 96, 144), Span(96, 144, 200)]
    assert spans(256, 128) == [Span(0, 0, 96), Span(64, 96, 160), Span(128, 160, 256)]


@pytest.mark.parametrize("length", [*range(129, 520, 17), 3000, 4001])
@pytest.mark.parametrize("tile", [128, 192, 512])
def test_every_pixel_is_taken_once_and_has_its_margin(length, tile):
    if length <= tile:
        return
    cuts = spans(length, tile)
    assert [cut.first for cut in cuts] == [0, *(cut.end for cut in cuts[:-1])] and cuts[-1].end == length
    margin = tile // 4 // GRID * GRID
    for cut in cuts:
        assert cut.start % GRID == 0 and cut.start <= cut.first < cut.end <= cut.start + tile
        assert cut.start == 0 or cut.first - cut.start >= margin
        assert cut is cuts[-1] or cut.start + tile - cut.end >= margin
    assert len(cuts) <= length / (tile / 2) + 1


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


@pytest.mark.parametrize("size", [(256, 320), (96, 448), (320, 64)])
def test_whole_and_by_tiles_where_the_network_sees_no_farther_than_the_margin(size):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(labels_by_tiles(strided(4), image, 128), strided(4)(image))
    shapes = set()
    labels_by_tiles(lambda part: shapes.add(part.shape) or np.zeros(part.shape[:2], np.int32), image, 128)
    assert shapes == {(min(size[0], 128), min(size[1], 128), 3)}


def test_a_network_that_sees_farther_differs_at_the_seams_alone():
    image = RNG.integers(0, 256, (64, 512, 3), dtype=np.uint8)
    whole, found = strided(6)(image), labels_by_tiles(strided(6), image, 128)
    seams = {cut.end for cut in spans(512, 128)[:-1]}
    wrong = np.flatnonzero((whole != found).any(axis=0))
    assert len(wrong) and all(min(abs(column - seam) for seam in seams) <= 16 for column in wrong)


def test_a_photo_that_is_no_multiple_is_filled_up():
    image = RNG.integers(0, 256, (70, 300, 3), dtype=np.uint8)
    filled = []
    found = labels_by_tiles(lambda part: filled.append(part) or part[..., 1].astype(np.int32), image, 128)
    np.testing.assert_array_equal(found, image[..., 1])
    assert all(part.shape == (70, 128, 3) for part in filled)
    assert (filled[-1][:, -20:] == image[:, -1:]).all()


@pytest.mark.parametrize("tile", [1, 96, 130, -128])
def test_sides_that_cannot_be(tile):
    with pytest.raises(UserError, match=f"^--tile {tile}: expected a multiple of 32 from 128 on, or 0"):
        require_tile(tile, f"--tile {tile}")
