"""UPerNet (arXiv 1807.10221) in the form of MMSegmentation's UPerHead."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.models.decoders import levels
from mdp_jax.models.decoders.levels import LEVELS
from mdp_jax.models.entries import Pools
from mdp_jax.models.layers import ConvBlock, Dtypes
from mdp_jax.models.resizing import enlarged
from mdp_jax.models.whole import image_means, over_image

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

    def _block(self, name: str, kernel: int = 3) -> ConvBlock:
        return ConvBlock(self.channels, kernel, self.dtypes, name=name)

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        top = features[LEVELS[-1]]
        means = (image_means(self, top, side, self.dtypes) for side in POOLED)
        pooled = [self._block(f"pool_{i}", 1)(x, train) for i, x in enumerate(means)]
        joined = jnp.concatenate([top, *(over_image(self, x, top) for x in pooled)], axis=-1)
        laterals = [self._block(f"lateral_{i}", 1)(features[stride], train) for i, stride in enumerate(LEVELS[:-1])]
        laterals.append(self._block("bottleneck")(joined, train))
        for i in reversed(range(1, len(laterals))):
            laterals[i - 1] = laterals[i - 1] + enlarged(laterals[i], laterals[i - 1])
        out = [self._block(f"fpn_{i}")(x, train) for i, x in enumerate(laterals[:-1])]
        out += laterals[-1:]
        out = [out[0], *(enlarged(x, out[0]) for x in out[1:])]
        return self._block("fpn_bottleneck")(jnp.concatenate(out, axis=-1), train)


LOWER = range(len(LEVELS) - 1)
NAMES = {
    # Position 0 of each branch is the pooling itself.
    **{f"pool_{i}": f"psp_modules.{i}.1" for i in range(len(POOLED))},
    "bottleneck": "bottleneck",
    **{f"lateral_{i}": f"lateral_convs.{i}" for i in LOWER},
    **{f"fpn_{i}": f"fpn_convs.{i}" for i in LOWER},
    "fpn_bottleneck": "fpn_bottleneck",
}
DECODER = levels.entry(UPerNet, NAMES, "bottleneck.conv.weight", Pools(LEVELS[-1], POOLED))
