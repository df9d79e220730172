"""What the objectives share: values by hand."""

import jax.numpy as jnp
import numpy as np

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.objectives.objective import loss_of_each_dataset, pixels_of_loss

SPACE = LabelSpace((("first", ("a", "b")), ("second", ("c",)), ("third", ("d",))))


def test_loss_of_each_dataset_is_over_pixels_with_one_label_in_either_place():
    labels = [[[0, -1], [-1, 1], [2, -1], [0, 2], [-1, -1], [1, -1]]]
    loss, weight = jnp.array([[1.0, 2.0, 4.0, 8.0, 16.0, 0.0]]), jnp.array([[1.0, 0.5, 1.0, 1.0, 1.0, 0.0]])
    found = loss_of_each_dataset(loss, weight, jnp.array(labels), SPACE).value()
    np.testing.assert_allclose(found, [(1 + 2) / 1.5, 4.0, np.nan])


def test_pixels_of_the_loss_of_a_photo_that_is_wider_than_high():
    """Features of stride 4, linear in both directions, and labels of each second pixel, from pixel 1 on."""
    row, column = np.mgrid[:2, :3]
    vectors = np.stack([row, 10 * column], axis=-1)[None].astype(np.float32)
    labels = np.arange(8 * 12).reshape(1, 8, 12, 1) * np.array([1, 2])
    found, own = pixels_of_loss(jnp.asarray(vectors), jnp.asarray(labels), stride=4, label_stride=2)
    np.testing.assert_array_equal(own, labels[:, 1::2, 1::2].reshape(1, 24, 2))
    # Pixel 2 i + 1 lies at (2 i + 1) / 4 - 1/2 of the features, and beyond the outer ones their values are repeated.
    y, x = np.clip((2 * np.arange(4) + 1) / 4 - 0.5, 0, 1), np.clip((2 * np.arange(6) + 1) / 4 - 0.5, 0, 2)
    expected = np.stack(np.broadcast_arrays(y[:, None], 10 * x[None, :]), axis=-1).reshape(1, 24, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
