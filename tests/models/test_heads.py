import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.models.heads import Classifier, Projection
from mdp_jax.models.layers import Dtypes

BFLOAT16 = Dtypes(jnp.dtype("bfloat16"), jnp.dtype("float32"))


def test_classifier_drops_whole_channels():
    """With an identity kernel the logits show the mask: 0 or 1 / (1 - 0.5), the same at every pixel of an image."""
    classifier = Classifier(64, 0.5, BFLOAT16)
    variables = {"params": {"conv": {"kernel": jnp.eye(64)[None, None], "bias": jnp.zeros(64)}}}
    x = jnp.ones((2, 3, 3, 64), jnp.bfloat16)
    y = jax.jit(lambda: classifier.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)}))()
    assert y.dtype == jnp.float32
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    assert (y[0] != y[1]).any()
    np.testing.assert_array_equal(classifier.apply(variables, x, train=False), jnp.ones((2, 3, 3, 64)))


def test_initial_classifier():
    params = Classifier(100, 0.1, BFLOAT16).init(jax.random.key(0), jnp.zeros((1, 1, 1, 200)), train=False)["params"]
    np.testing.assert_allclose(np.std(params["conv"]["kernel"]), 0.01, rtol=0.03)
    np.testing.assert_array_equal(params["conv"]["bias"], np.zeros(100))


def test_projection_has_a_bias_where_nothing_undoes_it():
    x = jnp.ones((2, 2, 2, 3), jnp.bfloat16)
    projection = Projection(5, 4, BFLOAT16)
    y, variables = jax.eval_shape(lambda: projection.init_with_output(jax.random.key(0), x, train=False))
    assert jax.tree.map(lambda leaf: leaf.shape, variables["params"]) == {
        "conv1": {"kernel": (1, 1, 3, 5)},
        "bn1": {"scale": (5,), "bias": (5,)},
        "conv2": {"kernel": (1, 1, 5, 4), "bias": (4,)},
    }
    assert (y.shape, y.dtype) == ((2, 2, 2, 4), jnp.float32)


@pytest.mark.parametrize(
    ("layers", "final_norm", "left"), [(1, False, {"conv2"}), (1, True, {"conv2", "bn2"}), (0, False, set())]
)
def test_a_projection_of_fewer_layers(layers, final_norm, left):
    x = jnp.ones((2, 2, 2, 4), jnp.bfloat16)
    projection = Projection(5, 4, BFLOAT16, final_norm, layers)
    y, variables = projection.init_with_output(jax.random.key(0), x, train=False)
    assert set(variables.get("params", {})) == left and (y.shape, y.dtype) == ((2, 2, 2, 4), jnp.float32)
    if not left:
        np.testing.assert_array_equal(y, x.astype(jnp.float32))
