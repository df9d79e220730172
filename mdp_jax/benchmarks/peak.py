"""The peak of the device that JAX runs on, measured: of matrix products and of its memory.

A step cannot be faster than its operations and its bytes at these rates (planning/costs.py).
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdp_jax.planning.hardware import Peak

_TRIES = 5  # the fastest one counts, as whatever else the machine does only slows it down
_SIDE = {"cpu": 2048, "accelerator": 8192}  # of the matrices: large enough for the peak
_LEAST, _MOST = 2**24, 2**30  # bytes of the array that is copied


def _fastest(call: Callable[[], jax.Array]) -> float:
    """Seconds of the fastest of a few calls, after one that compiles."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
    return min(taken)


def matrix_flops(dtype: str) -> float:
    """Measures FLOP/s of a product of large matrices on the first device.

    Args:
      dtype: of the matrices.
    """
    side = _SIDE["cpu" if jax.default_backend() == "cpu" else "accelerator"]
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / _fastest(lambda: product(matrix))


def bandwidth(size: int) -> float:
    """Measures bytes/s, read and written together, of a pass over an array on the first device.

    Args:
      size: bytes that a program works on: as many are passed over, within reason. What fits into a cache is faster.
    """
    numbers = jnp.ones(min(max(size, _LEAST), _MOST) // 8, jnp.float32)  # they are read, and as many written
    passed = jax.jit(lambda x: x + 1)
    return 2 * numbers.nbytes / _fastest(lambda: passed(numbers))


def measured(dtype: str, size: int) -> Peak:
    """Measures the peak for one program on one device.

    Args:
      dtype: that it computes in. On a CPU float32 may be faster than bfloat16; the faster one is the bound.
      size: bytes that it works on.
    """
    flops = max(matrix_flops(name) for name in {dtype, "float32"})
    memory = jax.local_devices()[0].memory_stats() or {}
    name = jax.devices()[0].device_kind
    return Peak(name, flops, flops, memory.get("bytes_limit", 0.0), bandwidth(size), float("inf"))
