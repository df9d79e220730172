"""No decoder: the head stands on the features of the backbone at the output stride."""

import flax.linen as nn
import jax

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder
from mdp_jax.models.layers import Dtypes


class Identity(nn.Module):
    """It is called with {output_stride: features [B,h,w,in]} and gives them as they are; it has no parameters.

    The dropout, of whole channels, is the classifier's.
    """

    output_stride: int
    dropout: float = 0.0

    @property
    def classifier_dropout(self) -> float:
        """The part of the dropout that belongs to the classifier."""
        return self.dropout

    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        del train
        return features[self.output_stride]


def make(model: ModelConfig, dtypes: Dtypes) -> Identity:
    """The decoder of a config's `model`."""
    del dtypes
    return Identity(model.output_stride, model.decoder.dropout)


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: (output_stride,),
    writes=lambda output_stride: output_stride,
    normalisation="none",
    sharding=(),
    own_channels=False,
)
