"""Batch normalisation alone under the head, as in DINOv2's linear evaluation of segmentation (arXiv 2304.07193)."""

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder
from mdp_jax.models.layers import BatchNorm, Dtypes


class Linear(nn.Module):
    """{output_stride: features [B,h,w,in]} to the same [B,h,w,in], normalised ("bn"), in `dtypes.compute`.

    `decoder.channels` is not read. The dropout, of whole channels, is the classifier's.
    """

    output_stride: int
    classifier_dropout: float
    dtypes: Dtypes

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        return BatchNorm(self.dtypes, name="bn")(features[self.output_stride], train)


def make(model: ModelConfig, dtypes: Dtypes) -> Linear:
    """Makes the decoder of a config.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    return Linear(model.output_stride, model.decoder.dropout, dtypes)


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: (output_stride,),
    writes=lambda output_stride: output_stride,
    normalisation="batch",
    sharding=((r"bn/(scale|bias)", PartitionSpec()),),
    own_channels=False,
)
