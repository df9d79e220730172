"""ResNets at output stride 8, 16 or 32 (METHOD.md section 2): torchvision's and MMSegmentation's, and its V1c.

Parameters are named as there ("layer1"/"0"/"conv1"), so that a path joined by dots is the PyTorch key of a module.
"""

import functools

import flax.linen as nn
import jax

from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models.entries import Backbone, Layers
from mdp_jax.models.layers import REMATERIALISATIONS, BatchNorm, Conv, Dtypes, give_third_stage
from mdp_jax.models.pooling import max_pool
from mdp_jax.models.stages import STAGES, doubled, strides


class Downsample(nn.Module):
    """The shortcut of a block that changes stride or channels: 1x1 convolution ("0") and batch normalisation ("1")."""

    features: int
    stride: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.features, 1, self.dtypes, stride=self.stride, name="0")(x)
        return BatchNorm(self.dtypes, name="1")(y, train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first with stride and dilation, the second with neither (as in MMSegmentation)."""

    planes: int
    stride: int
    dilation: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv(self.planes, 3, self.dtypes, stride=self.stride, dilation=self.dilation, name="conv1")(x)
        y = nn.relu(BatchNorm(self.dtypes, name="bn1")(y, train))
        y = Conv(self.planes, 3, self.dtypes, name="conv2")(y)
        y = BatchNorm(self.dtypes, name="bn2")(y, train)
        if self.stride > 1 or x.shape[-1] != self.planes:
            x = Downsample(self.planes, self.stride, self.dtypes, name="downsample")(x, train)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution to 4 * planes channels; stride and dilation are on the 3x3."""

    planes: int
    stride: int
    dilation: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = 4 * self.planes
        y = Conv(self.planes, 1, self.dtypes, name="conv1")(x)
        y = nn.relu(BatchNorm(self.dtypes, name="bn1")(y, train))
        y = Conv(self.planes, 3, self.dtypes, stride=self.stride, dilation=self.dilation, name="conv2")(y)
        y = nn.relu(BatchNorm(self.dtypes, name="bn2")(y, train))
        y = Conv(features, 1, self.dtypes, name="conv3")(y)
        y = BatchNorm(self.dtypes, name="bn3")(y, train)
        if self.stride > 1 or x.shape[-1] != features:
            x = Downsample(features, self.stride, self.dtypes, name="downsample")(x, train)
        return nn.relu(x + y)


V1C = "_v1c"  # suffix of the names of networks with a deep stem, as in MMSegmentation

# Block and number of blocks of layer1 to layer4.
DEPTHS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class Layer(nn.Module):
    """The blocks of one resolution, named "0", "1", ...; the first one has the stride and half the dilation.

    Where dilation replaces a stride, this is the dilation of the layer before it.
    """

    block: type[nn.Module]
    blocks: int
    planes: int
    stride: int
    dilation: int
    dtypes: Dtypes
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        block = REMATERIALISATIONS[self.remat](self.block)
        x = block(self.planes, self.stride, max(1, self.dilation // 2), self.dtypes, name="0")(x, train)
        for i in range(1, self.blocks):
            x = block(self.planes, 1, self.dilation, self.dtypes, name=str(i))(x, train)
        return x


class DeepStem(nn.Module):
    """Three 3x3 convolutions with batch normalisation and ReLU, the first with stride 2; they replace one of 7x7.

    The names are those of MMSegmentation's ResNetV1c: convolutions "0", "3" and "6", normalisations "1", "4" and "7".
    """

    features: int
    dtypes: Dtypes

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        half = max(self.features // 2, 1)
        for i, (features, stride) in enumerate(((half, 2), (half, 1), (self.features, 1))):
            x = Conv(features, 3, self.dtypes, stride=stride, name=str(3 * i))(x)
            x = nn.relu(BatchNorm(self.dtypes, name=str(3 * i + 1))(x, train))
        return x


class ResNet(nn.Module):
    """Maps images [B,H,W,3] to {stride: features [B,ceil(H/stride),ceil(W/stride),C]} in `dtypes.compute`.

    The strides are 4, 8, 16 and 32, up to the output stride. `depth` is a key of DEPTHS, `remat` a key of
    REMATERIALISATIONS. `channels` is the number of channels of the stem, 64 in the published networks (see
    `feature_channels`). Feature i is centred on pixel stride * i.
    """

    depth: str
    channels: int
    output_stride: int
    dtypes: Dtypes
    remat: str = "none"
    deep_stem: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> dict[int, jax.Array]:
        block, blocks = DEPTHS[self.depth]
        if self.deep_stem:
            x = DeepStem(self.channels, self.dtypes, name="stem")(x, train)
        else:
            x = Conv(self.channels, 7, self.dtypes, stride=2, name="conv1")(x)
            x = nn.relu(BatchNorm(self.dtypes, name="bn1")(x, train))
        x = max_pool(x)
        features: dict[int, jax.Array] = {}
        layers = zip(strides(self.output_stride), STAGES[self.output_stride], strict=True)
        for i, (stride, (layer_stride, dilation)) in enumerate(layers):
            planes, name = self.channels * 2**i, f"layer{i + 1}"
            x = Layer(block, blocks[i], planes, layer_stride, dilation, self.dtypes, self.remat, name=name)(x, train)
            features[stride] = x
            if i == 2:
                give_third_stage(self, x)
        return features


def stem_channels(width: float) -> int:
    """The number of channels of the stem.

    Args:
      width: the config's `model.width`.

    Raises:
      UserError: the stem would have no channel.
    """
    channels = round(64 * width)
    if channels < 1:
        raise UserError(f"config.model.width={width}: expected at least {1 / 64}, one channel in the stem")
    return channels


def feature_channels(depth: str, width: float, output_stride: int) -> dict[int, int]:
    """The channels of the features; they double from layer to layer.

    Args:
      depth: a key of DEPTHS.
      width: the config's `model.width`.
      output_stride: a key of STAGES.

    Returns:
      {stride: channels of the last layer of this stride}.

    Raises:
      UserError: the stem would have no channel.
    """
    expansion = 4 if DEPTHS[depth][0] is Bottleneck else 1
    return doubled(expansion * stem_channels(width), output_stride)


def _make(depth: str, deep_stem: bool, model: ModelConfig, dtypes: Dtypes) -> ResNet:
    return ResNet(depth, stem_channels(model.width), model.output_stride, dtypes, model.remat, deep_stem)


def layer_of(path: str) -> int:
    """The layer of a parameter in layer-wise decay: 0 for the stem, i for the blocks of "layeri" (METHOD.md section 6).

    Args:
      path: of the parameter.
    """
    part = path.split("/")[0]
    return int(part.removeprefix("layer")) if part.startswith("layer") else 0


def _entry(depth: str, deep_stem: bool = False) -> Backbone:
    return Backbone(
        make=functools.partial(_make, depth, deep_stem),
        channels=functools.partial(feature_channels, depth),
        output_strides=tuple(STAGES),
        normalisation="batch",
        weight_names="mdp_jax.weights.names.resnet",
        layers=Layers(layer_of, 6),
        third_stage=tuple(STAGES),
    )


BACKBONES = {name: _entry(name) for name in DEPTHS} | {name + V1C: _entry(name, deep_stem=True) for name in DEPTHS}
