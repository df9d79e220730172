"""A photo that is too large to be seen at once: tile by tile, with a margin that only gives context."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError

GRID = 32  # pixels, at least, from one place where tiles may begin to the next
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


class Tile(NamedTuple):
    """One tile.

    Attributes:
      image: uint8 [h,w,3], a part of the photo.
      rows: where it is.
      columns: where it is.
    """

    image: np.ndarray
    rows: Span
    columns: Span


@dataclasses.dataclass(frozen=True)
class Tiles:
    """A photo that is cut into tiles of one shape, so that one program is compiled; it gives them row by row.

    Attributes:
      photo: uint8 [H,W,3]; an axis that is cut was filled up to a multiple of the stride.
      rows: of the tiles, from above to below.
      columns: of the tiles, from left to right.
      size: height and width of each tile.
    """

    photo: np.ndarray
    rows: list[Span]
    columns: list[Span]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[Tile]:
        """The tiles, row by row."""
        height, width = self.size
        for row, column in itertools.product(self.rows, self.columns):
            part = self.photo[row.start : row.start + height, column.start : column.start + width]
            yield Tile(part, row, column)


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


def grid(stride: int) -> int:
    """Pixels from one place where tiles may begin to the next: there begin features of the whole photo.

    Args:
      stride: of the network's coarsest features, in pixels.

    Returns:
      The smallest multiple of the stride from GRID on.
    """
    return stride * -(-GRID // stride)


def fitting(length: int, tile: int, stride: int) -> int:
    """The length of tiles that begin on the grid and the last of which ends where the axis ends.

    Args:
      length: of the axis, in pixels; more than `tile`.
      tile: the most that a tile may have.
      stride: of the network's coarsest features, in pixels.

    Returns:
      More than tile - 2 grid(stride).
    """
    step = grid(stride)
    return tile // step * step - step + (length - 1) % step + 1


def spans(length: int, tile: int, stride: int) -> list[Span]:
    """Cuts an axis into tiles of the length `fitting`.

    Neighbours overlap by a margin on each side or more, and share the overlap out in its middle. A margin is a quarter
    of a tile, rounded down to a multiple of the grid.

    Args:
      length: of the axis, in pixels; more than `tile`.
      tile: as for `fitting`.
      stride: as for `fitting`.

    Returns:
      The tiles in order.
    """
    tile, each = fitting(length, tile, stride), grid(stride)
    last = length - tile
    step = (tile - 2 * (tile // 4 // each * each)) // each * each
    starts = [*range(0, last, step), last]
    borders = [(low + high + tile) // 2 for low, high in itertools.pairwise(starts)]
    return [Span(*span) for span in zip(starts, [0, *borders], [*borders, length], strict=True)]


def cut(image: np.ndarray, tile: int, stride: int) -> Tiles:
    """Cuts a photo.

    Args:
      image: uint8 [H,W,3].
      tile: side of the tiles in pixels, at most; an axis that is not longer stays whole.
      stride: of the network's coarsest features, in pixels.
    """
    behind = [-side % stride if side > tile else 0 for side in image.shape[:2]]
    photo = np.pad(image, [(0, behind[0]), (0, behind[1]), (0, 0)], mode="edge") if any(behind) else image
    filled, is_cut = photo.shape[:2], [side > tile for side in image.shape[:2]]
    rows, columns = (
        spans(side, tile, stride) if more else [Span(0, 0, side)] for side, more in zip(filled, is_cut, strict=True)
    )
    height, width = (fitting(side, tile, stride) if more else side for side, more in zip(filled, is_cut, strict=True))
    return Tiles(photo, rows, columns, (height, width))


def maps_by_tiles(maps_of: Callable[[Tile], Sequence[np.ndarray]], tiles: Tiles) -> list[np.ndarray]:
    """Maps of the pixels of a photo, tile by tile.

    A value is that of the whole photo where the network sees no farther than the margin, a quarter of a tile.

    Args:
      maps_of: a tile -> arrays [h,w,...], of any types; as many for each tile.
      tiles: of the photo.

    Returns:
      Arrays [H,W,...], with what the photo was filled up by.
    """
    found: list[np.ndarray] = []
    for tile in tiles:
        own = tuple(slice(span.first - span.start, span.end - span.start) for span in (tile.rows, tile.columns))
        parts = maps_of(tile)
        if not found:
            found = [np.empty((*tiles.photo.shape[:2], *part.shape[2:]), part.dtype) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[tile.rows.first : tile.rows.end, tile.columns.first : tile.columns.end] = part[own]
    return found


def labels_by_tiles(label: Callable[[Tile], np.ndarray], tiles: Tiles) -> np.ndarray:
    """Labels a photo tile by tile.

    Args:
      label: a tile -> int32 [h,w].
      tiles: of the photo.

    Returns:
      int32 [H,W], as `maps_by_tiles` gives it.
    """
    return maps_by_tiles(lambda tile: [label(tile)], tiles)[0]


def cells_by_tiles(cells_of: Callable[[Tile], np.ndarray], tiles: Tiles) -> np.ndarray:
    """Features or logits of a photo at the stride s of a network, tile by tile.

    Args:
      cells_of: a tile -> float [h / s, w / s, D].
      tiles: of the photo, whose sides are multiples of s where they are cut.

    Returns:
      float [H / s, W / s, D].
    """
    parts = []
    for tile in tiles:
        part = cells_of(tile)
        own = (
            slice(*(cell(at - span.start, size, count) for at in (span.first, span.end)))
            for span, size, count in zip((tile.rows, tile.columns), tiles.size, part.shape, strict=False)
        )
        parts.append(part[tuple(own)])
    across = len(tiles.columns)
    rows = (parts[start : start + across] for start in range(0, len(parts), across))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def cell(at: int, size: int, count: int) -> int:
    """The cell that begins nearest to a pixel of a tile.

    Args:
      at: the pixel, from the tile's first one.
      size: pixels of the tile.
      count: cells of the tile.
    """
    return (2 * at * count + size) // (2 * size)
