"""Multi-head cross entropy: worked out by hand, a naive loop, and finite gradients without labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method.baselines import multi_head_cross_entropy

DATASET_OF = np.array([0, 0, 0, 1, 1], np.int32)


def naive(logits, labels, weights):
    """Sum of weight x cross entropy within the label's own dataset, over the sum of weights; a loop over everything."""
    total, norm = 0.0, 0.0
    for b, n, m in np.ndindex(labels.shape):
        label = labels[b, n, m]
        if label < 0:
            continue
        head = logits[b, n, DATASET_OF[label] == DATASET_OF]
        total += weights[b, n, m] * (np.log(np.sum(np.exp(head))) - logits[b, n, label])
        norm += weights[b, n, m]
    return total / norm


def test_by_hand():
    # Three equal logits in the first head: log 3. In the second head e^0 against e^log 3: -log(3 / 4).
    logits = jnp.array([[[5.0, 5.0, 5.0, 0.0, np.log(3.0)], [5.0, 5.0, 5.0, 0.0, np.log(3.0)]]])
    labels = jnp.array([[[1, -1], [4, -1]]])
    loss, pixels = multi_head_cross_entropy(logits, labels, jnp.array([[[1.0, 0.0]]]), DATASET_OF)
    np.testing.assert_allclose(loss, (np.log(3) + np.log(4 / 3)) / 2, rtol=1e-6)
    np.testing.assert_allclose(pixels.loss, [[np.log(3), np.log(4 / 3)]], rtol=1e-6)
    assert pixels.weight.tolist() == [[1.0, 1.0]]


def test_against_a_naive_loop():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 6, 5)).astype(np.float32)
    labels = rng.integers(-1, 5, (2, 6, 2))
    lam = rng.random((2, 1, 1))
    weights = np.broadcast_to(np.concatenate([lam, 1 - lam], -1), labels.shape)
    loss, pixels = multi_head_cross_entropy(*map(jnp.asarray, (logits, labels, weights)), DATASET_OF)
    np.testing.assert_allclose(loss, naive(logits, labels, weights), rtol=1e-5)
    best = [logits[..., :3].argmax(-1), logits[..., 3:].argmax(-1) + 3]
    right = [(labels[..., m] == best[0]) | (labels[..., m] == best[1]) for m in range(2)]
    np.testing.assert_allclose(pixels.hit, sum(r * weights[..., m] for m, r in enumerate(right)), rtol=1e-6)


def test_other_datasets_get_no_gradient():
    def loss(logits):
        return multi_head_cross_entropy(logits, jnp.array([[[3, -1]]]), jnp.array([[[1.0, 0.0]]]), DATASET_OF)[0]

    gradient = jax.grad(loss)(jnp.ones((1, 1, 5)))
    np.testing.assert_allclose(gradient, [[[0.0, 0.0, 0.0, -0.5, 0.5]]], atol=1e-7)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_only_ignored_pixels(value):
    def loss(logits):
        return multi_head_cross_entropy(logits, jnp.full((1, 2, 2), -1), jnp.array([[[1.0, 0.0]]]), DATASET_OF)[0]

    result, gradient = jax.value_and_grad(loss)(jnp.full((1, 2, 5), value))
    assert float(result) == 0.0
    assert not gradient.any()
