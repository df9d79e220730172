"""The networks as the loops use them, made from a config's `model` part (METHOD.md section 2)."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdp_jax.configs import FinetuneModelConfig, ModelConfig, PretrainModelConfig, ProjectionConfig
from mdp_jax.errors import UserError
from mdp_jax.method.prototypes import normalise
from mdp_jax.models.entries import Backbone, Decoder, Layers, Pools, Rules
from mdp_jax.models.heads import SHARDING, Auxiliary, Classifier, Projection
from mdp_jax.models.layers import AUXILIARY, REMATERIALISATIONS, Dtypes
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.models.resizing import most_likely as most_likely
from mdp_jax.models.resizing import probabilities as probabilities
from mdp_jax.models.resizing import upsample as upsample

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
PARAM_DTYPES = {"float32": jnp.float32, "float64": jnp.float64}
LAYERS = ("backbone", "decoder", "projection")  # whose features can be read, from the image upwards


def joined(module: nn.Module, x: jax.Array, layers: tuple[str, ...], train: bool) -> jax.Array:
    """The features of some layers side by side, inside a module that has these layers.

    Args:
      module: bound, with the modules "backbone", "decoder" and, where it is asked for, "projection".
      x: float [B, H, W, 3], normalised.
      layers: some of LAYERS. Of the backbone come the features at its largest stride, of the projection unit vectors.
      train: whether batch normalisation takes the statistics of the batch.

    Returns:
      float [B, h, w, sum of the channels], at the smallest stride of the layers; others are interpolated to it, as
      logits are.
    """
    by_stride = module.backbone(x, train)
    found = {"backbone": by_stride[max(by_stride)]}
    if set(layers) != {"backbone"}:
        found["decoder"] = module.decoder(by_stride, train)
    if "projection" in layers:
        found["projection"] = normalise(module.projection(found["decoder"], train))
    parts = [found[layer] for layer in layers]
    if len(parts) == 1:
        return parts[0]
    sizes = [part.shape[1:3] for part in parts]
    # By strides: sizes that are known only when an exported program runs have no order.
    by_size = (by_stride[stride].shape[1:3] for stride in sorted(by_stride))
    size = next((one for one in by_size if one in sizes), None) or max(sizes)
    return jnp.concatenate([part if part.shape[1:3] == size else upsample(part, size) for part in parts], axis=-1)


class PixelEncoder(nn.Module):
    """Maps normalised images [B,H,W,3] to a unit vector for each feature, [B,h,w,D], float32 or wider.

    h = ceil(H/s), w = ceil(W/s), s = `feature_stride`. Parameters {"backbone", "decoder", "projection"}. With `train`,
    "batch_stats" must be mutable; the collection has the parts that have batch normalisation.
    """

    backbone: nn.Module
    decoder: nn.Module
    projection: nn.Module

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return joined(self, x, ("projection",), train)


class Segmenter(nn.Module):
    """Maps normalised images [B,H,W,3] to logits at feature resolution, [B,h,w,C], float32 or wider.

    h = ceil(H/s), w = ceil(W/s), s = `feature_stride`. Parameters {"backbone", "decoder", "classifier"}. With `train`,
    "batch_stats" must be mutable (a network without batch normalisation has no such collection), and the stream
    "dropout" given where a rate is positive. With `frozen_body` everything under the classifier runs as in evaluation
    (running statistics, no dropout) and lets no gradient through (METHOD.md section 6). The classifier stands on the
    layers `reads` (METHOD.md section 8); a layer that none of them needs has no parameters.

    `auxiliary` is a second head, for training alone: where the collection AUXILIARY is mutable, its "logits" [B,h,w,C]
    are those of this head (see models/apply.py). Parameters "auxiliary".
    """

    backbone: nn.Module
    decoder: nn.Module
    classifier: nn.Module
    frozen_body: bool = False
    reads: tuple[str, ...] = ("decoder",)
    projection: nn.Module | None = None
    auxiliary: nn.Module | None = None

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        train_body = train and not self.frozen_body
        features = joined(self, x, self.reads, train_body)
        if self.auxiliary is not None and self.is_initializing():
            self.auxiliary(self._like_third_stage(x), train)
        elif self.auxiliary is not None and self.is_mutable_collection(AUXILIARY):
            (third,) = jax.tree.leaves(self.backbone.variables[AUXILIARY])
            self.sow(AUXILIARY, "logits", self.auxiliary(third, train), reduce_fn=lambda _, y: y, init_fn=lambda: None)
        if self.frozen_body:
            features = jax.lax.stop_gradient(features)
        return self.classifier(features, train)

    def _like_third_stage(self, x: jax.Array) -> jax.Array:
        """Zeros of the shape of the third stage's features, which initialising does not give."""
        backbone = self.backbone.clone(parent=None)

        def given(variables: dict) -> dict:
            return cast(dict, backbone.apply(variables, x, train=False, mutable=[AUXILIARY])[1])

        (third,) = jax.tree.leaves(jax.eval_shape(given, self.backbone.variables))
        return jnp.zeros(third.shape, third.dtype)


