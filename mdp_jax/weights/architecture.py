"""The network that a state dict belongs to, told by its names and shapes."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mdp_jax.errors import UserError
from mdp_jax.models.deeplab import LAYOUTS
from mdp_jax.models.heads import Classifier
from mdp_jax.models.layers import Dtypes
from mdp_jax.models.network import Segmenter
from mdp_jax.models.resnet import DEPTHS, Bottleneck, ResNet
from mdp_jax.weights.layouts import RESNET, Found, rename, shapes

_FLOAT32 = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))


def depth_of(found: Found) -> str:
    """The key of DEPTHS that has the blocks of a state dict.

    Raises:
      UserError: none has.
    """
    block = "bottlenecks" if "backbone.layer1.0.conv3.weight" in found.keys else "basic blocks"
    counts = tuple(
        len({key.split(".")[2] for key in found.keys if key.startswith(f"backbone.layer{i}.")}) for i in range(1, 5)
    )
    for name, (kind, blocks) in DEPTHS.items():
        if blocks == counts and (kind is Bottleneck) == (block == "bottlenecks"):
            return name
    raise UserError(
        f"{found.where}: layers of {', '.join(map(str, counts))} {block}; expected those of {', '.join(DEPTHS)}"
    )


def expected_shapes(found: Found) -> dict[str, tuple[int, ...]]:
    """Our key -> shape of all leaves of the network that a state dict seems to be of, in the parts that it has.

    Raises:
      UserError: a ResNet of other blocks, or without one of the leaves that tell the sizes.
    """
    backbone = ResNet(depth_of(found), _channels(found, "backbone.conv1.weight"), 8, _FLOAT32)
    parts = found.parts()
    if found.layout == RESNET:
        return _named(backbone, "backbone")
    channels = _channels(found, "decoder.image_pool.conv.weight")
    branches = {key.split(".")[1] for key in found.keys if key.startswith("decoder.aspp_")}
    rates = (1,) * (len(branches) - 1)  # the shapes do not depend on their values
    decoder = LAYOUTS[found.layout](channels, rates, 0.0, _FLOAT32)
    classes = _channels(found, "classifier.conv.weight") if "classifier" in parts else 1
    segmenter = _named(Segmenter(backbone, decoder, Classifier(classes, 0.0, _FLOAT32)))
    return {key: shape for key, shape in segmenter.items() if key.split(".")[0] in parts}


def _channels(found: Found, key: str) -> int:
    """Output channels of a convolution; 1 where its shape is no convolution's, which the check of shapes then says."""
    if key not in found.keys:
        raise UserError(f"{found.where}: another architecture: {rename(key, found.modules)} is missing")
    shape = found.state[found.keys[key]].shape
    return max(shape[0], 1) if shape else 1


def _named(module, *outer: str) -> dict[str, tuple[int, ...]]:
    variables: Mapping = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    trees = (variables["params"], variables["batch_stats"])
    return {".".join([*outer, key]): shape for tree in trees for key, shape in shapes(tree).items()}
