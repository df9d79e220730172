"""Labels by the nearest prototype: worked out by hand, a naive loop, and how they are spread over pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.method import pseudo_labels as labelling
from mdp_jax.method.prototypes import Bank, empty_bank
from mdp_jax.method.pseudo_labels import spread

pseudo_labels = jax.jit(labelling.pseudo_labels, static_argnames=("temperature", "chunk"))

# Three prototypes in the plane, the last one never seen.
PLANE = Bank(jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), jnp.array([1, 4, 0]))


def test_threshold_by_hand():
    # Softmax of (1, 0) and of (0.6, 0.8) over the seen prototypes at tau = 0.5.
    embeddings = jnp.array([[[1.0, 0.0], [0.6, 0.8]]])
    shares = [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-0.4))]  # 0.88 and 0.60
    for threshold, expected in ((0.0, [0, 1]), (shares[1] + 0.01, [0, -1]), (shares[0] + 0.01, [-1, -1])):
        assert pseudo_labels(embeddings, PLANE, temperature=0.5, threshold=threshold, chunk=2).tolist() == [expected]


def test_no_class_was_seen():
    embeddings = jnp.ones((1, 3, 2))
    assert pseudo_labels(embeddings, empty_bank(4, 2), temperature=0.1, threshold=0.0, chunk=8).tolist() == [
        [-1, -1, -1]
    ]


def test_against_a_naive_loop():
    rng = np.random.default_rng(0)
    vectors, embeddings = (rng.normal(size=size).astype(np.float32) for size in ((6, 3), (2, 7, 3)))
    vectors, embeddings = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (vectors, embeddings))
    seen = np.array([1, 0, 2, 1, 0, 3])
    found = pseudo_labels(
        jnp.asarray(embeddings), Bank(jnp.asarray(vectors), jnp.asarray(seen)), temperature=0.2, threshold=0.6, chunk=3
    )
    expected = np.full((2, 7), -1)
    for b, n in np.ndindex(2, 7):
        scores = {c: np.exp(embeddings[b, n] @ vectors[c] / 0.2) for c in np.flatnonzero(seen)}
        nearest = max(scores, key=scores.get)
        if scores[nearest] / sum(scores.values()) >= 0.6:
            expected[b, n] = nearest
    assert (expected >= 0).any() and (expected < 0).any()
    np.testing.assert_array_equal(found, expected)


def test_spread():
    labels = jnp.array([[[1, -1], [2, 3]]])
    pixels = spread(labels, 2)
    assert pixels.tolist() == [[[1, 1, -1, -1], [1, 1, -1, -1], [2, 2, 3, 3], [2, 2, 3, 3]]]
    assert pixels[:, ::2, ::2].tolist() == labels.tolist()


def test_a_share_as_large_as_the_threshold_is_enough():
    """Of a single seen class the softmax is 1."""
    bank = Bank(PLANE.vectors, jnp.array([0, 2, 0]))
    assert pseudo_labels(jnp.array([[[1.0, 0.0]]]), bank, temperature=0.5, threshold=1.0, chunk=1).tolist() == [[1]]


def test_frequencies_of_labelled_sets_say_nothing_of_unlabelled_ones():
    """METHOD.md section 4: the first class is a thousand times as frequent."""
    bank = Bank(PLANE.vectors, PLANE.images_seen, jnp.array([1000.0, 1.0, 0.0]))
    assert pseudo_labels(jnp.array([[[0.6, 0.8]]]), bank, temperature=0.5, threshold=0.5, chunk=1).tolist() == [[1]]
