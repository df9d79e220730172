"""The DeepLabV3 decoder (arXiv 1706.05587) in its two published layouts (METHOD.md sections 2 and 6)."""

from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder, DecoderNames, Pools
from mdp_jax.models.layers import ConvBlock, Dtypes, spread
from mdp_jax.models.whole import known_means


class ASPPDecoder(nn.Module):
    """The fields and branches that decoders with atrous spatial pyramid pooling share.

    It is called with {stride: features [B,h,w,in]}, which has features at `output_stride`, and gives [B,h,w,channels]
    in `dtypes.compute`. `rates` are the dilations of the 3x3 branches, which are made of `block`. `dropout` is the rate
    where the layout has its dropout; `classifier_dropout` is the part of it that belongs to the classifier.
    """

    channels: int
    rates: tuple[int, ...]
    dropout: float
    output_stride: int
    dtypes: Dtypes
    block: type[nn.Module] = ConvBlock

    @property
    def classifier_dropout(self) -> float:
        """The dropout rate of the classifier."""
        return self.dropout

    def _branches(self, x: jax.Array, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """The image pooling branch, and the 1x1 branch ("aspp_0") with those of the rates ("aspp_1", ...)."""
        pooled = known_means(self, x, 1, self.dtypes)
        if pooled is None:
            pooled = x.astype(self.dtypes.wide).mean((1, 2), keepdims=True)
        pooled = ConvBlock(self.channels, 1, self.dtypes, name="image_pool")(pooled, train)
        pooled = spread(pooled, (*x.shape[:-1], self.channels), self.dtypes)
        branches = [ConvBlock(self.channels, 1, self.dtypes, name="aspp_0")(x, train)]
        for i, rate in enumerate(self.rates, start=1):
            branches.append(self.block(self.channels, 3, self.dtypes, dilation=rate, name=f"aspp_{i}")(x, train))
        return pooled, branches

    def _pyramid(self, x: jax.Array, train: bool) -> jax.Array:
        """MMSegmentation's ASPPHead: pooling branch first, 3x3 "bottleneck" over all."""
        pooled, branches = self._branches(x, train)
        x = jnp.concatenate([pooled, *branches], axis=-1)
        return ConvBlock(self.channels, 3, self.dtypes, name="bottleneck")(x, train)


class MMSegDecoder(ASPPDecoder):
    """MMSegmentation's ASPPHead without its classifier.

    Its dropout, of whole channels, comes after it and is the classifier's.
    """

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        return self._pyramid(features[self.output_stride], train)


class TorchvisionDecoder(ASPPDecoder):
    """torchvision's DeepLabHead without its classifier: pooling branch last, 1x1 "project", dropout, 3x3 "bottleneck".

    With `train` and a positive rate, the dropout, of single values, needs the "dropout" stream of random numbers.
    """

    @property
    def classifier_dropout(self) -> float:
        """The dropout rate of the classifier, which has none in this layout."""
        return 0.0

    @nn.compact
    def __call__(self, features: dict[int, jax.Array], train: bool) -> jax.Array:
        pooled, branches = self._branches(features[self.output_stride], train)
        x = jnp.concatenate([*branches, pooled], axis=-1)
        x = ConvBlock(self.channels, 1, self.dtypes, name="project")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return ConvBlock(self.channels, 3, self.dtypes, name="bottleneck")(x, train)


MODULES = {"mmseg": MMSegDecoder, "torchvision": TorchvisionDecoder}  # by decoder.layout


def make(model: ModelConfig, dtypes: Dtypes) -> ASPPDecoder:
    """Makes the decoder of a config, in its layout.

    Args:
      model: the config's `model`.
      dtypes: of the network.
    """
    decoder = model.decoder
    module = MODULES[decoder.layout]
    return module(decoder.channels, tuple(decoder.rates), decoder.dropout, model.output_stride, dtypes)


def mmseg_modules(rates: int) -> dict[str, str]:
    """The names of the modules of MMSegmentation's ASPPHead.

    Args:
      rates: the number of dilated branches.

    Returns:
      {our module: theirs}.
    """
    names = {f"decoder.aspp_{i}": f"decode_head.aspp_modules.{i}" for i in range(rates + 1)}
    return names | {
        "decoder.image_pool": "decode_head.image_pool.1",  # position 0 is the pooling itself
        "decoder.bottleneck": "decode_head.bottleneck",
        "classifier.conv": "decode_head.conv_seg",
    }


def mmseg_rates(keys: Iterable[str]) -> int:
    """The number of dilated branches in a state dict: all of `aspp_modules` except the 1x1 branch.

    Args:
      keys: of the state dict.
    """
    branches = {key.split(".")[2] for key in keys if key.startswith("decode_head.aspp_modules.")}
    return max(len(branches) - 1, 0)


def _torchvision_modules(rates: int) -> dict[str, str]:
    names: dict[str, str] = {}
    for i in range(rates + 1):
        names |= {f"decoder.aspp_{i}.{ours}": f"classifier.0.convs.{i}.{j}" for j, ours in enumerate(("conv", "bn"))}
    return names | {
        # Position 0 of the pooling branch is the pooling itself.
        "decoder.image_pool.conv": f"classifier.0.convs.{rates + 1}.1",
        "decoder.image_pool.bn": f"classifier.0.convs.{rates + 1}.2",
        "decoder.project.conv": "classifier.0.project.0",
        "decoder.project.bn": "classifier.0.project.1",
        "decoder.bottleneck.conv": "classifier.1",
        "decoder.bottleneck.bn": "classifier.2",
        "classifier.conv": "classifier.4",
    }


def _torchvision_rates(keys: Iterable[str]) -> int:
    """All branches except the 1x1 and the pooling branch."""
    branches = {key.split(".")[3] for key in keys if key.startswith("classifier.0.convs.")}
    return max(len(branches) - 2, 0)


SIZED_BY = "image_pool.conv.weight"


def pools(output_stride: int) -> Pools:
    """What the image pooling branch takes from the whole image."""
    return Pools(output_stride, (1,))


DECODER = Decoder(
    make=make,
    reads=lambda output_stride: (output_stride,),
    writes=lambda output_stride: output_stride,
    normalisation="batch",
    layouts={
        "mmseg": DecoderNames(mmseg_modules, mmseg_rates, SIZED_BY),
        "torchvision": DecoderNames(_torchvision_modules, _torchvision_rates, SIZED_BY),
    },
    pools=pools,
)
