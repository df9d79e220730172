"""Checksums of arrays that do not depend on how they are laid out over devices and processes."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from mdp_jax import distributed
from mdp_jax.storage.leaves import leaf_names

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_CHUNK = 2**20  # elements, more or less, that are copied at one time by each thread
_THREADS = 4


def _linear_index(shape: tuple[int, ...], index: tuple[slice, ...]) -> np.ndarray:
    """The positions, in the whole array of `shape`, of the elements of its part `index`, flattened."""
    position: np.ndarray = np.zeros((), np.uint64)
    for size, part in zip(shape, index, strict=True):
        start, stop, _ = part.indices(size)
        position = position[..., None] * np.uint64(size) + np.arange(start, stop, dtype=np.uint64)
    return position.reshape(-1)


def _sum_of(part: np.ndarray, shape: tuple[int, ...], index: tuple[slice, ...]) -> int:
    """Sum of bits x (2 x position + 1) over a part of an array, modulo 2^64.

    A weight is odd, so one flipped bit always changes the sum; and no two are the same, so exchanged values of up to 32
    bits do.
    """
    if not shape:
        part, shape, index = part.reshape(1), (1,), (slice(None),)
    first, total = index[0].indices(shape[0])[0], 0
    rows = max(1, _CHUNK // max(1, part[:1].size))
    for start in range(0, len(part), rows):
        chunk = np.ascontiguousarray(part[start : start + rows])
        here = slice(first + start, first + start + len(chunk))
        weights = 2 * _linear_index(shape, (here, *index[1:])) + np.uint64(1)
        bits = chunk.reshape(-1).view(_UNSIGNED[chunk.dtype.itemsize])
        total += int(np.dot(bits.astype(np.uint64), weights))
    return total % 2**64


def _own_sum(leaf: Any) -> int:
    """What this process holds of a leaf; of copies the first one counts."""
    if not isinstance(leaf, jax.Array):
        leaf = np.asarray(leaf)
        return _sum_of(leaf, leaf.shape, (slice(None),) * leaf.ndim)
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    return sum(_sum_of(np.asarray(shard.data), leaf.shape, shard.index) for shard in shards) % 2**64


def _own_sums(leaves: Iterable) -> list[int]:
    """Of each leaf, in threads: NumPy leaves Python to the others, and a checkpoint waits for this."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_own_sum, leaves))


def _digits(value: int) -> str:
    return f"{value:016x}"


def own_checksums(tree: Any) -> dict[str, str]:
    """`checksums` of arrays that are whole in this process; not a collective.

    Args:
      tree: a pytree of arrays.
    """
    leaves = leaf_names(tree)
    return {name: _digits(value) for name, value in zip(leaves, _own_sums(leaves.values()), strict=True)}


def checksums(tree: Any) -> dict[str, str]:
    """Computes a checksum of each array; it does not depend on the number of devices and processes.

    A collective where there are several processes: each must call it.

    Args:
      tree: a pytree of arrays.

    Returns:
      {path of a leaf: 16 hexadecimal digits}.
    """
    leaves = leaf_names(tree)
    sums = np.array(_own_sums(leaves.values()), np.uint64)
    # Sums of 64 bits wrap around, in the same way whether they are taken for signed or not.
    totals = distributed.total(sums.view(np.int64)).view(np.uint64)
    return {name: _digits(int(value)) for name, value in zip(leaves, totals, strict=True)}
