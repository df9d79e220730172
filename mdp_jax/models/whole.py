"""Means over a whole image that decoders take, where the network sees the image or only a part of it."""

from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.models.layers import Dtypes
from mdp_jax.models.resizing import averaged, enlarged, interpolated, interpolation, means

WHOLE = "whole"  # the collection of what is given of the whole image to a network that sees a part of it
_MEANS, _AXES = "means_{}", ("rows_{}", "columns_{}")  # its names, by the sides of grids


class Part(NamedTuple):
    """The features of a part along one axis of the image.

    Attributes:
      start: number of its first feature in the whole image.
      size: number of its features.
      first: of the features that are counted in the part, and not in a neighbour that overlaps with it.
      end: behind the last of these; both are numbers in the whole image.
      whole: number of features of the whole image.
    """

    start: int
    size: int
    first: int
    end: int
    whole: int


def shares(part: Part, side: int) -> np.ndarray:
    """How much each feature of a part adds to the means of the whole image, along one axis.

    Args:
      part: of the image.
      side: cells of the grid along the axis.

    Returns:
      float64 [side, size]. Each feature of the image is counted in one part.
    """
    of_part = np.zeros((side, part.size))
    counted = slice(part.first - part.start, part.end - part.start)
    of_part[:, counted] = means(part.whole, side)[:, part.first : part.end]
    return of_part


def given(part: tuple[Part, Part], grids: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """What a decoder is given of the whole image, for a part of it: the collection WHOLE of the decoder.

    Args:
      part: along both axes.
      grids: {side of a grid: means of its cells [1,side,side,C]}.
    """
    found = {}
    for side, grid in grids.items():
        found[_MEANS.format(side)] = grid
        for name, along in zip(_AXES, part, strict=True):
            matrix = cast(np.ndarray, interpolation(side, along.whole))  # a grid is small enough for one
            found[name.format(side)] = matrix[along.start : along.start + along.size]
    return found


def image_means(module: nn.Module, x: jax.Array, side: int, dtypes: Dtypes) -> jax.Array:
    """Means over the cells of a grid that covers the whole image.

    Args:
      module: bound, of the decoder that asks for them.
      x: features [B,h,w,C] of what the network sees. They are averaged, unless the collection WHOLE has the means.
      side: cells of each axis.
      dtypes: of the network.

    Returns:
      [B,side,side,C] in `dtypes.wide`.
    """
    known = known_means(module, x, side, dtypes)
    return averaged(x, side) if known is None else known


def known_means(module: nn.Module, x: jax.Array, side: int, dtypes: Dtypes) -> jax.Array | None:
    """The means of the collection WHOLE; None where the network sees the whole image.

    Args:
      module: as for `image_means`.
      x: as for `image_means`.
      side: as for `image_means`.
      dtypes: of the network.

    Returns:
      [B,side,side,C] in `dtypes.wide`.
    """
    name = _MEANS.format(side)
    if not module.has_variable(WHOLE, name):
        return None
    known = jnp.asarray(module.get_variable(WHOLE, name)).astype(dtypes.wide)
    return jnp.broadcast_to(known, (len(x), *known.shape[1:]))


def over_image(module: nn.Module, x: jax.Array, like: jax.Array) -> jax.Array:
    """Interpolates a grid that covers the whole image to the features that the network sees of it.

    Args:
      module: bound, of the decoder.
      x: [B,side,side,C].
      like: [B,h,w,...].

    Returns:
      [B,h,w,C] in the dtype of `x`.
    """
    names = [name.format(x.shape[1]) for name in _AXES]
    if not module.has_variable(WHOLE, names[0]):
        return enlarged(x, like)
    rows, columns = (jnp.asarray(module.get_variable(WHOLE, name)) for name in names)
    return interpolated(x, rows, columns).astype(x.dtype)
