"""Checksums: a naive loop, every single flipped bit, and any layout of the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdp_jax.storage.checksums import checksums, own_checksums
from mdp_jax.training import sharding


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float16, np.uint8])
def test_against_a_naive_loop(dtype):
    values = np.arange(1, 7).astype(dtype).reshape(2, 3)
    bits = values.ravel().view({4: np.uint32, 2: np.uint16, 1: np.uint8}[values.itemsize]).tolist()
    expected = sum(bit * (2 * i + 1) for i, bit in enumerate(bits)) % 2**64
    assert checksums({"a": {"b": values}}) == {"a/b": f"{expected:016x}"}


def test_every_flipped_bit_is_found():
    values = np.linspace(-1, 1, 5, dtype=np.float32)
    before = checksums({"x": values})
    for element in range(5):
        for bit in range(32):
            flipped = values.copy()
            flipped.view(np.uint32)[element] ^= np.uint32(1) << np.uint32(bit)
            assert checksums({"x": flipped}) != before, (element, bit)


def test_exchanged_values_are_found():
    values = np.linspace(-1, 1, 300, dtype=np.float32)
    before = checksums({"x": values})
    for one, other in ((0, 1), (7, 263), (298, 299)):
        exchanged = values.copy()
        exchanged[[one, other]] = values[[other, one]]
        assert checksums({"x": exchanged}) != before, (one, other)


def test_sums_go_around_like_those_of_64_bits(monkeypatch):
    """Of large values, in chunks that do not divide their number."""
    monkeypatch.setattr("mdp_jax.storage.checksums._CHUNK", 4)
    values = np.array([2**64 - 1, 2**63 + 5, 3, 2**64 - 7, 11, 2**62] * 3, np.uint64).view(np.float64)
    expected = sum(int(bits) * (2 * i + 1) for i, bits in enumerate(values.view(np.uint64))) % 2**64
    assert own_checksums({"x": values}) == {"x": f"{expected:016x}"}


@pytest.mark.parametrize("chunk", [1, 3, 20, 1000])
def test_the_layout_does_not_matter(monkeypatch, chunk):
    monkeypatch.setattr("mdp_jax.storage.checksums._CHUNK", chunk)
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
