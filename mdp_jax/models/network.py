"""The networks as the loops use them, made from a config's `model` part (METHOD.md section 2)."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import ModelConfig, PretrainModelConfig
from mdp_jax.errors import UserError
from mdp_jax.method.prototypes import normalise
from mdp_jax.models.entries import Rules
from mdp_jax.models.heads import SHARDING, Classifier, Projection
from mdp_jax.models.layers import REMATERIALISATIONS, Dtypes
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.models.resizing import most_likely as most_likely
from mdp_jax.models.resizing import probabilities as probabilities
from mdp_jax.models.resizing import upsample as upsample

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
PARAM_DTYPES = {"float32": jnp.float32, "float64": jnp.float64}


class PixelEncoder(nn.Module):
    """Maps normalised images [B,H,W,3] to a unit vector for each feature, [B,h,w,D], float32 or wider.

    h = ceil(H/s), w = ceil(W/s), s = `feature_stride`. Parameters {"backbone", "decoder", "projection"}. With `train`,
    "batch_stats" must be mutable; the collection has the parts that have batch normalisation.
    """

    backbone: nn.Module
    decoder: nn.Module
    projection: nn.Module

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = self.decoder(self.backbone(x, train), train)
        return normalise(self.projection(features, train))


class Segmenter(nn.Module):
    """Maps normalised images [B,H,W,3] to logits at feature resolution, [B,h,w,C], float32 or wider.

    h = ceil(H/s), w = ceil(W/s), s = `feature_stride`. Parameters {"backbone", "decoder", "classifier"}. With `train`,
    "batch_stats" must be mutable (a network without batch normalisation has no such collection), and the stream
    "dropout" given where a rate is positive. With `frozen_body` everything under the classifier runs as in evaluation
    (running statistics, no dropout) and lets no gradient through (METHOD.md section 6).
    """

    backbone: nn.Module
    decoder: nn.Module
    classifier: nn.Module
    frozen_body: bool = False

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        train_body = train and not self.frozen_body
        features = self.decoder(self.backbone(x, train_body), train_body)
        if self.frozen_body:
            features = jax.lax.stop_gradient(features)
        return self.classifier(features, train)


def pixel_encoder(model: PretrainModelConfig) -> PixelEncoder:
    """Makes the query or momentum encoder of pretraining.

    Args:
      model: the config's `model`.

    Raises:
      UserError: a value is not supported, or there is dropout, which pretraining does not use (METHOD.md section 2).
    """
    if model.decoder.dropout != 0:
        raise UserError(f"config.model.decoder.dropout={model.decoder.dropout}: pretraining expects 0.0")
    dtypes = _dtypes(model)
    projection = Projection(model.projection.channels, model.projection.dim, dtypes)
    return PixelEncoder(*_body(model, dtypes), projection)


def segmenter(model: ModelConfig, num_classes: int, frozen_body: bool = False) -> Segmenter:
    """Makes the network of fine-tuning.

    Args:
      model: the network under the classifier.
      num_classes: C of the logits.
      frozen_body: whether only the classifier is trained.

    Raises:
      UserError: a value is not supported.
    """
    dtypes = _dtypes(model)
    backbone, decoder = _body(model, dtypes)
    return Segmenter(backbone, decoder, Classifier(num_classes, decoder.classifier_dropout, dtypes), frozen_body)


def feature_stride(model: ModelConfig) -> int:
    """The stride of the features under the head: pixels from one to the next, in each direction.

    Args:
      model: the network under the head.

    Raises:
      UserError: there is no such decoder.
    """
    decoder = _choice("decoder.name", model.decoder.name, DECODERS)
    return decoder.writes(model.output_stride)


def sharding_rules(model: ModelConfig, head: Literal["projection", "classifier"]) -> Rules:
    """Gives the shardings of a network's parameters.

    Args:
      model: the network under the head.
      head: the projection of `pixel_encoder` or the classifier of `segmenter`.

    Returns:
      Pairs of a regex over whole paths such as "backbone/conv1/kernel", and a PartitionSpec over the axis "fsdp". Each
      parameter matches exactly one.

    Raises:
      UserError: there is no such backbone or decoder.
    """
    parts = {
        "backbone": _choice("backbone", model.backbone, BACKBONES).sharding,
        "decoder": _choice("decoder.name", model.decoder.name, DECODERS).sharding,
        head: SHARDING[head],
    }
    return tuple((f"{part}/(?:{pattern})", spec) for part, rules in parts.items() for pattern, spec in rules)


def _dtypes(model: ModelConfig) -> Dtypes:
    compute = _choice("compute_dtype", model.compute_dtype, COMPUTE_DTYPES)
    param = _choice("param_dtype", model.param_dtype, PARAM_DTYPES)
    # JAX makes the attributes of its config when it is imported.
    x64 = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    if jnp.float64 in (compute, param) and not x64:
        raise UserError("config.model: float64 expects the environment variable JAX_ENABLE_X64=1")
    return Dtypes(jnp.dtype(compute), jnp.dtype(param))


def _body(model: ModelConfig, dtypes: Dtypes) -> tuple[nn.Module, nn.Module]:
    """Backbone and decoder, which fit together."""
    backbone = _choice("backbone", model.backbone, BACKBONES)
    decoder = _choice("decoder.name", model.decoder.name, DECODERS)
    _choice("output_stride", model.output_stride, dict.fromkeys(backbone.output_strides))
    _choice("remat", model.remat, REMATERIALISATIONS)
    if decoder.layouts:
        _choice("decoder.layout", model.decoder.layout, decoder.layouts)
    dropout = model.decoder.dropout
    if not 0 <= dropout < 1:
        raise UserError(f"config.model.decoder.dropout={dropout}: expected a rate from 0 to below 1")
    strides = backbone.channels(model.width, model.output_stride)
    missing = [stride for stride in decoder.reads(model.output_stride) if stride not in strides]
    if missing:
        raise UserError(
            f"config.model.decoder.name={model.decoder.name}: reads features at stride {missing[0]}; "
            f"config.model.backbone={model.backbone} has those at {', '.join(map(str, strides))}"
        )
    return backbone.make(model, dtypes), decoder.make(model, dtypes)


def _choice(key: str, value: Hashable, choices: Mapping) -> Any:
    if value not in choices:
        expected = ", ".join(str(name) for name in choices)
        raise UserError(f"config.model.{key}={value}: expected one of {expected}")
    return choices[value]
