"""Depthwise convolution: XLA's own form on accelerators, a sum of shifted products on a CPU.

On a CPU XLA's form takes 30 to 50 times as long as the sum (docs/performance.md). Which form a program gets is settled
when it is lowered, by the platform that it is lowered for: that may be another one than is here. A traced program holds
both.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """Convolves each channel with a filter of its own, with stride 1 and zeros around, so that the size stays.

    Sums are in float32, or in float64, and rounded once. The gradient is defined for reverse mode, once.

    Args:
      x: [B,H,W,C]; H and W may be symbolic.
      kernel: [k,k,1,C] of the same dtype; k is odd.
      dilation: of the kernel.

    Returns:
      [B,H,W,C] of the same dtype.
    """
    return _forward(x, kernel, dilation)[0]


def _forward(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted, dilation=dilation),
        default=functools.partial(_whole, dilation=dilation),
    )
    return y, (x, kernel)


def _backward(dilation: int, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.lax.platform_dependent(
        *kept,
        g,
        cpu=functools.partial(_shifted_gradients, dilation=dilation),
        default=functools.partial(_whole_gradients, dilation=dilation),
    )


convolution.defvjp(_forward, _backward)


def on_accelerators(equation: core.JaxprEqn) -> core.ClosedJaxpr | None:
    """What runs on accelerators of an operation that is a choice by platform (jax.lax.platform_dependent).

    Whoever reads a traced program, to count its operations or to write them in another form, reads this in place of the
    whole choice.

    Args:
      equation: of a traced program.

    Returns:
      The program that is chosen, whose inputs are those of the equation after the first one; None where the equation is
      no such choice, or one that says nothing of other platforms than those that it names.
    """
    platforms: Any = equation.params.get("branches_platforms", ())
    return equation.params["branches"][platforms.index(None)] if None in platforms else None


def _whole(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """XLA's own form."""
    zeros = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((zeros, zeros),) * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _whole_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, dilation: int) -> tuple[jax.Array, jax.Array]:
    (of_x,) = jax.linear_transpose(lambda x: _whole(x, kernel, dilation), x)(g)
    (of_kernel,) = jax.linear_transpose(lambda kernel: _whole(x, kernel, dilation), kernel)(g)
    return of_x, of_kernel


def _reach(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[int, int]:
    """How many of the kernel's positions, to each side of its middle, meet the image at all: in rows and columns."""
    half = kernel.shape[0] // 2
    rows, columns = (half if export.is_symbolic_dim(n) else min(half, (n - 1) // dilation) for n in x.shape[1:3])
    return rows, columns


def _with_zeros(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """So many rows and columns of zeros on each side, in the dtype of sums."""
    wide = jnp.promote_types(jnp.float32, x.dtype)
    return jax.lax.pad(x.astype(wide), wide.type(0), ((0, 0, 0), (rows, rows, 0), (columns, columns, 0), (0, 0, 0)))


def _shifted(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """For each position of the kernel the image, moved by it, times the filters' values there."""
    (height, width), half = x.shape[1:3], kernel.shape[0] // 2
    rows, columns = _reach(x, kernel, dilation)
    padded = _with_zeros(x, rows * dilation, columns * dilation)
    meeting = kernel[half - rows : half + rows + 1, half - columns : half + columns + 1].astype(padded.dtype)
    products = (
        padded[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width]
        * meeting[i : i + 1, j : j + 1]
        for i, j in np.ndindex(meeting.shape[:2])
    )
    return functools.reduce(jnp.add, products).astype(x.dtype)


def _shifted_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, dilation: int) -> tuple[jax.Array, jax.Array]:
    """That of the image is a convolution with the kernel turned round; that of the kernel sums windows of the image.

    A loop over the positions of the image adds the window around each, times the gradient there. It is a sum for each
    sample, and samples are added up at the end: so devices that share a batch exchange nothing inside the loop.
    """
    batch, height, width, channels = x.shape
    half, (rows, columns) = kernel.shape[0] // 2, _reach(x, kernel, dilation)
    padded = _with_zeros(x, rows * dilation, columns * dilation)
    wide = g.astype(padded.dtype)
    window = (batch, 2 * rows * dilation + 1, 2 * columns * dilation + 1, channels)

    def add(position: jax.Array, total: jax.Array) -> jax.Array:
        at = (0, position // width, position % width, 0)
        around = jax.lax.dynamic_slice(padded, at, window)[:, ::dilation, ::dilation]
        return total + around * jax.lax.dynamic_slice(wide, at, (batch, 1, 1, channels))

    zeros = jnp.zeros((batch, 2 * rows + 1, 2 * columns + 1, channels), padded.dtype)
    of_samples = jax.lax.fori_loop(0, height * width, add, zeros)
    outside = ((0, 0), (half - rows,) * 2, (half - columns,) * 2, (0, 0))
    of_kernel = jnp.pad(of_samples, outside).sum(0)[:, :, None].astype(kernel.dtype)
    return _shifted(g, kernel[::-1, ::-1], dilation), of_kernel
