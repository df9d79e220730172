"""Checksums: a naive loop, every single flipped bit, and any layout of the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdp_jax.training import sharding
from mdp_jax.training.checksums import checksums, own_checksums


def scattered(i):
    """The weight of element i: splitmix64's finaliser in Python's whole numbers, made odd."""
    x = i * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return (x ^ (x >> 31)) | 1


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float16, np.uint8])
def test_against_a_naive_loop(dtype):
    values = np.arange(1, 7).astype(dtype).reshape(2, 3)
    bits = values.ravel().view({4: np.uint32, 2: np.uint16, 1: np.uint8}[values.itemsize]).tolist()
    expected = sum(bit * scattered(i) for i, bit in enumerate(bits)) % 2**64
    assert checksums({"a": {"b": values}}) == {"a/b": f"{expected:016x}"}


def test_every_flipped_bit_is_found():
    values = np.linspace(-1, 1, 5, dtype=np.float32)
    before = checksums({"x": values})
    for element in range(5):
        for bit in range(32):
            flipped = values.copy()
            flipped.view(np.uint32)[element] ^= np.uint32(1) << np.uint32(bit)
            assert checksums({"x": flipped}) != before, (element, bit)


def test_the_layout_does_not_matter():
    values = np.random.default_rng(0).normal(size=(1, 1, 8, 16)).astype(np.float32)
    expected = checksums({"x": values, "scalar": np.int32(7)})
    mesh = sharding.make_mesh(8, fsdp=4)
    for spec in (
        PartitionSpec(),
        PartitionSpec(None, None, "data", "fsdp"),
        PartitionSpec(None, None, ("data", "fsdp")),
    ):
        placed = jax.device_put(values, NamedSharding(mesh, spec))
        assert checksums({"x": placed, "scalar": jnp.int32(7)}) == expected
    assert own_checksums({"x": jnp.asarray(values), "scalar": jnp.int32(7)}) == expected
