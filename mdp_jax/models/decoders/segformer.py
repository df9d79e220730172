"""A light decoder of four levels: MMSegmentation's SegformerHead (arXiv 2105.15203)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder, DecoderNames
from mdp_jax.models.layers import ConvBlock, Dtypes
from mdp_jax.models.resizing import upsample

LEVELS = (4, 8, 16, 32)  # strides of the features that it reads


class Segformer(nn.Module):
    """{stride: features} at LEVELS to [B,H/4,W/4,channels] in `dtypes.compute`.

    A 1x1 convolution of each level ("convs_0" to "convs_3"); all are enlarged to stride 4 and joined by another
    ("fusion_conv"). The dropout, of whole channels, comes after it and is the classifier's.
    """

    channels: int
    classifier_dropout: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        _, height, width, _ = features[LEVELS[0]].shape
        levels = []
        for i, stride in enumerate(LEVELS):
            x = ConvBlock(self.channels, 1, self.dtypes, name=f"convs_{i}")(features[stride], train)
            levels.append(upsample(x, (height, width)).astype(self.dtypes.compute) if i else x)
        return ConvBlock(self.channels, 1, self.dtypes, name="fusion_conv")(jnp.concatenate(levels, axis=-1), train)


def make(model: ModelConfig, dtypes: Dtypes) -> Segformer:
    """Makes the decoder of a config.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    return Segformer(model.decoder.channels, model.decoder.dropout, dtypes)


def _mmseg_modules(rates: int) -> dict[str, str]:
    del rates
    return {
        **{f"decoder.convs_{i}": f"decode_head.convs.{i}" for i in range(len(LEVELS))},
        "decoder.fusion_conv": "decode_head.fusion_conv",
        "classifier.conv": "decode_head.conv_seg",
    }


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: LEVELS,
    writes=lambda output_stride: LEVELS[0],
    normalisation="batch",
    layouts={"mmseg": DecoderNames(_mmseg_modules, None, "fusion_conv.conv.weight")},
)