def pixel_encoder(model: PretrainModelConfig) -> PixelEncoder:
    """Makes the query or momentum encoder of pretraining.

    Args:
      model: the config's `model`.

    Raises:
      UserError: a value is not supported, or there is dropout or stochastic depth, which pretraining does not use
        (METHOD.md section 2).
    """
    if model.decoder.dropout != 0:
        raise UserError(f"config.model.decoder.dropout={model.decoder.dropout}: expected 0.0 in pretraining")
    if model.drop_path != 0:
        raise UserError(f"config.model.drop_path={model.drop_path}: expected 0.0 in pretraining")
    dtypes = _dtypes(model)
    return PixelEncoder(*_body(model, dtypes), _projection(model.projection, dtypes))


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
    classifier = Classifier(num_classes, decoder.classifier_dropout, dtypes)
    if not isinstance(model, FinetuneModelConfig):
        return Segmenter(backbone, decoder, classifier, frozen_body)
    require_layers(model.reads, "config.model.reads=")
    projection = _projection(model.projection, dtypes) if "projection" in model.reads else None
    auxiliary = None
    if model.auxiliary.weight:
        require_third_stage(model)
        auxiliary = Auxiliary(model.auxiliary.channels, num_classes, decoder.classifier_dropout, dtypes)
    return Segmenter(backbone, decoder, classifier, frozen_body, model.reads, projection, auxiliary)


def require_third_stage(model: ModelConfig) -> None:
    """Checks that a backbone gives an auxiliary head the features that it reads.

    Args:
      model: the network.

    Raises:
      UserError: it does not.
    """
    strides = BACKBONES[model.backbone].third_stage
    if model.output_stride not in strides:
        expected = f"config.model.output_stride={strides[0]}, or " if strides else ""
        raise UserError(
            f"config.model.auxiliary.weight: config.model.backbone={model.backbone} with output stride "
            f"{model.output_stride} has no features of a third stage, which an auxiliary head reads; expected "
            f"{expected}config.model.auxiliary.weight=0"
        )


def without_auxiliary(variables: dict) -> dict:
    """Leaves out the auxiliary head, which only training uses.

    Args:
      variables: nested dicts; those of them that hold parts of a network are "params" and "batch_stats".
    """

    def kept(parts: dict) -> dict:
        return {part: values for part, values in parts.items() if part != AUXILIARY}

    return {name: kept(value) if name in ("params", "batch_stats") else value for name, value in variables.items()}


def require_layers(layers: tuple[str, ...], where: str) -> None:
    """Checks names of layers.

    Args:
      layers: the names.
      where: what the error begins with, such as "config.model.reads=" or "--layer ".

    Raises:
      UserError: there is none, one that no network has, or one twice.
    """
    if not layers or not set(layers) <= set(LAYERS) or len(set(layers)) < len(layers):
        raise UserError(f"{where}{'+'.join(layers):.80}: expected some of {', '.join(LAYERS)}, each once")


def _projection(projection: ProjectionConfig, dtypes: Dtypes) -> Projection:
    return Projection(projection.channels, projection.dim, dtypes, projection.final_norm, projection.layers)


def feature_stride(model: ModelConfig) -> int:
    """The stride of the features under the head: pixels from one to the next, in each direction.

    Args:
      model: the network under the head.

    Raises:
      UserError: there is no such decoder.
    """
    decoder = _choice("decoder.name", model.decoder.name, DECODERS)
    return decoder.writes(model.output_stride)


def pools(model: ModelConfig) -> Pools | None:
    """The features that the decoder averages over the whole image; None where it averages none, or is not there.

    Args:
      model: the network under the head.

    Raises:
      UserError: there is no such decoder.
    """
    decoder: Decoder = _choice("decoder.name", model.decoder.name, DECODERS)
    is_read = not isinstance(model, FinetuneModelConfig) or set(model.reads) != {"backbone"}
    return decoder.pools(model.output_stride) if is_read and decoder.pools is not None else None


