"""The loss: values worked out by hand, a naive loop over pixels, gradients of a plain form, and the edge cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.method.losses import SPARSE_CODING, LossOptions, cpu_chunk, label_weights, prototype_loss
from mdp_jax.method.prototypes import Bank, normalise

# Three prototypes in the plane. A pixel at (1, 0) has the similarities 1, 0 and -1.
PLANE = Bank(jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), jnp.array([1, 1, 1]))


def options(sparse_coding="off", k=5, alpha=0.1, temperature=1.0, sparse_temperature=1.0):
    return LossOptions(temperature, sparse_coding, k, alpha, sparse_temperature)


def loss_at(labels, weights, opts, bank=PLANE, pixel=(1.0, 0.0)):
    """The loss of a batch of one pixel with two labels."""
    loss, _ = prototype_loss(jnp.array([[pixel]]), jnp.array([[labels]]), jnp.array([[weights]]), bank, opts, 1)
    return float(loss)


LOG_TOTAL = np.log(np.exp(1) + np.exp(0) + np.exp(-1))


def test_pixel_to_prototype_by_hand():
    assert loss_at([0, -1], [1.0, 0.0], options()) == pytest.approx(LOG_TOTAL - 1, rel=1e-6)
    assert loss_at([2, -1], [1.0, 0.0], options()) == pytest.approx(LOG_TOTAL + 1, rel=1e-6)


def test_temperature_by_hand():
    expected = np.log(np.exp(10) + 1 + np.exp(-10)) - 10
    assert loss_at([0, -1], [1.0, 0.0], options(temperature=0.1)) == pytest.approx(expected, abs=1e-6)


def test_two_labels_by_hand():
    expected = 0.7 * (LOG_TOTAL - 1) + 0.3 * (LOG_TOTAL - 0)
    assert loss_at([0, 1], [0.7, 0.3], options()) == pytest.approx(expected, rel=1e-6)


def test_an_ignored_label_of_two_leaves_the_other():
    # The mean is over weights: 0.3 (log total - 0) / 0.3.
    assert loss_at([-1, 1], [0.7, 0.3], options()) == pytest.approx(LOG_TOTAL, rel=1e-6)


def test_unseen_class_is_no_negative_and_no_target():
    bank = Bank(PLANE.vectors, jnp.array([1, 0, 1]))
    expected = np.log(np.exp(1) + np.exp(-1)) - 1
    assert loss_at([0, -1], [1.0, 0.0], options(), bank) == pytest.approx(expected, rel=1e-6)
    assert loss_at([1, -1], [1.0, 0.0], options(), bank) == 0.0


def test_pull_by_hand():
    # Own class 0; with K = 1 the nearest other class is 1, with weight 1: L_csc = log total - 0.
    expected = LOG_TOTAL - 1 + 0.1 * LOG_TOTAL
    assert loss_at([0, -1], [1.0, 0.0], options("pull", k=1)) == pytest.approx(expected, rel=1e-6)
    # K = 5 takes both others, with weights softmax(0, -1).
    w = 1 / (1 + np.exp(-1))
    expected = LOG_TOTAL - 1 + 0.1 * (w * LOG_TOTAL + (1 - w) * (LOG_TOTAL + 1))
    assert loss_at([0, -1], [1.0, 0.0], options("pull", k=5)) == pytest.approx(expected, rel=1e-6)


def test_pull_excludes_both_classes_of_a_mixed_pixel():
    # Own classes 0 and 1: only class 2 is left, L_csc = log total + 1, with the pixel's total weight 1.
    expected = 0.7 * (LOG_TOTAL - 1) + 0.3 * LOG_TOTAL + 0.1 * (LOG_TOTAL + 1)
    assert loss_at([0, 1], [0.7, 0.3], options("pull")) == pytest.approx(expected, rel=1e-6)


def test_no_push_by_hand():
    # The nearest other class, 1, leaves the denominator.
    expected = np.log(np.exp(1) + np.exp(-1)) - 1
    assert loss_at([0, -1], [1.0, 0.0], options("no_push", k=1)) == pytest.approx(expected, rel=1e-6)
    # With K >= what there is, the own class alone is left.
    assert loss_at([0, -1], [1.0, 0.0], options("no_push", k=5)) == pytest.approx(0.0, abs=1e-6)
    # Pixel-mixed: class 2 leaves, both own classes stay.
    rest = np.log(np.exp(1) + np.exp(0))
    expected = 0.7 * (rest - 1) + 0.3 * rest
    assert loss_at([0, 1], [0.7, 0.3], options("no_push")) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", SPARSE_CODING)
def test_one_class_alone(kind):
    # No other class: the sparse term is 0 and the loss log 1 = 0.
    bank = Bank(PLANE.vectors, jnp.array([1, 0, 0]))
    assert loss_at([0, -1], [1.0, 0.0], options(kind), bank) == 0.0


@pytest.mark.parametrize("kind", SPARSE_CODING)
@pytest.mark.parametrize("case", ["ignored", "unseen"])
def test_no_valid_pixel_gives_zero_and_finite_gradients(kind, case):
    labels = jnp.full((2, 3, 2), -1) if case == "ignored" else jnp.zeros((2, 3, 2), jnp.int32)
    seen = jnp.ones(3, jnp.int32) if case == "ignored" else jnp.zeros(3, jnp.int32)
    weights = jnp.array([[[1.0, 0.0]]])

    def loss_of(v):
        return prototype_loss(v, labels, weights, Bank(PLANE.vectors, seen), options(kind), 2)[0]

    loss, gradient = jax.value_and_grad(loss_of)(normalise(jnp.ones((2, 3, 2))))
    assert float(loss) == 0.0
    assert np.array_equal(gradient, np.zeros((2, 3, 2)))


def test_label_weights():
    labels = jnp.array([[0, 1], [-1, 2]])
    weights = label_weights(labels, jnp.array([[0.6, 0.4], [0.6, 0.4]]), jnp.array([True, False, True]))
    np.testing.assert_allclose(weights, [[0.6, 0.0], [0.0, 0.4]], rtol=1e-6)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    v = normalise(jnp.asarray(rng.normal(size=(2, 4, 8)), jnp.float32))
    bank = Bank(normalise(jnp.asarray(rng.normal(size=(9, 8)), jnp.float32)), jnp.array([2, 1, 0, 1, 5, 1, 1, 0, 1]))
    labels = rng.integers(-1, 9, size=(2, 4, 2))
    labels[0, :, 1] = -1
    weights = np.array([[[1.0, 0.0]], [[0.4, 0.6]]], np.float32)
    return v, labels, weights, bank


def plain_loss(v, order, labels, weights, bank, opts):
    """METHOD.md section 4 pixel by pixel, differentiable; `order` holds each pixel's classes, the nearest first."""
    total, weight_sum = 0.0, 0.0
    seen = np.flatnonzero(np.asarray(bank.images_seen) > 0)
    similarity = jnp.einsum("bnd,cd->bnc", v, bank.vectors)
    for b in range(v.shape[0]):
        for n in range(v.shape[1]):
            s = similarity[b, n]
            own = {int(y) for y in labels[b, n] if y >= 0}
            near = [c for c in order[b, n] if c in seen and c not in own][: opts.sparse_classes]
            rest = [c for c in seen if not (opts.sparse_coding == "no_push" and c in near)]
            log_total = jax.nn.logsumexp(s[jnp.array(rest, int)] / opts.temperature)
            pixel_weight = 0.0
            for m in range(2):
                y = int(labels[b, n, m])
                if y in seen and weights[b, 0, m] > 0:
                    total += weights[b, 0, m] * (log_total - s[y] / opts.temperature)
                    pixel_weight += weights[b, 0, m]
            if opts.sparse_coding == "pull" and near:
                near = jnp.array(near)
                code = jax.nn.softmax(jax.lax.stop_gradient(s[near]) / opts.sparse_temperature)
                coded = jnp.sum(code * (log_total - s[near] / opts.temperature))
                total += opts.sparse_weight * pixel_weight * coded
            weight_sum += pixel_weight
    return total / weight_sum


