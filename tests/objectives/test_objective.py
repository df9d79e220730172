"""What the objectives share: values by hand."""

import jax.numpy as jnp
import numpy as np

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.objectives.objective import loss_of_each_dataset

SPACE = LabelSpace((("first", ("a", "b")), ("second", ("c",)), ("third", ("d",))))


def test_loss_of_each_dataset_is_over_pixels_with_one_label_in_either_place():
    labels = [[[0, -1], [-1, 1], [2, -1], [0, 2], [-1, -1], [1, -1]]]
    loss, weight = jnp.array([[1.0, 2.0, 4.0, 8.0, 16.0, 0.0]]), jnp.array([[1.0, 0.5, 1.0, 1.0, 1.0, 0.0]])
    found = loss_of_each_dataset(loss, weight, jnp.array(labels), SPACE).value()
    np.testing.assert_allclose(found, [(1 + 2) / 1.5, 4.0, np.nan])
