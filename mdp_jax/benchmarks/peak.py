"""The peak of the device that JAX runs on, measured: of matrix products and of its memory.

A step cannot be faster than its operations and its bytes at these rates (planning/costs.py).
"""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mdp_jax.planning.hardware import Peak

_TRIES = 10  # the fastest one counts, as whatever else the machine does only slows it down
_SIDE = {"cpu": 1024, "accelerator": 8192}  # of the matrices: large enough for the peak
_LEAST, _MOST = 2**24, 2**30  # bytes of the array that is copied


def _fastest(call: Callable[[], jax.Array]) -> float:
    """Seconds of the fastest of a few calls, after one that compiles.

    On a CPU, those that the call would take if this process had all cores to itself, by its processor time.
    """
    jax.block_until_ready(call())
    taken = []
    for _ in range(_TRIES):
        began, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
        if jax.default_backend() == "cpu":
            taken.append((time.process_time() - used) / _cores())
    return min(seconds for seconds in taken if seconds > 0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    moved = 2 * numbers.nbytes
    in_place = jax.jit(lambda x: x + 1, donate_argnums=0)  # new memory at each call would be most of the time

    def passed() -> jax.Array:
        nonlocal numbers
        numbers = in_place(numbers)
        return numbers

    return moved / _fastest(passed)


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