@pytest.mark.parametrize("kind", SPARSE_CODING)
@pytest.mark.parametrize("k", [2, 20])
def test_value_and_gradient_against_a_naive_loop(example, kind, k):
    v, labels, weights, bank = example
    opts = options(kind, k=k, alpha=0.3, temperature=0.2, sparse_temperature=0.5)
    order = np.argsort(-np.einsum("bnd,cd->bnc", v, bank.vectors), axis=-1)
    expected, expected_gradient = jax.value_and_grad(plain_loss)(v, order, labels, weights, bank, opts)

    def loss_of(v):
        return prototype_loss(v, jnp.asarray(labels), jnp.asarray(weights), bank, opts, 2)

    (loss, pixels), gradient = jax.value_and_grad(loss_of, has_aux=True)(v)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-6)
    alpha = opts.sparse_weight if kind == "pull" else 0.0
    parts = jnp.sum(pixels.prototype) + alpha * jnp.sum(pixels.sparse)
    assert float(parts / jnp.sum(pixels.weight)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("chunk", "on_cpu"), [(1, None), (3, None), (100, None), (100, 3)])
def test_chunks_change_nothing(example, chunk, on_cpu):
    v, labels, weights, bank = example
    opts = options("pull", k=3, temperature=0.1, sparse_temperature=0.1)
    arrays = (jnp.asarray(labels), jnp.asarray(weights), bank, opts)
    value, gradient = jax.value_and_grad(lambda v: prototype_loss(v, *arrays, chunk, on_cpu=on_cpu)[0])(v)
    whole, whole_gradient = jax.value_and_grad(lambda v: prototype_loss(v, *arrays, 4)[0])(v)
    assert float(value) == pytest.approx(float(whole), rel=1e-6)
    np.testing.assert_allclose(gradient, whole_gradient, atol=1e-6)


