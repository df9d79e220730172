"""Maximum pooling of a stem: XLA's own form on accelerators, nine shifted slices on a CPU.

On a CPU XLA's form with its gradient takes five to six times as long (docs/performance.md). Which form a program gets
is settled when it is lowered, as in depthwise.py.
"""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import export

_WINDOW, _STRIDE, _AROUND = 3, 2, (1, 1)  # pixels, along each axis; _AROUND before and behind


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Takes the maximum of windows of 3 x 3 pixels with stride 2, as PyTorch's MaxPool2d(3, stride=2, padding=1).

    The gradient goes to the first of equal values, row by row, and is defined for reverse mode, once.

    Args:
      x: [B,H,W,C]; H and W may be symbolic.

    Returns:
      [B,ceil(H/2),ceil(W/2),C] of the same dtype.
    """
    if any(export.is_symbolic_dim(side) for side in x.shape[1:3]):
        return _whole(x)
    return jax.lax.platform_dependent(x, cpu=_of_slices, default=_whole)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return max_pool(x), x


def _backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.platform_dependent(x, g, cpu=_gradient_of_slices, default=_whole_gradient),)


max_pool.defvjp(_forward, _backward)


def _whole(x: jax.Array) -> jax.Array:
    """XLA's own form."""
    return nn.max_pool(x, (_WINDOW,) * 2, strides=(_STRIDE,) * 2, padding=(_AROUND,) * 2)


def _whole_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    # What JAX makes of the gradient of `_whole`; jax.vjp would take the maximum once more.
    return jax.lax.select_and_scatter_add_p.bind(
        g,
        x,
        select_prim=jax.lax.ge_p,
        window_dimensions=(1, _WINDOW, _WINDOW, 1),
        window_strides=(1, _STRIDE, _STRIDE, 1),
        padding=((0, 0), _AROUND, _AROUND, (0, 0)),
    )


def _slices(x: jax.Array) -> list[jax.Array]:
    """Of each place in a window, row by row, the values of all windows."""
    batch, height, width, channels = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    around = ((0, 0, 0), (1, 2 * rows - height, 0), (1, 2 * columns - width, 0), (0, 0, 0))
    padded = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), around)
    return [
        jax.lax.slice(padded, (0, i, j, 0), (batch, i + 2 * rows - 1, j + 2 * columns - 1, channels), (1, 2, 2, 1))
        for i, j in itertools.product(range(_WINDOW), repeat=2)
    ]


def _of_slices(x: jax.Array) -> jax.Array:
    return functools.reduce(jnp.maximum, _slices(x))


def _gradient_of_slices(x: jax.Array, g: jax.Array) -> jax.Array:
    """Each pixel adds up the gradients of the windows whose maximum it is: it is in one, two or four of them."""
    first, *others = _slices(x)
    largest, place = first, jnp.zeros(first.shape, jnp.int8)
    for number, values in enumerate(others, 1):
        place = jnp.where(values > largest, jnp.int8(number), place)
        largest = jnp.maximum(largest, values)

    def of(i: int, j: int) -> jax.Array:
        """The gradients of the windows whose maximum is at place (i, j), in the order of the pixels there.

        Window k has the rows 2k - 1, 2k and 2k + 1. So of the odd rows the first one is in no window at place 0.
        """
        rows, columns = int(i == 0), int(j == 0)
        found = jnp.where(place == _WINDOW * i + j, g, 0)[:, rows:, columns:]
        return jax.lax.pad(found, g.dtype.type(0), ((0, 0, 0), (0, rows, 0), (0, columns, 0), (0, 0, 0)))

    even = jnp.stack([of(1, 1), of(1, 2) + of(1, 0)], axis=3)
    odd = jnp.stack([of(2, 1) + of(0, 1), of(2, 2) + of(2, 0) + of(0, 2) + of(0, 0)], axis=3)
    batch, rows, columns, channels = g.shape
    lines = [line.reshape(batch, rows, 2 * columns, channels) for line in (even, odd)]
    return jnp.stack(lines, axis=2).reshape(batch, 2 * rows, 2 * columns, channels)[:, : x.shape[1], : x.shape[2]]
