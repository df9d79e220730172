"""UPerNet (arXiv 1807.10221) in the form of MMSegmentation's UPerHead."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder, DecoderNames
from mdp_jax.models.layers import ConvBlock, Dtypes
from mdp_jax.models.resizing import averaged, upsample

LEVELS = (4, 8, 16, 32)  # strides of the features that it reads
POOLED = (1, 2, 3, 6)  # sides of the grids that the coarsest features are averaged over


class UPerNet(nn.Module):
    """{stride: features} at LEVELS to [B,H/4,W/4,channels] in `dtypes.compute`.

    The coarsest features are joined with their means over four grids ("pool_0" to "pool_3", "bottleneck"), enlarged,
    and added to the next finer ones ("lateral_0" to "lateral_2"), and so on ("fpn_0" to "fpn_2"). "fpn_bottleneck"
    joins all at stride 4. The dropout, of whole channels, comes after it and is the classifier's.
    """

    channels: int
    classifier_dropout: float
    dtypes: Dtypes

    def _enlarged(self, x: jax.Array, like: jax.Array) -> jax.Array:
        _, height, width, _ = like.shape
        return upsample(x, (height, width)).astype(self.dtypes.compute)

    def _block(self, name: str, kernel: int = 3) -> ConvBlock:
        return ConvBlock(self.channels, kernel, self.dtypes, name=name)

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        top = features[LEVELS[-1]]
        pooled = [self._block(f"pool_{i}", 1)(averaged(top, side), train) for i, side in enumerate(POOLED)]
        joined = jnp.concatenate([top, *(self._enlarged(x, top) for x in pooled)], axis=-1)
        levels = [self._block(f"lateral_{i}", 1)(features[stride], train) for i, stride in enumerate(LEVELS[:-1])]
        levels.append(self._block("bottleneck")(joined, train))
        for i in reversed(range(1, len(levels))):
            levels[i - 1] = levels[i - 1] + self._enlarged(levels[i], levels[i - 1])
        out = [self._block(f"fpn_{i}")(x, train) for i, x in enumerate(levels[:-1])]
        out += levels[-1:]
        out = [out[0], *(self._enlarged(x, out[0]) for x in out[1:])]
        return self._block("fpn_bottleneck")(jnp.concatenate(out, axis=-1), train)


def make(model: ModelConfig, dtypes: Dtypes) -> UPerNet:
    """Makes the decoder of a config.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    return UPerNet(model.decoder.channels, model.decoder.dropout, dtypes)


def _mmseg_modules(rates: int) -> dict[str, str]:
    del rates
    lower = range(len(LEVELS) - 1)
    return {
        # Position 0 of each branch is the pooling itself.
        **{f"decoder.pool_{i}": f"decode_head.psp_modules.{i}.1" for i in range(len(POOLED))},
        "decoder.bottleneck": "decode_head.bottleneck",
        **{f"decoder.lateral_{i}": f"decode_head.lateral_convs.{i}" for i in lower},
        **{f"decoder.fpn_{i}": f"decode_head.fpn_convs.{i}" for i in lower},
        "decoder.fpn_bottleneck": "decode_head.fpn_bottleneck",
        "classifier.conv": "decode_head.conv_seg",
    }


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: LEVELS,
    writes=lambda output_stride: LEVELS[0],
    normalisation="batch",
    layouts={"mmseg": DecoderNames(_mmseg_modules, None, "bottleneck.conv.weight")},
)
