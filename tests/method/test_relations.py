"""Related classes in the loss, and prototypes with a start (METHOD.md section 9)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method.losses import LossOptions, prototype_loss
from mdp_jax.method.prototypes import Bank, empty_bank, normalise, update_bank

# Three prototypes in the plane. A pixel at (1, 0) has the similarities 1, 0 and -1.
PLANE = Bank(jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), jnp.array([1, 1, 1]))
NEAR = np.zeros((3, 3), bool)
NEAR[0, 2] = NEAR[2, 0] = True  # classes 0 and 2 have near names
CASES = [("pull", "no_negatives"), ("no_push", "no_negatives"), ("off", "no_negatives"), ("pull", "positives")]


def at(labels, options, bank=PLANE):
    """The loss of a pixel at (1, 0) with two labels of weight 1/2."""
    return float(_at(jnp.array([[labels]]), bank, options))


@partial(jax.jit, static_argnums=2)
def _at(labels, bank, options):
    pixel, weights = jnp.array([[[1.0, 0.0]]]), jnp.array([[[0.5, 0.5]]])
    return prototype_loss(pixel, labels, weights, bank, options, 1, jnp.asarray(NEAR))[0]


def test_by_hand():
    whole, without = np.log(np.exp(1) + 1 + np.exp(-1)), np.log(np.exp(1) + 1)
    # Class 2 is no negative of class 0. The sparse coding takes what is left, class 1 of similarity 0.
    assert at([0, -1], LossOptions(1.0, "off", 1, 0.1, 1.0)) == pytest.approx(without - 1, rel=1e-6)
    assert at([0, -1], LossOptions(1.0, "pull", 5, 0.1, 1.0)) == pytest.approx(without - 1 + 0.1 * without, rel=1e-6)
    # Without classes 1 and 2 the own class is alone.
    assert at([0, -1], LossOptions(1.0, "no_push", 5, 0.1, 1.0)) == pytest.approx(0, abs=1e-6)
    # As a positive, class 2 alone is what the pixel is coded by, though class 1 is nearer.
    positives = LossOptions(1.0, "pull", 1, 0.1, 1.0, "positives")
    assert at([0, -1], positives) == pytest.approx(whole - 1 + 0.1 * (whole + 1), rel=1e-6)
    # Class 1 has no relations, so it is coded by the nearest class, 0.
    assert at([1, -1], positives) == pytest.approx(whole + 0.1 * (whole - 1), rel=1e-6)
    # A pixel of both classes has them as its own: class 1 is left.
    mixed = 0.5 * (whole - 1) + 0.5 * (whole + 1)
    assert at([0, 2], positives) == pytest.approx(mixed + 0.1 * whole, rel=1e-6)
    # A related class that was never seen changes nothing.
    unseen = Bank(PLANE.vectors, jnp.array([1, 1, 0]))
    assert at([0, -1], positives, bank=unseen) == pytest.approx(1.1 * without - 1, rel=1e-6)


def naive(v, at_weights, labels, weights, vectors, seen, related, options):
    """METHOD.md sections 4 and 9 pixel by pixel; w_k are those at the embeddings `at_weights`."""
    total = weight_sum = 0.0
    for b, n in np.ndindex(v.shape[:2]):
        s, fixed = vectors @ v[b, n], vectors @ at_weights[b, n]
        own = [y for y in labels[b, n] if y >= 0]
        near = [c for c in seen if c not in own and any(related[y, c] for y in own)]
        others = [c for c in seen if c not in own]
        out = []
        if options.related_as == "no_negatives":
            out, others = near, [c for c in others if c not in near]
        code = sorted(others, key=lambda c: -fixed[c])[: options.sparse_classes]
        if options.related_as == "positives" and near:
            code = near
        if options.sparse_coding == "no_push":
            out = out + code
        log_total = np.log(sum(np.exp(s[c] / options.temperature) for c in seen if c not in out))
        weight = 0.0
        for m, y in enumerate(labels[b, n]):
            if y in seen:
                total += weights[b, 0, m] * (log_total - s[y] / options.temperature)
                weight += weights[b, 0, m]
        if options.sparse_coding == "pull" and code:
            w = np.exp(fixed[code] / options.sparse_temperature)
            coded = w / w.sum() @ (log_total - s[code] / options.temperature)
            total += options.sparse_weight * weight * coded
        weight_sum += weight
    return total / weight_sum


@pytest.mark.parametrize(("sparse_coding", "related_as"), CASES)
def test_value_and_gradient_against_a_naive_loop(sparse_coding, related_as):
    rng = np.random.default_rng(3)
    v = np.asarray(normalise(jnp.asarray(rng.normal(size=(2, 3, 4)))), np.float64)
    vectors = rng.normal(size=(8, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seen = [0, 1, 2, 3, 4, 6, 7]
    labels = np.array([[[0, -1], [5, 2], [1, 3]], [[7, 4], [-1, -1], [6, -1]]])
    weights = np.array([[[0.4, 0.6]], [[1.0, 0.25]]])
    related = np.zeros((8, 8), bool)
    for one, other in ((0, 4), (0, 6), (1, 5), (3, 7), (2, 6), (1, 3)):
        related[one, other] = related[other, one] = True
    options = LossOptions(0.5, sparse_coding, 2, 0.3, 0.7, related_as)
    bank = Bank(jnp.asarray(vectors, jnp.float32), jnp.isin(jnp.arange(8), jnp.array(seen)).astype(jnp.int32))

    def ours(v):
        arrays = (jnp.asarray(labels), jnp.asarray(weights, jnp.float32), bank, options, 2, jnp.asarray(related))
        return prototype_loss(v, *arrays)[0]

    value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(v, jnp.float32))
    arguments = (v, labels, weights, vectors, seen, related, options)
    assert float(value) == pytest.approx(naive(v, *arguments), rel=1e-5)
    steps = 1e-5 * np.eye(v.size).reshape(-1, *v.shape)
    slopes = [(naive(v + step, *arguments) - naive(v - step, *arguments)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, np.reshape(slopes, v.shape), atol=1e-5)


@pytest.mark.parametrize(("sparse_coding", "related_as"), CASES[1:])
def test_empty_masks_give_finite_gradients(sparse_coding, related_as):
    """All other classes related, or a bank without a class, or pixels without a label."""
    options = LossOptions(0.1, sparse_coding, 5, 0.1, 0.1, related_as)
    related = jnp.asarray(~np.eye(3, dtype=bool))

    @jax.jit
    def loss_of(v, labels, images_seen):
        bank = Bank(PLANE.vectors, images_seen)
        return prototype_loss(v, labels, jnp.array([[[1.0, 0.0]]]), bank, options, 2, related)[0]

    v, one, none = normalise(jnp.ones((1, 2, 2))), jnp.array([[[0, -1], [1, -1]]]), jnp.full((1, 2, 2), -1)
    seen, unseen = jnp.ones(3, jnp.int32), jnp.zeros(3, jnp.int32)
    for labels, images_seen in ((one, seen), (one, unseen), (none, seen), (one, jnp.array([1, 0, 0]))):
        value, gradient = jax.value_and_grad(loss_of)(v, labels, images_seen)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        if images_seen is unseen or labels is none or related_as == "no_negatives":
            assert float(value) == pytest.approx(0, abs=1e-6)  # nothing is left to be told apart


def test_a_prototype_moves_from_its_start():
    starts = jnp.array([[0.6, 0.8], [1.0, 0.0]])
    bank = empty_bank(2, 2, starts=starts)
    assert not bank.seen.any()
    pixels, labels = jnp.array([[[1.0, 0.0], [1.0, 0.0]]]), jnp.array([[0, -1]])
    moved = update_bank(bank, pixels, labels, 0.5, started=True)
    half = np.array([0.8, 0.4]) / np.sqrt(0.8)  # 1/2 (0.6, 0.8) + 1/2 (1, 0)
    np.testing.assert_allclose(moved.vectors, [half, [1.0, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(moved.images_seen, [1, 0])
    np.testing.assert_allclose(update_bank(bank, pixels, labels, 0.5).vectors[0], [1.0, 0.0], rtol=1e-6)
    no_start = update_bank(empty_bank(2, 2), pixels, labels, 0.5, started=True)
    np.testing.assert_allclose(no_start.vectors, [[1.0, 0.0], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(("sparse_coding", "related_as"), CASES)
def test_the_accuracy_is_over_all_seen_classes(sparse_coding, related_as):
    """The nearest class is related to the pixel's own one, and coded by: it leaves the denominator, and is wrong still.

    The similarities are 1, 0 and 0.6, and the label is the last class.
    """
    bank = Bank(jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), jnp.array([1, 1, 1]))
    options = LossOptions(1.0, sparse_coding, 1, 0.1, 1.0, related_as)
    arrays = (jnp.array([[[1.0, 0.0]]]), jnp.array([[[2, -1]]]), jnp.array([[[1.0, 0.0]]]))
    for related in (None, jnp.asarray(NEAR)):
        _, pixels = jax.jit(partial(prototype_loss, options=options, chunk=1, related=related))(*arrays, bank)
        assert (pixels.hit.tolist(), pixels.weight.tolist()) == ([[0.0]], [[1.0]])
