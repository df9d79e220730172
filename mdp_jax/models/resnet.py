"""ResNet-18/34/50/101 at output stride 8 or 16 (METHOD.md section 2): torchvision's and MMSegmentation's plain ResNet.

Parameters are named as there ("layer1"/"0"/"conv1"), so that a path joined by dots is the PyTorch key of a module.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from mdp_jax.models.layers import CONVOLUTION, BatchNorm, Conv, Dtypes

# (stride, dilation) of layer1 to layer4. Where a stride is given up for dilation, the first block of the layer still
# has the dilation of the layer before it.
LAYERS = {
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
}


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


# Block and number of blocks of layer1 to layer4.
DEPTHS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


def _named(name: str) -> Callable:
    return jax.checkpoint_policies.save_only_these_names(name)


# What of a residual block is kept for the backward pass; the rest is computed again.
REMATERIALISATIONS = {
    "none": lambda block: block,
    "elementwise": lambda block: nn.remat(block, static_argnums=(2,), policy=_named(CONVOLUTION)),
    "blocks": lambda block: nn.remat(block, static_argnums=(2,)),
}


class Layer(nn.Module):
    """The blocks of one resolution, named "0", "1", ...; the first one has the stride and half the dilation."""

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


class ResNet(nn.Module):
    """Images [B,H,W,3] to features [B,ceil(H/s),ceil(W/s),C] in `dtypes.compute`, s = `output_stride`.

    `depth` is a key of DEPTHS, `remat` one of REMATERIALISATIONS; `channels` are those of the stem, 64 in the published
    networks, and double from layer to layer. C is 8 * channels for ResNet-18 and 34, 32 * channels for the others.
    Feature i is centred on pixel s * i.
    """

    depth: str
    channels: int
    output_stride: int
    dtypes: Dtypes
    remat: str = "none"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        block, blocks = DEPTHS[self.depth]
        x = Conv(self.channels, 7, self.dtypes, stride=2, name="conv1")(x)
        x = nn.relu(BatchNorm(self.dtypes, name="bn1")(x, train))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, (stride, dilation) in enumerate(LAYERS[self.output_stride]):
            planes, name = self.channels * 2**i, f"layer{i + 1}"
            x = Layer(block, blocks[i], planes, stride, dilation, self.dtypes, self.remat, name=name)(x, train)
        return x
