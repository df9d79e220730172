"""A light decoder of four levels: MMSegmentation's SegformerHead (arXiv 2105.15203)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.models.decoders import levels
from mdp_jax.models.decoders.levels import LEVELS
from mdp_jax.models.layers import ConvBlock, Dtypes
from mdp_jax.models.resizing import enlarged


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
        joined: list[jax.Array] = []
        for i, stride in enumerate(LEVELS):
            x = ConvBlock(self.channels, 1, self.dtypes, name=f"convs_{i}")(features[stride], train)
            joined.append(enlarged(x, joined[0]) if joined else x)
        return ConvBlock(self.channels, 1, self.dtypes, name="fusion_conv")(jnp.concatenate(joined, axis=-1), train)


NAMES = {**{f"convs_{i}": f"convs.{i}" for i in range(len(LEVELS))}, "fusion_conv": "fusion_conv"}
DECODER = levels.entry(Segformer, NAMES, "fusion_conv.conv.weight")