def test_a_cpu_has_fewer_logits_at_one_time():
    """4 images of 64 pixels and 1,024 classes: 32 pixels of each make 131,072 logits; other platforms have all."""

    def scanned(platform):
        arrays = (jnp.zeros((4, 64, 2)), jnp.zeros((4, 64, 2), int), jnp.ones((4, 1, 2)))
        bank, loss = Bank(jnp.zeros((1024, 2)), jnp.ones(1024, jnp.int32)), functools.partial(prototype_loss, chunk=64)
        call = jax.jit(lambda *x: loss(*x, options=options("pull"), on_cpu=cpu_chunk(4, 1024)))
        return call.trace(*arrays, bank).lower(lowering_platforms=(platform,)).as_text()

    assert "4x32x1024xf32" in scanned("cpu") and "4x64x1024xf32" not in scanned("cpu")
    assert "4x64x1024xf32" in scanned("tpu") and "4x32x1024xf32" not in scanned("tpu")
    assert cpu_chunk(1000, 1000) == 1


def test_hit_counts_the_nearest_prototype():
    v = jnp.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    labels = jnp.array([[[0, -1], [0, 1], [0, -1]]])
    _, pixels = prototype_loss(v, labels, jnp.array([[[0.75, 0.25]]]), PLANE, options(), 2)
    np.testing.assert_allclose(pixels.hit, [[0.75, 0.25, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(pixels.weight, [[0.75, 1.0, 0.75]], rtol=1e-6)


def test_no_gradient_reaches_the_bank(example):
    v, labels, weights, bank = example
    opts = options("pull")

    def loss_of(vectors):
        bank_now = Bank(vectors, bank.images_seen)
        return prototype_loss(v, jnp.asarray(labels), jnp.asarray(weights), bank_now, opts, 4)[0]

    assert not np.any(jax.grad(loss_of)(bank.vectors))


@pytest.mark.parametrize("sparse_coding", SPARSE_CODING)
def test_class_frequencies_by_hand(sparse_coding):
    """Shares 1/2, 1/4, 1/4 in the softmax; sparse coding chooses by similarity alone; the gradient is JAX's."""
    shares = np.array([0.5, 0.25, 0.25])
    bank = Bank(PLANE.vectors, PLANE.images_seen, jnp.array([200.0, 100.0, 100.0]))
    logits = np.array([1.0, 0.0, -1.0]) + np.log(shares)
    log_softmax = logits - np.log(np.exp(logits).sum())
    code = 0.1 * log_softmax[1] if sparse_coding == "pull" else 0.0  # K = 1: class 1
    if sparse_coding == "no_push":
        log_softmax = logits - np.log(np.exp(logits[[0, 2]]).sum())
    opts = options(sparse_coding, k=1)
    assert loss_at([0, -1], [1.0, 0.0], opts, bank) == pytest.approx(-log_softmax[0] - code, rel=1e-6)

    def plain(v):
        logits = v @ PLANE.vectors.T + jnp.log(shares)
        total = jax.nn.logsumexp(logits[jnp.array([0, 2])] if sparse_coding == "no_push" else logits)
        return total - logits[0] + (0.1 * (total - logits[1]) if sparse_coding == "pull" else 0.0)

    def ours(v):
        return prototype_loss(v[None, None], jnp.array([[[0, -1]]]), jnp.ones((1, 1, 2)), bank, opts, 1)[0]

    v = jnp.array([1.0, 0.0])
    np.testing.assert_allclose(jax.grad(ours)(v), jax.grad(plain)(v), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sparse_coding", SPARSE_CODING)
def test_negatives_of_the_own_set_are_the_loss_on_the_bank_of_that_set(sparse_coding):
    """Sets of 3 and 4 classes: pixels as if the other set were not there; mixed ones as if all classes were one set."""
    rng = np.random.default_rng(3)
    vectors = normalise(jnp.asarray(rng.standard_normal((7, 6), dtype=np.float32)))
    seen = jnp.array([1, 1, 1, 1, 0, 1, 1])
    sets, opts = jnp.array([0, 0, 0, 1, 1, 1, 1]), options(sparse_coding, k=2)
    v = normalise(jnp.asarray(rng.standard_normal((1, 5, 6), dtype=np.float32)))
    weights = jnp.asarray([[[1.0, 0.0]] * 5])

    def found(v, labels, vectors, seen, weights, sets=None):
        def loss(v):
            return prototype_loss(v, jnp.asarray(labels), weights, Bank(vectors, seen), opts, 2, sets=sets)[0]

        return jax.value_and_grad(loss)(v)

    for ids, first, last in (([0, 2, 1, 0, -1], 0, 3), ([3, 6, 4, 5, -1], 3, 7)):  # class 4 was never seen
        labels = np.array([[[i, -1] for i in ids]])
        alone = np.where(labels >= 0, labels - first, -1)
        expected = found(v, alone, vectors[first:last], seen[first:last], weights)
        for one, other in zip(found(v, labels, vectors, seen, weights, sets), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
    mixed, shares = np.array([[[0, 5]] * 5]), jnp.asarray([[[0.3, 0.7]] * 5])
    expected = found(v, mixed, vectors, seen, shares)
    for one, other in zip(found(v, mixed, vectors, seen, shares, sets), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_frequencies_change_nothing():
    bank = Bank(PLANE.vectors, PLANE.images_seen, jnp.full(3, 7.0))
    assert loss_at([2, -1], [1.0, 0.0], options(), bank) == pytest.approx(LOG_TOTAL + 1, rel=1e-6)
