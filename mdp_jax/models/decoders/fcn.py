"""Convolutions on the features at the output stride: MMSegmentation's FCNHead (after arXiv 1411.4038)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder, DecoderNames
from mdp_jax.models.layers import ConvBlock, Dtypes


class FCN(nn.Module):
    """{output_stride: features [B,h,w,in]} to [B,h,w,channels] in `dtypes.compute`.

    Two 3x3 convolutions ("convs_0", "convs_1"), then one over the input and their output together ("conv_cat"). The
    dropout, of whole channels, comes after it and is the classifier's.
    """

    channels: int
    output_stride: int
    classifier_dropout: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        x = y = features[self.output_stride]
        for i in range(2):
            y = ConvBlock(self.channels, 3, self.dtypes, name=f"convs_{i}")(y, train)
        return ConvBlock(self.channels, 3, self.dtypes, name="conv_cat")(jnp.concatenate([x, y], axis=-1), train)


def make(model: ModelConfig, dtypes: Dtypes) -> FCN:
    """Makes the decoder of a config.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    return FCN(model.decoder.channels, model.output_stride, model.decoder.dropout, dtypes)


def _mmseg_modules(rates: int) -> dict[str, str]:
    del rates
    return {
        "decoder.convs_0": "decode_head.convs.0",
        "decoder.convs_1": "decode_head.convs.1",
        "decoder.conv_cat": "decode_head.conv_cat",
        "classifier.conv": "decode_head.conv_seg",
    }


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: (output_stride,),
    writes=lambda output_stride: output_stride,
    normalisation="batch",
    layouts={"mmseg": DecoderNames(_mmseg_modules, None, "conv_cat.conv.weight")},
)
