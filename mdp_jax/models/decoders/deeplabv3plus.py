"""The DeepLabV3+ decoder (arXiv 1802.02611) in the form of MMSegmentation's DepthwiseSeparableASPPHead."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mdp_jax.configs import ModelConfig
from mdp_jax.models.decoders.deeplabv3 import SIZED_BY, ASPPDecoder, mmseg_modules, mmseg_rates, pools
from mdp_jax.models.entries import CONVOLUTIONS_SPLIT, Decoder, DecoderNames
from mdp_jax.models.layers import ConvBlock, Dtypes
from mdp_jax.models.resizing import enlarged

FINE = 4  # the stride of the features that the pyramid's are joined with, and of the outputs


class SeparableBlock(nn.Module):
    """A convolution of each channel by itself ("depthwise_conv"), then a 1x1 convolution ("pointwise_conv").

    Each with batch normalisation and ReLU, as MMCV's `DepthwiseSeparableConvModule`.
    """

    features: int
    kernel: int
    dtypes: Dtypes
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        depthwise = ConvBlock(channels, self.kernel, self.dtypes, self.dilation, channels, name="depthwise_conv")
        return ConvBlock(self.features, 1, self.dtypes, name="pointwise_conv")(depthwise(x, train), train)


class DeepLabV3Plus(ASPPDecoder):
    """ASPP of separable convolutions, enlarged and joined with the features at stride 4; two separable convolutions.

    It is called with {4: [B,H/4,W/4,c1], output_stride: [B,h,w,in]} and gives [B,H/4,W/4,channels] in `dtypes.compute`.
    A 1x1 convolution reduces the features at stride 4 to 3/32 of `channels`: 48 of 512, 12 of 128, as in
    MMSegmentation's configs. The dropout, of whole channels, comes after it and is the classifier's.
    """

    block: type[nn.Module] = SeparableBlock

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        fine_channels = max(round(self.channels * 3 / 32), 1)
        coarse = self._pyramid(features[self.output_stride], train)
        fine = ConvBlock(fine_channels, 1, self.dtypes, name="c1_bottleneck")(features[FINE], train)
        x = jnp.concatenate([enlarged(coarse, fine), fine], axis=-1)
        for i in range(2):
            x = SeparableBlock(self.channels, 3, self.dtypes, name=f"sep_bottleneck_{i}")(x, train)
        return x


def make(model: ModelConfig, dtypes: Dtypes) -> DeepLabV3Plus:
    """Makes the decoder of a config.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    decoder = model.decoder
    return DeepLabV3Plus(decoder.channels, tuple(decoder.rates), decoder.dropout, model.output_stride, dtypes)


def _mmseg_modules(rates: int) -> dict[str, str]:
    return mmseg_modules(rates) | {
        "decoder.c1_bottleneck": "decode_head.c1_bottleneck",
        "decoder.sep_bottleneck_0": "decode_head.sep_bottleneck.0",
        "decoder.sep_bottleneck_1": "decode_head.sep_bottleneck.1",
    }


# Small kernels whose numbers of channels, 48 and 512 + 48, are often no multiple of the number of devices.
_SMALL = r"(c1_bottleneck|.*depthwise_conv)/.*kernel"

DECODER = Decoder(
    make=make,
    reads=lambda output_stride: (FINE, output_stride),
    writes=lambda output_stride: FINE,
    normalisation="batch",
    sharding=(
        (_SMALL, PartitionSpec()),
        *((f"(?!{_SMALL}){pattern}", spec) for pattern, spec in CONVOLUTIONS_SPLIT),
    ),
    layouts={"mmseg": DecoderNames(_mmseg_modules, mmseg_rates, SIZED_BY)},
    pools=pools,
)
