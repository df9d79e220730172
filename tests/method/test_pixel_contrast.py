"""Pixel-to-pixel contrast: worked out by hand, a naive loop, the budget, and finite gradients without pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method import pixel_contrast as contrast
from mdp_jax.method.pixel_contrast import take_pixels

pixel_contrast = jax.jit(contrast.pixel_contrast, static_argnums=4)
sample_pixels = jax.jit(contrast.sample_pixels, static_argnums=2)


def naive(queries, query_labels, keys, key_labels, temperature):
    """The loss of the docstring, pixel by pixel."""
    total, count = 0.0, 0
    for b, i in np.ndindex(query_labels.shape):
        if query_labels[b, i] < 0:
            continue
        valid = [j for j, label in enumerate(key_labels[b]) if label >= 0]
        positives = [j for j in valid if key_labels[b, j] == query_labels[b, i]]
        if not positives:
            continue
        scores = {j: np.exp(queries[b, i] @ keys[b, j] / temperature) for j in valid}
        total -= np.mean([np.log(scores[p] / sum(scores.values())) for p in positives])
        count += 1
    return total / count


def test_by_hand():
    # A pixel at (1, 0) of class 0; keys at (1, 0) and (0, 1) of class 0, at (-1, 0) of class 1; tau = 1.
    keys = jnp.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]])
    key_labels = jnp.array([[0, 0, 1, -1]])  # the last key, an ignored pixel, is not in the sum
    loss, pixels = pixel_contrast(jnp.array([[[1.0, 0.0]]]), jnp.array([[0]]), keys, key_labels, 1.0)
    np.testing.assert_allclose(loss, np.log(np.e + 1 + 1 / np.e) - (1 + 0) / 2, rtol=1e-6)
    assert (pixels.weight.tolist(), pixels.hit.tolist()) == ([[1.0]], [[1.0]])


def test_without_a_positive_a_pixel_adds_nothing():
    keys, key_labels = jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[0, 1]])
    queries = jnp.array([[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    loss, pixels = pixel_contrast(queries, jnp.array([[0, 2, -1]]), keys, key_labels, 0.5)
    np.testing.assert_allclose(loss, np.log(1 + np.exp(2)) - 0, rtol=1e-6)
    assert (pixels.weight.tolist(), pixels.hit.tolist()) == ([[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]])


def test_against_a_naive_loop():
    rng = np.random.default_rng(0)
    queries, keys = (rng.normal(size=(3, n, 4)).astype(np.float32) for n in (6, 5))
    queries, keys = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (queries, keys))
    query_labels, key_labels = rng.integers(-1, 3, (3, 6)), rng.integers(-1, 3, (3, 5))
    loss, pixels = pixel_contrast(*map(jnp.asarray, (queries, query_labels, keys, key_labels)), 0.1)
    np.testing.assert_allclose(loss, naive(queries, query_labels, keys, key_labels, 0.1), rtol=1e-5)
    # Other images make no difference.
    alone = naive(queries[:1], query_labels[:1], keys[:1], key_labels[:1], 0.1)
    np.testing.assert_allclose(pixels.loss[0].sum() / pixels.weight[0].sum(), alone, rtol=1e-5)


def test_keys_get_no_gradient():
    queries, keys = jnp.array([[[1.0, 0.0]]]), jnp.array([[[0.6, 0.8], [0.0, 1.0]]])

    def loss(queries, keys):
        return pixel_contrast(queries, jnp.array([[0]]), keys, jnp.array([[0, 1]]), 1.0)[0]

    of_queries, of_keys = jax.jit(jax.grad(loss, argnums=(0, 1)))(queries, keys)
    assert of_queries.any() and not of_keys.any()


@pytest.mark.parametrize(("query_label", "key_label"), [(-1, -1), (-1, 0), (0, -1), (0, 1)])
def test_no_valid_pixel(query_label, key_label):
    queries, keys = jnp.ones((2, 3, 4)), jnp.ones((2, 5, 4))

    def loss(queries):
        labels = jnp.full((2, 3), query_label), jnp.full((2, 5), key_label)
        return pixel_contrast(queries, labels[0], keys, labels[1], 0.1)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(queries)
    assert float(value) == 0.0 and not gradient.any()


def test_budget():
    labels = jnp.array([[0, -1, 1, 2, -1, 1, 0, 2], [-1, -1, -1, 5, -1, -1, -1, -1]])
    places, dropped = sample_pixels(jax.random.key(0), labels, 4)
    taken = take_pixels(labels, places)
    assert (taken[0] >= 0).all() and len(set(places[0].tolist())) == 4
    assert taken[1].tolist() == [5, -1, -1, -1]
    np.testing.assert_allclose(dropped, 2 / 7)  # 2 of the first image's 6, none of the second's
    draws = {tuple(sorted(sample_pixels(jax.random.key(i), labels, 4)[0][0].tolist())) for i in range(30)}
    assert len(draws) > 5
    assert {place for draw in draws for place in draw} == {0, 2, 3, 5, 6, 7}
    everything, dropped = sample_pixels(jax.random.key(0), labels, 100)
    assert everything.shape == (2, 8) and float(dropped) == 0.0


def test_take_pixels():
    x = jnp.arange(12).reshape(1, 4, 3)
    assert take_pixels(x, jnp.array([[2, 0]])).tolist() == [[[6, 7, 8], [0, 1, 2]]]
