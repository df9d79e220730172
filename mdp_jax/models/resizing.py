"""Bilinear interpolation like PyTorch's, and the class of each pixel (METHOD.md section 6)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

MOST_LOGITS = 2**26  # numbers that `most_likely` holds at one time: 256 MiB in float32
MOST_WEIGHTS = 2**25  # of a matrix that interpolates, which is the fastest way; 65,500 pixels would need 537 million


class Neighbours(NamedTuple):
    """Two positions for each position of a result, int [n], and the weight of the second one, float [n]."""

    low: np.ndarray | jax.Array
    high: np.ndarray | jax.Array
    fraction: np.ndarray | jax.Array


Weights = np.ndarray | jax.Array | Neighbours


def upsample(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Interpolates bilinearly, like PyTorch's `F.interpolate(mode="bilinear", align_corners=False)`.

    There is no antialiasing, not even where the size becomes smaller.

    Args:
      logits: [B,h,w,C]. In a program for photos of any size (jax.export) the sizes may be symbolic.
      size: (H, W).

    Returns:
      [B,H,W,C] in float32 or wider.
    """
    rows, columns = (interpolation(logits.shape[axis + 1], size[axis]) for axis in (0, 1))
    return interpolated(logits, rows, columns)


def enlarged(x: jax.Array, like: jax.Array) -> jax.Array:
    """Interpolates features to the size of others, as `upsample`, and keeps their dtype.

    Args:
      x: [B,h,w,C].
      like: [B,H,W,...].

    Returns:
      [B,H,W,C].
    """
    _, height, width, *_ = like.shape
    return upsample(x, (height, width)).astype(x.dtype)


