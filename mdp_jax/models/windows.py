"""Cuts a map of features into square windows, and puts it together again."""

import jax


def into_windows(x: jax.Array, side: int) -> jax.Array:
    """Cuts a map into windows.

    Args:
      x: [B,h,w,C]; h and w are multiples of `side` (they may be symbolic, for jax.export).
      side: rows and columns of a window.

    Returns:
      [B,h w / side**2,side**2,C].
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, side**2, channels)


def from_windows(x: jax.Array, side: int, size: tuple[int, int]) -> jax.Array:
    """The inverse of `into_windows`.

    Args:
      x: [B,h w / side**2,side**2,C].
      side: rows and columns of a window.
      size: (h, w).

    Returns:
      [B,h,w,C].
    """
    rows, columns = (length // side for length in size)
    x = x.reshape(x.shape[0], rows, columns, side, side, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], *size, x.shape[-1])
