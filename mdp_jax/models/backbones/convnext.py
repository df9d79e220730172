"""ConvNeXt (arXiv 2201.03545) at output stride 8, 16 or 32.

Parameters are named as in timm ("stages"/"0"/"blocks"/"0"/"conv_dw"), so that a path joined by dots is timm's key of a
module.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models.entries import Backbone, Layers, Rules
from mdp_jax.models.layers import MLP, Conv, Dtypes, LayerNorm, Row, normal, of_patches, vector
from mdp_jax.models.resizing import of_image, padded
from mdp_jax.models.stages import FIRST, STAGES, doubled, strides


class Sizes(NamedTuple):
    """Blocks of each of the four stages, and channels of the first one; they double from stage to stage."""

    blocks: tuple[int, int, int, int]
    channels: int


SIZES = {
    "convnext_tiny": Sizes((3, 3, 9, 3), 96),
    "convnext_small": Sizes((3, 3, 27, 3), 96),
    "convnext_base": Sizes((3, 3, 27, 3), 128),
}
LAYER_SCALE = 1e-6  # where the factors of the residual branches begin


class Block(nn.Module):
    """Depthwise 7x7 convolution, normalisation, two matrix products; the sum with the input. [B,h,w,C] to the same."""

    dilation: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        channels = x.shape[-1]
        conv = Conv(channels, 7, self.dtypes, 1, self.dilation, channels, True, normal(0.02), name="conv_dw")
        y = LayerNorm(self.dtypes, name="norm")(conv(x))
        y = MLP(4 * channels, self.dtypes, name="mlp")(y)
        gamma = self.param("gamma", nn.initializers.constant(LAYER_SCALE), (channels,), self.dtypes.param)
        return x + vector(gamma.astype(self.dtypes.compute), x.ndim) * y


class Downsample(nn.Module):
    """Normalisation ("0"), then a 2x2 convolution ("1") that changes stride and channels."""

    features: int
    stride: int
    dilation: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = LayerNorm(self.dtypes, name="0")(x)
        # Where a dilation has taken the place of the stride, zeros keep the size, as many of them after as before.
        zeros = 0 if self.stride > 1 else self.dilation
        padding = (zeros // 2, zeros - zeros // 2)
        return Conv(
            self.features, 2, self.dtypes, self.stride, self.dilation, 1, True, normal(0.02), padding, name="1"
        )(x)


class Stage(nn.Module):
    """The blocks of one resolution; in front of them, except in the first stage, the change of resolution."""

    features: int
    blocks: int
    stride: int
    dilation: int
    dtypes: Dtypes
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if x.shape[-1] != self.features:
            # Where dilation replaces the stride, the convolution has half the dilation, as in timm.
            before = max(1, self.dilation // 2)
            x = Downsample(self.features, self.stride, before, self.dtypes, name="downsample")(x)
        make = functools.partial(Block, self.dilation, self.dtypes)
        return Row(make, self.blocks, self.dtypes, self.remat, name="blocks")(x, train).last


class Stem(nn.Module):
    """A 4x4 convolution with stride 4 ("0"), and normalisation ("1")."""

    features: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return LayerNorm(self.dtypes, name="1")(of_patches(self.features, FIRST, self.dtypes, "0")(x))


class Stages(nn.Module):
    """The four stages, named "0" to "3": features at stride 4 to {stride: output of the last stage of this stride}."""

    sizes: Sizes
    output_stride: int
    dtypes: Dtypes
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        features: dict[int, jax.Array] = {}
        stages = zip(strides(self.output_stride), STAGES[self.output_stride], strict=True)
        for i, (at, (stride, dilation)) in enumerate(stages):
            channels, blocks = self.sizes.channels * 2**i, self.sizes.blocks[i]
            x = Stage(channels, blocks, stride, dilation, self.dtypes, self.remat, name=str(i))(x, train)
            features[at] = x
        return features


class ConvNeXt(nn.Module):
    """Maps images [B,H,W,3] to {stride: features [B,ceil(H/stride),ceil(W/stride),C]} in `dtypes.compute`.

    The strides are 4, 8, 16 and 32, up to the output stride. The features are the outputs of the stages; the
    normalisation after the last one belongs to the classifier of whole images. Feature i is centred in the cell of the
    pixels stride * i to stride * (i + 1). Images are padded to a multiple of the output stride.
    """

    sizes: Sizes
    output_stride: int
    dtypes: Dtypes
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        size = x.shape[1:3]
        x = Stem(self.sizes.channels, self.dtypes, name="stem")(padded(x, self.output_stride))
        features = Stages(self.sizes, self.output_stride, self.dtypes, self.remat, name="stages")(x, train)
        return {stride: of_image(x, size, stride) for stride, x in features.items()}


def sizes_of(name: str, width: float) -> Sizes:
    """The sizes of a network whose numbers of channels are multiplied.

    Args:
      name: a key of SIZES.
      width: the config's `model.width`.

    Raises:
      UserError: the first stage would have no channel.
    """
    channels = round(SIZES[name].channels * width)
    if channels < 1:
        least = 1 / SIZES[name].channels
        raise UserError(f"config.model.width={width}: expected at least {least:.3g}, one channel in the first stage")
    return SIZES[name]._replace(channels=channels)


def feature_channels(name: str, width: float, output_stride: int) -> dict[int, int]:
    """The channels of the features.

    Args:
      name: a key of SIZES.
      width: the config's `model.width`.
      output_stride: a key of STAGES.

    Returns:
      {stride: channels of the last stage of this stride}.

    Raises:
      UserError: the first stage would have no channel.
    """
    return doubled(sizes_of(name, width).channels, output_stride)


def _make(name: str, model: ModelConfig, dtypes: Dtypes) -> ConvNeXt:
    return ConvNeXt(sizes_of(name, model.width), model.output_stride, dtypes, model.remat)


# Matrices and convolutions are split by output channels. Depthwise kernels are small.
SHARDING: Rules = (
    (r"stem/0/kernel|stages/./downsample/1/kernel", PartitionSpec(None, None, None, "fsdp")),
    (r"stages/.*/mlp/fc./kernel", PartitionSpec(None, "fsdp")),
    (r".*/(conv_dw/kernel|bias|scale|gamma)", PartitionSpec()),
)

# Number of layers in the published recipes: two more than their num_layers. It is more than `layer_of` tells apart, so
# that the last stage has the decay of some layers below the decoder.
DECAY_LAYERS = {"convnext_tiny": 8, "convnext_small": 14, "convnext_base": 14}


def layer_of(path: str) -> int:
    """The layer of a parameter, as in the stage-wise decay of ConvNeXt's authors and of MMSegmentation.

    Args:
      path: of the parameter.

    Returns:
      0 for the stem and the changes of resolution, i + 1 for the blocks of stage i.
    """
    parts = path.split("/")
    return int(parts[1]) + 1 if parts[0] == "stages" and parts[2] == "blocks" else 0


BACKBONES = {
    name: Backbone(
        make=functools.partial(_make, name),
        channels=functools.partial(feature_channels, name),
        output_strides=tuple(STAGES),
        normalisation="none",
        sharding=SHARDING,
        centre="cell",
        weight_names="mdp_jax.weights.names.convnext",
        layers=Layers(layer_of, DECAY_LAYERS[name]),
    )
    for name in SIZES
}