def most_likely(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Finds the class of the greatest logit at each pixel, after `upsample`.

    It works on bands of rows, one after another, where the logits of all pixels would be more than MOST_LOGITS numbers.

    Args:
      logits: [B,h,w,C].
      size: (H, W), which are known.

    Returns:
      int32 [B,H,W].
    """
    return _by_bands(logits, size, lambda band: jnp.argmax(band, axis=-1).astype(jnp.int32))


def probabilities(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Computes the softmax of the logits of each pixel, after `upsample`; by bands, as `most_likely`.

    Args:
      logits: [B,h,w,C].
      size: (H, W).

    Returns:
      [B,H,W,C] in float32 or wider.
    """
    return _by_bands(logits, size, lambda band: jax.nn.softmax(band, axis=-1))


def _by_bands(logits: jax.Array, size: tuple[int, int], of_pixels: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A function of interpolated logits [B,r,W,C] to [B,r,W,...], over all rows."""
    height, width = size
    bands = min(-(-len(logits) * height * width * logits.shape[-1] // MOST_LOGITS), height)
    if bands <= 1:
        return of_pixels(upsample(logits, size))
    rows, columns = (interpolation(logits.shape[axis + 1], size[axis]) for axis in (0, 1))
    # The last row fills the last band up.
    bands_of_rows = np.minimum(np.arange(bands * -(-height // bands)), height - 1).reshape(bands, -1)

    def of_band(rows: Weights) -> jax.Array:
        return of_pixels(interpolated(logits, rows, columns))

    of_bands = jax.tree.map(lambda part: jnp.asarray(part[bands_of_rows]), rows)
    found = jax.lax.map(of_band, of_bands)  # [bands, B, rows of a band, W, ...]
    return jnp.moveaxis(found, 0, 1).reshape(len(logits), -1, width, *found.shape[4:])[:, :height]


def padded(images: jax.Array, multiple: int) -> jax.Array:
    """Adds rows below and columns on the right, so that patches cover an image of any size.

    Args:
      images: [B,H,W,C], normalised: 0 is the mean colour.
      multiple: of which height and width become the next multiple.

    Returns:
      [B,H',W',C], with 0 in what was added.
    """
    added = [multiple * parts(side, multiple) - side for side in images.shape[1:3]]
    return jnp.pad(images, ((0, 0), (0, added[0]), (0, added[1]), (0, 0)))


def parts(side: int, size: int) -> int:
    """How many parts of a size cover a side: the quotient, rounded up.

    Args:
      side: from 1; may be symbolic. Written so that jax.export sees that there is one part at least.
      size: of a part.
    """
    return (side + size - 1) // size


def of_image(features: jax.Array, size: tuple[int, ...], stride: int) -> jax.Array:
    """Leaves out the features of what `padded` added.

    Args:
      features: [B,h',w',C] of the image with what was added.
      size: (H, W) of the image.
      stride: pixels from one feature to the next.

    Returns:
      [B,ceil(H/stride),ceil(W/stride),C].
    """
    height, width = (-(-side // stride) for side in size)
    return features[:, :height, :width]


def averaged(x: jax.Array, side: int) -> jax.Array:
    """Means over the cells of a grid, like PyTorch's `AdaptiveAvgPool2d`; cells overlap where `side` is no divisor.

    Args:
      x: [B,h,w,C].
      side: cells of each axis.

    Returns:
      [B,side,side,C] in float32 or wider.
    """
    rows, columns = (means(n, side) for n in x.shape[1:3])
    return interpolated(x, rows, columns)


def means(n_in: int, n_out: int) -> np.ndarray:
    """The means of the cells along an axis, as a matrix: cell i has the values floor(i n / m) to ceil((i + 1) n / m).

    Args:
      n_in: n, number of values.
      n_out: m, number of cells.

    Returns:
      float64 [n_out, n_in].
    """
    matrix = np.zeros((n_out, n_in))
    for i in range(n_out):
        first, end = i * n_in // n_out, -(-(i + 1) * n_in // n_out)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def interpolated(logits: jax.Array, rows: Weights, columns: Weights) -> jax.Array:
    """Interpolates along both axes.

    Args:
      logits: [B,h,w,C].
      rows: how, along h: a matrix [H,h], or neighbours.
      columns: how, along w.

    Returns:
      [B,H,W,C] in float32 or wider.
    """
    logits = logits.astype(jnp.promote_types(jnp.float32, logits.dtype))
    return _along(2, columns, _along(1, rows, logits))


def _along(axis: int, weights: Weights, logits: jax.Array) -> jax.Array:
    """Interpolates [B,h,w,C] along an axis, 1 or 2."""
    if not isinstance(weights, Neighbours):
        letters = ("Hh,bhwc->bHwc", "Ww,bHwc->bHWc")[axis - 1]
        matrix = jnp.asarray(weights, logits.dtype)
        return jnp.einsum(letters, matrix, logits, precision=jax.lax.Precision.HIGHEST)
    shape = [1] * logits.ndim
    shape[axis] = -1
    second = jnp.asarray(weights.fraction, logits.dtype).reshape(shape)
    low, high = (jnp.take(logits, jnp.asarray(of), axis=axis) for of in (weights.low, weights.high))
    return low * (1 - second) + high * second


def interpolation(n_in: int, n_out: int) -> Weights:
    """How to interpolate linearly along an axis, as `upsample`.

    Args:
      n_in: number of values.
      n_out: number of values of the result.

    Returns:
      A matrix [n_out, n_in] whose rows sum to 1; neighbours where it would have more than MOST_WEIGHTS numbers.
    """
    if export.is_symbolic_dim(n_in) or export.is_symbolic_dim(n_out):
        return _interpolation_of_any_size(n_in, n_out)
    position = np.maximum((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0.0)
    low = np.floor(position).astype(int)
    fraction = position - low
    if n_in * n_out > MOST_WEIGHTS:
        return Neighbours(low.astype(np.int32), np.minimum(low + 1, n_in - 1).astype(np.int32), fraction)
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), low] = 1.0 - fraction
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += fraction
    return matrix


def _interpolation_of_any_size(n_in: int, n_out: int) -> jax.Array:
    """The matrix in float32, where the sizes are known only when the program runs.

    Positions are whole numbers of the unit 1 / (2 n_out): exact while 2 n_in n_out is below 2**31.
    """
    unit = jnp.asarray(2 * n_out)
    position = (2 * jnp.arange(n_out) + 1) * n_in - n_out
    position = jnp.minimum(jnp.maximum(position, 0), unit * (n_in - 1))
    away = jnp.abs(position[:, None] - unit * jnp.arange(n_in)[None, :])
    return jnp.maximum(1.0 - away.astype(jnp.float32) / unit.astype(jnp.float32), 0.0)