def backbone_features(model: ModelConfig, variables: dict, images: jax.Array) -> dict[int, jax.Array]:
    """The features of the backbone alone, with its running statistics.

    Args:
      model: the network under the head.
      variables: of a network of this module; its parts "backbone" are read.
      images: float [B, H, W, 3], normalised.

    Returns:
      {stride: features [B, h, w, channels]}.

    Raises:
      UserError: a value of the config is not supported.
    """
    backbone, _ = _body(model, _dtypes(model))
    own = {name: variables[name].get("backbone", {}) for name in ("params", "batch_stats")}
    return cast(dict[int, jax.Array], backbone.apply(own, images, train=False))


def label_stride(model: ModelConfig, wanted: int) -> int:
    """The `label_stride` of the loss, where a backbone of patches gives 0 another meaning (METHOD.md section 2).

    With 0 there is a label for each feature, where the feature is centred: on pixel s i or, with patches, in the middle
    of the cell. The second is what a label stride of s says.

    Args:
      model: the network under the head.
      wanted: of the config's `method`.
    """
    backbone = _choice("backbone", model.backbone, BACKBONES)
    return wanted or (feature_stride(model) if backbone.centre == "cell" else 0)


def layers(model: ModelConfig) -> Layers | None:
    """The layers of a network's backbone, for layer-wise decay; None where it declares none.

    Args:
      model: the network under the head.

    Raises:
      UserError: there is no such backbone.
    """
    backbone: Backbone = _choice("backbone", model.backbone, BACKBONES)
    return backbone.layers


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
    if isinstance(model, FinetuneModelConfig) and "projection" in model.reads:
        parts["projection"] = SHARDING["projection"]
    if isinstance(model, FinetuneModelConfig) and model.auxiliary.weight:
        parts[AUXILIARY] = SHARDING[AUXILIARY]
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
    if model.output_stride not in backbone.output_strides:
        *most, last = map(str, backbone.output_strides)
        strides = f"{', '.join(most)} or {last}" if most else last
        raise UserError(
            f"config.model.output_stride={model.output_stride}: expected {strides} with "
            f"config.model.backbone={model.backbone}"
        )
    _choice("remat", model.remat, REMATERIALISATIONS)
    if decoder.layouts:
        _choice("decoder.layout", model.decoder.layout, decoder.layouts)
    if not 0 <= model.drop_path < 1:
        raise UserError(f"config.model.drop_path={model.drop_path}: expected a rate from 0 to below 1")
    if model.drop_path and not backbone.stochastic_depth:
        having = ", ".join(name for name, entry in BACKBONES.items() if entry.stochastic_depth)
        raise UserError(
            f"config.model.drop_path={model.drop_path}: expected 0.0 with config.model.backbone={model.backbone}, "
            f"which has no stochastic depth; those that have are {having}"
        )
    if model.window < 0:
        raise UserError(f"config.model.window={model.window}: expected a number of patches, or 0 for no windows")
    if model.window and not backbone.windows:
        having = ", ".join(name for name, entry in BACKBONES.items() if entry.windows)
        raise UserError(
            f"config.model.window={model.window}: expected 0 with config.model.backbone={model.backbone}, which has no "
            f"windows of this size; those that can have them are {having}"
        )
    dropout = model.decoder.dropout
    if not 0 <= dropout < 1:
        raise UserError(f"config.model.decoder.dropout={dropout}: expected a rate from 0 to below 1")
    strides = backbone.channels(model.width, model.output_stride)
    missing = [stride for stride in decoder.reads(model.output_stride) if stride not in strides]
    if missing:
        raise UserError(
            f"config.model.decoder.name={model.decoder.name}: reads features at stride {missing[0]}; "
            f"config.model.backbone={model.backbone} has those at {', '.join(map(str, strides))}; "
            f"expected {_fitting(model, backbone, decoder)}"
        )
    return backbone.make(model, dtypes), decoder.make(model, dtypes)


def _fitting(model: ModelConfig, backbone: Backbone, decoder: Decoder) -> str:
    """What to change where a decoder does not find its features: the output stride, or else the decoder."""

    def fits(reads: Callable[[int], tuple[int, ...]], stride: int) -> bool:
        return set(reads(stride)) <= backbone.channels(model.width, stride).keys()

    strides = [stride for stride in backbone.output_strides if fits(decoder.reads, stride)]
    if strides:
        return f"config.model.output_stride={strides[0]}, where it has them"
    names = [name for name, entry in DECODERS.items() if fits(entry.reads, model.output_stride)]
    return f"another backbone, or one of the decoders {', '.join(names)}"


def _choice(key: str, value: Hashable, choices: Mapping) -> Any:
    if value not in choices:
        expected = ", ".join(str(name) for name in choices)
        raise UserError(f"config.model.{key}={value!s:.80}: expected one of {expected}")
    return choices[value]
