"""Weights of pixels in a loss, by hand."""

import jax.numpy as jnp
import numpy as np

from mdp_jax.method import weights


def test_each_class_of_each_image_weighs_one():
    labels = jnp.array([[[0, -1], [0, -1], [1, -1], [-1, -1]], [[0, 2], [2, 0], [2, -1], [0, -1]]])
    shares = jnp.array([[[1.0, 0.0]], [[0.75, 0.25]]])
    found = np.asarray(weights.image_class_weights(labels, shares, 3))
    # Image 1: class 0 has 0.75 + 0.25 + 0.75, class 2 has 0.25 + 0.75 + 0.75.
    expected = [
        [[0.5, 0], [0.5, 0], [1, 0], [0, 0]],
        [[0.75 / 1.75, 0.25 / 1.75], [0.75 / 1.75, 0.25 / 1.75], [0.75 / 1.75, 0], [0.75 / 1.75, 0]],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pixels_alike_is_what_was_there():
    shares = jnp.ones((1, 1, 2))
    assert weights.pixel_weights(jnp.zeros((1, 4, 2), int), shares, 3, "pixel") is shares
