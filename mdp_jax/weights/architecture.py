"""Finds the network that a state dict belongs to, by its names and shapes."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mdp_jax.configs import AuxiliaryConfig, DecoderConfig, FinetuneModelConfig, ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.weights.layouts import Found, part_of, rename
from mdp_jax.weights.names import names_of
from mdp_jax.weights.torch_weights import shapes

_AUXILIARY_KERNEL = f"{AUXILIARY}.convs_0.conv.weight"


def model_of(found: Found) -> ModelConfig:
    """The network of a state dict. Weights do not tell the values of the rates and the output stride.

    Args:
      found: a state dict whose names are known.

    Raises:
      UserError: the backbone is not supported, or a leaf that tells a size is missing.
    """
    below = {key.removeprefix("backbone."): found.state[theirs].shape for key, theirs in found.keys.items()}
    backbone_names = names_of(found.backbone)
    assert backbone_names is not None, found.backbone  # it was found by these names
    backbone = backbone_names.recognise(below, found.where)
    width = _channels(found, f"backbone.{backbone.sized_by}") / backbone.channels
    decoder = DecoderConfig()
    if found.decoder:
        names = DECODERS[found.decoder].layouts[found.layout]
        decoder = DecoderConfig(
            name=found.decoder,
            layout=found.layout,
            channels=_channels(found, f"decoder.{names.sized_by}"),
            rates=(1,) * names.rates(found.state) if names.rates else decoder.rates,
        )
    return ModelConfig(backbone.backbone, width, _output_stride(backbone.backbone, width, decoder.name), decoder)


def in_words(found: Found, parts: Sequence[str]) -> str:
    """The config values that give the network of a state dict, for a message that it is another one.

    Args:
      found: a state dict whose names are known.
      parts: of it, that are spoken of.

    Raises:
      UserError: as `model_of`.
    """
    model = model_of(found)
    values = {"backbone": repr(model.backbone), "width": f"{model.width:g}"}
    if "decoder" in parts:
        values["decoder.channels"] = str(model.decoder.channels)
    if AUXILIARY in parts:
        values["auxiliary.channels"] = str(_channels(found, _AUXILIARY_KERNEL))
    return ", ".join(f"config.model.{key}={value}" for key, value in values.items())


def expected_shapes(found: Found, model: ModelConfig, parts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's leaves, in some of the parts that a state dict has.

    Args:
      found: the state dict.
      model: the network; its auxiliary head, if it is among the parts, has as many channels as that of the state dict.
      parts: the parts.

    Returns:
      {our key: shape in PyTorch's layout}.

    Raises:
      UserError: the leaf of the classifier that tells the number of classes is missing.
    """
    classes = _channels(found, "classifier.conv.weight") if "classifier" in parts else 1
    if AUXILIARY in parts:
        own = {field.name: getattr(model, field.name) for field in dataclasses.fields(ModelConfig)}
        auxiliary = AuxiliaryConfig(weight=1.0, channels=_channels(found, _AUXILIARY_KERNEL))
        model = FinetuneModelConfig(**own, auxiliary=auxiliary)
    segmenter = network.segmenter(model, classes)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: segmenter.init(jax.random.key(0), x, train=False), images)
    expected = shapes(variables["params"]) | shapes(variables.get("batch_stats", {}))
    return {key: shape for key, shape in expected.items() if part_of(key) in parts}


def _output_stride(backbone: str, width: float, decoder: str) -> int:
    """The first output stride of a backbone at which the decoder finds the features that it reads."""
    entry, reads = BACKBONES[backbone], DECODERS[decoder].reads
    strides = entry.output_strides
    return next((s for s in strides if set(reads(s)) <= entry.channels(width, s).keys()), strides[0])


def _channels(found: Found, key: str) -> int:
    """Output channels of a convolution; 1 where the shape is wrong, which the check of shapes reports later."""
    if key not in found.keys:
        raise UserError(f"{found.where}: another architecture: {rename(key, found.modules)} is missing")
    shape = found.state[found.keys[key]].shape
    return max(shape[0], 1) if shape else 1
