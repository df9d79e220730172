"""What decoders of four levels have in common: they read features at the strides 4 to 32 and write at the first."""

from collections.abc import Callable, Mapping

import flax.linen as nn

from mdp_jax.configs import ModelConfig
from mdp_jax.models.entries import Decoder, DecoderNames, Pools
from mdp_jax.models.layers import Dtypes

LEVELS = (4, 8, 16, 32)  # strides of the features that they read


def entry(
    module: Callable[[int, float, Dtypes], nn.Module],
    names: Mapping[str, str],
    sized_by: str,
    pools: Pools | None = None,
) -> Decoder:
    """The entry of the registry.

    Args:
      module: (channels, dropout, dtypes) -> the decoder.
      names: our module below the decoder -> MMSegmentation's below its head.
      sized_by: see DecoderNames.
      pools: what it takes from the whole image; None: nothing.
    """

    def make(model: ModelConfig, dtypes: Dtypes) -> nn.Module:
        return module(model.decoder.channels, model.decoder.dropout, dtypes)

    modules = {f"decoder.{ours}": f"decode_head.{theirs}" for ours, theirs in names.items()}
    modules["classifier.conv"] = "decode_head.conv_seg"
    return Decoder(
        make=make,
        reads=lambda output_stride: LEVELS,
        writes=lambda output_stride: LEVELS[0],
        normalisation="batch",
        layouts={"mmseg": DecoderNames(lambda rates: modules, None, sized_by)},
        pools=None if pools is None else lambda output_stride: pools,
    )
