"""The backbones and decoders by the names that a config gives them: `model.backbone` and `model.decoder.name`."""

from mdp_jax.configs import DecoderConfig, ModelConfig
from mdp_jax.models.backbones import convnext, resnet, swin, vit
from mdp_jax.models.decoders import deeplabv3, deeplabv3plus, fcn, identity, linear, segformer, upernet
from mdp_jax.models.entries import Backbone, Decoder

BACKBONES: dict[str, Backbone] = {**resnet.BACKBONES, **convnext.BACKBONES, **swin.BACKBONES, **vit.BACKBONES}
DECODERS: dict[str, Decoder] = {
    "deeplabv3": deeplabv3.DECODER,
    "deeplabv3plus": deeplabv3plus.DECODER,
    "fcn": fcn.DECODER,
    "identity": identity.DECODER,
    "linear": linear.DECODER,
    "segformer": segformer.DECODER,
    "upernet": upernet.DECODER,
}
NO_DECODER = "identity"  # the head stands on the backbone


def decoder_in_words(decoder: DecoderConfig) -> str:
    """A decoder with its channels and its rates, where it has some.

    Args:
      decoder: of a config's `model`.
    """
    if decoder.name == NO_DECODER:
        return "no decoder"
    if not DECODERS[decoder.name].own_channels:
        return decoder.name
    rated = any(names.rates for names in DECODERS[decoder.name].layouts.values())
    rates = f" with rates {tuple(decoder.rates)}" if rated else ""
    return f"{decoder.name} of {decoder.channels} channels{rates}"


def network_in_words(model: ModelConfig) -> str:
    """The network under the head: backbone, decoder and precision.

    Args:
      model: of a config.
    """
    width = "" if model.width == 1 else f" of {model.width:g} times its width"
    return f"{model.backbone}{width}, {decoder_in_words(model.decoder)}, {model.compute_dtype}"
