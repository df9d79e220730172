"""Labels of a photo that is too large to be labelled at once: tile by tile, with a margin that only gives context."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError

GRID = 32  # pixels: tiles begin at its multiples, where features of every stride begin
LEAST = 8 * GRID  # pixels of a tile's side, a quarter of which is the margin on each side


class Span(NamedTuple):
    """Of one tile along one axis, in pixels of the photo.

    Attributes:
      start: where the tile begins.
      first: of the pixels whose labels are taken from it.
      end: behind the last of these.
    """

    start: int
    first: int
    end: int


def require_tile(tile: int, given: str) -> None:
    """Checks the side of tiles.

    Args:
      tile: in pixels; 0 = no tiles.
      given: the option with its value, for the error.

    Raises:
      UserError: it cannot be.
    """
    if tile and (tile < LEAST or tile % GRID):
        raise UserError(f"{given}: expected a multiple of {GRID} from {LEAST} on, or 0 for photos as a whole")


def fitting(length: int, tile: int) -> int:
    """The length of tiles that begin at multiples of GRID and the last of which ends where the axis ends.

    Args:
      length: of the axis, in pixels; more than `tile`.
      tile: the most that a tile may have, a multiple of GRID.

    Returns:
      More than tile - GRID.
    """
    return tile - GRID + (length - 1) % GRID + 1


def spans(length: int, tile: int) -> list[Span]:
    """Cuts an axis into tiles of the length `fitting`.

    Neighbours overlap by a margin on each side or more, and share the overlap out in its middle. A margin is a quarter
    of a tile, rounded down to a multiple of GRID.

    Args:
      length: of the axis, in pixels; more than `tile`.
      tile: as for `fitting`.

    Returns:
      The tiles in order.
    """
    tile = fitting(length, tile)
    last = length - tile
    step = (tile - 2 * _margin(tile)) // GRID * GRID
    starts = [*range(0, last, step), last]
    borders = [(low + high + tile) // 2 for low, high in itertools.pairwise(starts)]
    return [Span(*span) for span in zip(starts, [0, *borders], [*borders, length], strict=True)]


def _margin(tile: int) -> int:
    return tile // 4 // GRID * GRID


def labels_by_tiles(label: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: int, stride: int) -> np.ndarray:
    """Labels a photo tile by tile; all tiles have one shape, so that one program is compiled.

    A label is that of the whole photo where the network sees no farther than the margin, a quarter of a tile. A decoder
    that pools the whole image sees its tile instead. An axis that is cut is filled up to a multiple of the stride.

    Args:
      label: uint8 [h,w,3] -> int32 [h,w].
      image: uint8 [H,W,3].
      tile: side of the tiles in pixels, at most; an axis that is not longer stays whole.
      stride: of the network's coarsest features, in pixels; it divides GRID.

    Returns:
      int32 [H,W].
    """
    height, width = image.shape[:2]
    behind = [-side % stride if side > tile else 0 for side in (height, width)]
    padded = np.pad(image, [(0, behind[0]), (0, behind[1]), (0, 0)], mode="edge")
    cut = [side > tile for side in (height, width)]
    filled = padded.shape[:2]
    cuts = [spans(side, tile) if more else [Span(0, 0, side)] for side, more in zip(filled, cut, strict=True)]
    sizes = [fitting(side, tile) if more else side for side, more in zip(filled, cut, strict=True)]
    found = np.empty(filled, np.int32)
    for row in cuts[0]:
        for column in cuts[1]:
            part = label(padded[row.start : row.start + sizes[0], column.start : column.start + sizes[1]])
            kept = part[
                row.first - row.start : row.end - row.start, column.first - column.start : column.end - column.start
            ]
            found[row.first : row.end, column.first : column.end] = kept
    return found[:height, :width]


def cells_by_tiles(cells_of: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: int) -> np.ndarray:
    """Features or logits of a photo at the stride of a network, tile by tile, as `labels_by_tiles` cuts it.

    Args:
      cells_of: uint8 [h,w,3] -> float [h / s, w / s, D], with s a stride that divides GRID.
      image: uint8 [H,W,3]; a side that is longer than a tile is a multiple of s.
      tile: side of the tiles in pixels, at most; an axis that is not longer stays whole.

    Returns:
      float [H / s, W / s, D].
    """
    cuts = [spans(side, tile) if side > tile else [Span(0, 0, side)] for side in image.shape[:2]]
    sizes = [fitting(side, tile) if side > tile else side for side in image.shape[:2]]
    rows = []
    for row in cuts[0]:
        parts = []
        for column in cuts[1]:
            part = cells_of(image[row.start : row.start + sizes[0], column.start : column.start + sizes[1]])
            kept = (
                slice(*(_cell(at - span.start, size, count) for at in (span.first, span.end)))
                for span, size, count in zip((row, column), sizes, part.shape, strict=False)
            )
            parts.append(part[tuple(kept)])
        rows.append(np.concatenate(parts, axis=1))
    return np.concatenate(rows)


def _cell(at: int, size: int, count: int) -> int:
    """The cell that begins nearest to a pixel of a tile."""
    return (2 * at * count + size) // (2 * size)
