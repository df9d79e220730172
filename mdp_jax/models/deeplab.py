"""The DeepLabV3 decoder (arXiv 1706.05587) in its two published layouts (METHOD.md sections 2 and 6)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.models.layers import ConvBlock, Dtypes


class _Decoder(nn.Module):
    """What the layouts share: fields and branches. Features [B,h,w,in] to [B,h,w,channels] in `dtypes.compute`.

    `rates` are the dilations of the 3x3 branches. `dropout` is the layout's rate, wherever it has its dropout;
    `classifier_dropout` is the part of it that belongs to the classifier.
    """

    channels: int
    rates: tuple[int, ...]
    dropout: float
    dtypes: Dtypes

    def _branches(self, x: jax.Array, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """The image pooling branch, and the 1x1 branch ("aspp_0") with those of the rates ("aspp_1", ...)."""
        pooled = x.astype(self.dtypes.wide).mean((1, 2), keepdims=True)
        pooled = ConvBlock(self.channels, 1, self.dtypes, name="image_pool")(pooled, train)
        pooled = jnp.broadcast_to(pooled, (*x.shape[:-1], self.channels))
        branches = [ConvBlock(self.channels, 1, self.dtypes, name="aspp_0")(x, train)]
        for i, rate in enumerate(self.rates, start=1):
            branches.append(ConvBlock(self.channels, 3, self.dtypes, dilation=rate, name=f"aspp_{i}")(x, train))
        return pooled, branches


class MMSegDecoder(_Decoder):
    """MMSegmentation's ASPPHead without its classifier: pooling branch first, 3x3 "bottleneck" over all.

    Its dropout, of whole channels, comes after it and is the classifier's.
    """

    @property
    def classifier_dropout(self) -> float:
        return self.dropout

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        pooled, branches = self._branches(x, train)
        x = jnp.concatenate([pooled, *branches], axis=-1)
        return ConvBlock(self.channels, 3, self.dtypes, name="bottleneck")(x, train)


class TorchvisionDecoder(_Decoder):
    """torchvision's DeepLabHead without its classifier: pooling branch last, 1x1 "project", dropout, 3x3 "bottleneck".

    With `train` and a positive rate, the dropout, of single values, needs the "dropout" stream of random numbers.
    """

    @property
    def classifier_dropout(self) -> float:
        return 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        pooled, branches = self._branches(x, train)
        x = jnp.concatenate([*branches, pooled], axis=-1)
        x = ConvBlock(self.channels, 1, self.dtypes, name="project")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return ConvBlock(self.channels, 3, self.dtypes, name="bottleneck")(x, train)


LAYOUTS = {"mmseg": MMSegDecoder, "torchvision": TorchvisionDecoder}
