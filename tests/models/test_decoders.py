import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from mdp_jax.models.decoders.deeplabv3 import MODULES
from mdp_jax.models.layers import Dtypes
from tests.models import seeded

FLOAT32 = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))


def shapes(module, size):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(size), train=False))


def variables_of(decoder, x):
    return seeded.variables(jax.eval_shape(lambda: decoder.init(jax.random.key(0), {8: x}, train=False)))


def test_torchvision_layout_equals_torchvisions_own_head(torch_outputs):
    expected = torch_outputs("torchvision_decoder")
    x = seeded.image("features", (3, 30, 29, 12)).astype(np.float32)
    decoder = MODULES["torchvision"](256, (12, 24, 36), 0.0, 8, FLOAT32)
    variables = variables_of(decoder, x)
    evaluated = seeded.quick_jit(lambda v, x: decoder.apply(v, {8: x}, train=False))(variables, x)
    trained, _ = seeded.quick_jit(lambda v, x: decoder.apply(v, {8: x}, train=True, mutable="batch_stats"))(
        variables, x
    )
    np.testing.assert_allclose(evaluated[:, ::7, ::7, ::16], expected["eval"], atol=1e-5)
    np.testing.assert_allclose(trained[:, ::7, ::7, ::16], expected["train"], atol=2e-5)


@pytest.mark.parametrize("layout, classifier_dropout", [("mmseg", 0.5), ("torchvision", 0.0)])
def test_where_the_dropout_is(layout, classifier_dropout):
    decoder = MODULES[layout](4, (1,), 0.5, 8, FLOAT32)
    assert decoder.classifier_dropout == classifier_dropout
    x = seeded.image("dropout", (2, 3, 3, 4)).astype(np.float32)
    variables = variables_of(decoder, x)

    @seeded.quick_jit
    def apply(seed):
        return decoder.apply(
            variables, {8: x}, train=True, mutable="batch_stats", rngs={"dropout": jax.random.key(seed)}
        )[0]

    if layout == "mmseg":
        np.testing.assert_array_equal(apply(0), apply(1))
    else:
        assert np.abs(apply(0) - apply(1)).max() > 0.01
        with pytest.raises(InvalidRngError):
            decoder.apply(variables, {8: x}, train=True, mutable="batch_stats")


def test_torchvision_segmenter_has_the_published_number_of_parameters():
    """42,004,074 are published for deeplabv3_resnet50; 2,365,205 of them are its auxiliary head's."""
    from mdp_jax import configs as base
    from mdp_jax.models.network import segmenter

    config = base.finetune().model
    config.decoder.layout, config.decoder.channels = "torchvision", 256
    tree = shapes(segmenter(config, 21), (1, 32, 32, 3))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 42_004_074 - 2_365_205
