"""A network on overlapping windows of a photo, like MMSegmentation's slide mode; pure jnp (METHOD.md section 6)."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.models.network import upsample


def starts(length: int, crop: int, stride: int) -> np.ndarray:
    """Computes where windows begin along one axis.

    There is a window every `stride` pixels, until one reaches the end; that one is shifted back inside.

    Args:
      length: of the photo, in pixels.
      crop: length of a window.
      stride: pixels from one window to the next, 1 to `crop`.

    Returns:
      int32 [n], ascending; only 0 where the photo is not longer than a window.
    """
    last = max(length - crop, 0)
    return np.minimum(np.arange(-(-last // stride) + 1, dtype=np.int32) * stride, last)


def slide(
    logits_of: Callable[[jax.Array], jax.Array], images: jax.Array, crop: tuple[int, int], stride: tuple[int, int]
) -> jax.Array:
    """Computes the logits of photos, averaged where windows overlap.

    The logits of a window are resized to its size in pixels before they are averaged. Windows run one after another, so
    that memory holds the logits of one window besides those of the photos, and one copy of the network is compiled.

    Args:
      logits_of: [B,h,w,3] to [B,h',w',C], for any h and w; pure.
      images: [B,H,W,3].
      crop: height and width of a window in pixels; where a photo is smaller, its own side.
      stride: pixels from one window to the next, 1 to those of `crop`.

    Returns:
      [B,H,W,C], float32 or wider; where one window is all of the photo, `logits_of(images)` as it is.
    """
    _, height, width, _ = images.shape
    size = (height, width)
    window = (min(crop[0], size[0]), min(crop[1], size[1]))
    if window == size:
        return logits_of(images)
    rows, columns = (starts(size[axis], window[axis], stride[axis]) for axis in (0, 1))

    @jax.jit  # so that its shape and the loop need one tracing
    def of_window(start: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice(images, (0, start[0], start[1], 0), (len(images), *window, 3))
        return upsample(logits_of(part), window)

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        logits = of_window(start)
        corner = (0, start[0], start[1], 0)
        there = jax.lax.dynamic_slice(total, corner, logits.shape)
        return jax.lax.dynamic_update_slice(total, there + logits, corner), None

    corners = jnp.asarray(np.array(list(itertools.product(rows, columns)), np.int32))
    logits = jax.eval_shape(of_window, corners[0])
    total = jnp.zeros((len(images), *size, logits.shape[-1]), logits.dtype)
    total, _ = jax.lax.scan(add, total, corners)
    return total / jnp.asarray(_windows_over(size, window, rows, columns), logits.dtype)


def _windows_over(size: tuple[int, int], window: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The number of windows that each pixel is in, int [1,H,W,1]."""
    along = []
    for axis, begin in enumerate((rows, columns)):
        pixels = np.arange(size[axis])
        along.append(((begin[:, None] <= pixels) & (pixels < begin[:, None] + window[axis])).sum(axis=0))
    return np.outer(*along)[None, :, :, None]
