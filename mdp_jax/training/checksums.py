"""Checksums of arrays that do not depend on how they are laid out over devices and processes."""

import jax
import numpy as np

from mdp_jax import distributed
from mdp_jax.training.sharding import leaf_names

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_CHUNK = 2**22  # elements whose weights exist at one time


def _weights(index: np.ndarray) -> np.ndarray:
    """An odd number of 64 bits for each linear index: the finaliser of splitmix64, which scatters its input."""
    x = index * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


def _linear_index(shape: tuple[int, ...], index: tuple[slice, ...]) -> np.ndarray:
    """The positions, in the whole array of `shape`, of the elements of its part `index`, flattened."""
    position = np.zeros((), np.uint64)
    for size, part in zip(shape, index, strict=True):
        start, stop, _ = part.indices(size)
        position = position[..., None] * np.uint64(size) + np.arange(start, stop, dtype=np.uint64)
    return position.reshape(-1)


def _sum_of(part: np.ndarray, shape: tuple[int, ...], index: tuple[slice, ...]) -> int:
    """Sum of bits x weight over a part of an array, modulo 2^64.

    A weight is odd, so one flipped bit always changes the sum.
    """
    bits = np.ascontiguousarray(part).reshape(-1).view(_UNSIGNED[part.dtype.itemsize])
    positions = _linear_index(shape, index)
    total = 0
    for start in range(0, bits.size, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        total += int(np.sum(bits[chunk].astype(np.uint64) * _weights(positions[chunk]), dtype=np.uint64))
    return total % 2**64


def _own_sum(leaf) -> int:
    """What this process holds of a leaf; of copies the first one counts."""
    if not isinstance(leaf, jax.Array):
        leaf = np.asarray(leaf)
        return _sum_of(leaf, leaf.shape, (slice(None),) * leaf.ndim)
    shards = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    return sum(_sum_of(np.asarray(shard.data), leaf.shape, shard.index) for shard in shards) % 2**64


def _digits(value: int) -> str:
    return f"{value:016x}"


def own_checksums(tree) -> dict[str, str]:
    """As `checksums`, of what this process holds alone: for arrays that are whole in it."""
    return {name: _digits(_own_sum(leaf)) for name, leaf in leaf_names(tree).items()}


def checksums(tree) -> dict[str, str]:
    """{path of each leaf: 16 hexadecimal digits}; the same for the same values on any number of devices, processes.

    A collective where there are several processes: each must call it.
    """
    leaves = leaf_names(tree)
    sums = np.array([_own_sum(leaf) for leaf in leaves.values()], np.uint64)
    # Sums of 64 bits wrap around, in the same way whether they are taken for signed or not.
    totals = distributed.total(sums.view(np.int64)).view(np.uint64)
    return {name: _digits(int(value)) for name, value in zip(leaves, totals, strict=True)}
