"""Which classes code a pixel, and how much each: values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mdp_jax.method.sparse_coding import code_weights, nearest_classes

SIMILARITY = jnp.array([0.9, 0.1, 0.5, 0.7])


def chosen(allowed, k):
    return nearest_classes(SIMILARITY, jnp.array(allowed, bool), k).astype(int).tolist()


def test_nearest_among_the_allowed():
    assert chosen([1, 1, 1, 1], 2) == [1, 0, 0, 1]
    assert chosen([0, 1, 1, 1], 2) == [0, 0, 1, 1]


def test_fewer_than_k():
    assert chosen([0, 1, 0, 1], 3) == [0, 1, 0, 1]
    assert chosen([0, 0, 0, 0], 3) == [0, 0, 0, 0]
    assert chosen([1, 1, 1, 1], 9) == [1, 1, 1, 1]


def test_equal_similarities_give_k_classes():
    assert int(nearest_classes(jnp.zeros(6), jnp.ones(6, bool), 4).sum()) == 4


@pytest.mark.parametrize(("classes", "k"), [(9, 4), (64, 1), (201, 3)])  # the last two by groups, one of them padded
def test_a_loop_that_takes_the_first_of_the_largest(classes, k):
    rng = np.random.default_rng(0)
    similarity = rng.integers(-2, 3, (40, classes)).astype(np.float32)  # five values: many are equal
    allowed = rng.random((40, classes)) < np.linspace(0, 0.7, 40)[:, None]  # none at first, then few
    expected = np.zeros((40, classes), bool)
    for row in range(40):
        order = sorted(np.flatnonzero(allowed[row]), key=lambda c: -similarity[row, c])  # stable
        expected[row, order[:k]] = True
    np.testing.assert_array_equal(nearest_classes(jnp.asarray(similarity), jnp.asarray(allowed), k), expected)


def test_pixels_stay_on_their_devices():
    split = NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))
    similarity = jax.ShapeDtypeStruct((16, 320), jnp.float32, sharding=split)
    allowed = jax.ShapeDtypeStruct((16, 320), bool, sharding=split)
    compiled = jax.jit(nearest_classes, static_argnums=2).lower(similarity, allowed, 5).compile()
    assert "gather(" in compiled.as_text()  # the groups
    assert not any(f"{kind}(" in compiled.as_text() for kind in ("all-gather", "all-reduce", "all-to-all"))


def test_weights_by_hand():
    # Over classes 0 and 3 at temperature 0.2: exp(4.5) / (exp(4.5) + exp(3.5)) = 1 / (1 + 1 / e).
    weights = code_weights(SIMILARITY, jnp.array([True, False, False, True]), 0.2)
    np.testing.assert_allclose(weights, [1 / (1 + np.exp(-1)), 0, 0, 1 / (1 + np.exp(1))], rtol=1e-6)


def test_no_class_no_weight():
    assert code_weights(SIMILARITY, jnp.zeros(4, bool), 0.2).tolist() == [0, 0, 0, 0]
