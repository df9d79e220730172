"""Pixels against prototypes: the method itself (METHOD.md sections 3 and 4), with unlabelled datasets (section 7)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mdp_jax.configs import MethodConfig, PretrainModelConfig
from mdp_jax.method import losses, mixing, prototypes
from mdp_jax.method.prototypes import Bank
from mdp_jax.method.pseudo_labels import pseudo_labels, spread
from mdp_jax.method.weights import pixel_weights
from mdp_jax.models import network
from mdp_jax.models.apply import apply_evaluation, apply_training
from mdp_jax.objectives.momentum import SHARDINGS, MomentumEncoder, averaged
from mdp_jax.objectives.objective import (
    ClassRows,
    Functions,
    Logits,
    Objective,
    Prepare,
    Prepared,
    Query,
    Rows,
    Setting,
    State,
    labels_of_features,
    pixel_metrics,
    pixels_of_loss,
    prepare_nothing,
)
from mdp_jax.objectives.parts import Aux, Mean


def loss_options(method: MethodConfig) -> losses.LossOptions:
    """The static values of the prototype loss.

    Args:
      method: the config's `method`.
    """
    return losses.LossOptions(
        method.temperature,
        method.sparse_coding,
        method.sparse_classes,
        method.sparse_weight,
        method.sparse_temperature,
        method.related_as,
    )


def functions(setting: Setting) -> Functions:
    """Makes Multi-Dataset Pretraining: prototypes, momentum encoder, and sparse coding by the method's values.

    Args:
      setting: of the objective.
    """
    method, label_space, stride = setting.method, setting.label_space, setting.stride
    options = loss_options(method)
    encoder = MomentumEncoder(setting)
    images = max(1, setting.batch // (setting.devices * setting.accumulate))  # of a device at one time
    chunk, on_cpu = max(1, method.loss_chunk // images), losses.cpu_chunk(images, label_space.num_classes)
    bank_dtype = jnp.promote_types(setting.model.param_dtype, jnp.float32)
    mixed = method.momentum_view == "mixed"
    related, starts = (None if found is None else jnp.asarray(found) for found in setting.names)
    sets = jnp.asarray(label_space.dataset_of()) if method.negatives == "own_set" else None

    def init(params: dict, batch_stats: dict) -> dict:
        dim = setting.model.projection.dim
        bank = prototypes.empty_bank(label_space.num_classes, dim, bank_dtype, method.class_frequencies, starts)
        return encoder.init(params, batch_stats) | {"bank": bank}

    def loss(params: dict, batch_stats: dict, state: State, query: Query) -> tuple[jax.Array, Aux]:
        outputs = apply_training(encoder.network, params, batch_stats, query.image)
        vectors, labels = pixels_of_loss(outputs.values, query.labels, stride, method.label_stride)
        bank = state.memory["bank"]
        weights = pixel_weights(labels, query.weights[:, :, 0], label_space.num_classes, method.pixel_weights)
        loss, pixels = losses.prototype_loss(vectors, labels, weights, bank, options, chunk, related, sets, on_cpu)
        weight = jnp.sum(pixels.weight)
        parts = {"prototype_loss": pixels.prototype, "sparse_loss": pixels.sparse}
        metrics = {name: Mean(jnp.sum(part), weight) for name, part in parts.items()}
        metrics |= pixel_metrics(pixels.prototype, pixels.hit, pixels.weight, labels, label_space)
        return loss, Aux(weight, outputs.batch_stats, metrics)

    def update(state: State, params: dict, batch: dict, carry: dict) -> tuple[dict, dict]:
        images, labels = _mixed_keys(batch, setting.model.compute_dtype) if mixed else _clean_keys(batch)
        # With unlabelled datasets the embeddings were computed before the loss.
        embedded = carry["embedded"] if carry else encoder.embed(state.memory, images)
        labels = labels_of_features(labels, stride, method.label_stride).astype(jnp.int32)
        before, momentum = state.memory["bank"], method.prototype_momentum
        bank = prototypes.update_bank(
            before,
            embedded.vectors,
            labels,
            momentum,
            method.start_from_names,
            method.prototype_warmup,
            setting.devices,
        )
        memory = encoder.update(state.memory, params, embedded.batch_stats) | {"bank": bank}
        metrics = {"classes_seen": jnp.sum(bank.seen, dtype=jnp.int32), "bank_cosine": prototypes.mean_cosine(bank)}
        return memory, metrics | (carry["metrics"] if carry else {})

    unlabelled = label_space.unlabelled()
    prepare = _labelling(setting, encoder, unlabelled) if unlabelled.any() else prepare_nothing
    return Functions(encoder.network, init, prepare, loss, update)


def _clean_keys(batch: dict) -> tuple[jax.Array, jax.Array]:
    return batch["key_image"], batch["key_label"]


def _mixed_keys(batch: dict, dtype: str) -> tuple[jax.Array, jax.Array]:
    """The second view, mixed like the first. Blended photos have no label here: they have no single class."""
    image, label = batch["key_image"].astype(jnp.promote_types(dtype, jnp.float32)), batch["key_label"]
    mixed = mixing.mix_pairs(image, label.astype(jnp.int32), batch["mix_kind"], batch["lam"], batch["box"])
    blended = jnp.repeat(batch["mix_kind"] == mixing.PIXEL, 2)
    return mixed.images, jnp.where(blended[:, None, None], -1, mixed.labels[..., 0])


def _labelling(setting: Setting, encoder: MomentumEncoder, unlabelled: np.ndarray) -> Prepare:
    """A `prepare` that labels the photos of unlabelled datasets by the momentum encoder's view of the same crop."""
    stride, method = setting.stride, setting.method
    chunk = max(1, method.loss_chunk * setting.devices // setting.batch)

    def prepare(state: State, batch: dict) -> Prepared:
        embedded = encoder.embed(state.memory, batch["key_image"])
        found = pseudo_labels(
            embedded.vectors, state.memory["bank"], method.temperature, method.pseudo_threshold, chunk
        )
        height, width = (side // stride for side in batch["label"].shape[1:])
        found = found.reshape(-1, height, width)
        wanted = jnp.asarray(unlabelled)[batch["dataset"]][:, None, None]
        label = jnp.where(wanted, spread(found, stride), batch["label"].astype(jnp.int32))
        pixels = jnp.sum(wanted) * height * width
        passed = jnp.sum(wanted & (found >= 0))
        fraction = jnp.where(pixels > 0, passed / jnp.maximum(pixels, 1), jnp.nan)
        return Prepared(label, {}, {"embedded": embedded, "metrics": {"pseudo_fraction": fraction}})

    return prepare


def bank(memory: dict) -> Bank:
    """The prototypes in a memory of this objective.

    Args:
      memory: from a state, or nested dicts from a checkpoint.
    """
    found = memory["bank"]
    return found if isinstance(found, Bank) else Bank(**found)


def scorer(model: PretrainModelConfig, method: MethodConfig, num_classes: int, ids: np.ndarray) -> Logits:
    """Makes the function of the logits v . P_c / tau (+ log frequency; METHOD.md section 4) of one dataset's classes.

    The logit of a class never seen is -2 / tau (+ the smallest log frequency), which is below those of all others. The
    logits are interpolated at the points at which evaluation expects them.

    Args:
      model: the network with its projection.
      method: values of the objective.
      num_classes: not used.
      ids: int [C_d], global ids of the dataset's classes.
    """
    del num_classes
    encoder, stride = network.pixel_encoder(model), network.feature_stride(model)

    def logits_of(variables: dict, images: jax.Array) -> jax.Array:
        vectors = apply_evaluation(encoder, variables, images)
        found = bank(variables["memory"])
        similarity = jnp.einsum("bhwd,cd->bhwc", vectors, found.vectors[ids], precision=jax.lax.Precision.HIGHEST)
        seen = found.seen[ids].reshape(1, 1, 1, -1)
        # -2 is below every cosine, and stays finite when windows are added up and resized.
        logits = jnp.where(seen, similarity, -2.0) / method.temperature
        if (shares := found.log_frequencies) is not None:
            # A class never seen has no share: that of the rarest class keeps it below all others.
            shares = jnp.where(found.seen, shares, jnp.min(shares))
            logits = logits + shares[ids].reshape(1, 1, 1, -1)
        # After training on the labels y[::s, ::s], feature i describes pixel s i; evaluation expects a cell's middle.
        for axis in () if network.label_stride(model, method.label_stride) else (1, 2):
            logits = _at_cells(logits, axis, stride, images.shape[axis])
        return logits

    return logits_of


def _at_cells(x: jax.Array, axis: int, stride: int, side: int) -> jax.Array:
    """Interpolates values at the pixels 0, s, 2 s, ... of an axis linearly in the middles of its n equal cells.

    Args:
      x: [B,h,w,C].
      axis: the axis, of n values.
      stride: s.
      side: pixels that the n cells cover; beyond the last pixel its value is repeated.
    """
    n = x.shape[axis]
    at = np.clip((((np.arange(n) + 0.5) * side / n) - 0.5) / stride, 0, n - 1)
    low = at.astype(np.int32)
    share = np.expand_dims(at - low, [i for i in range(x.ndim) if i != axis]).astype(x.dtype)
    high = jnp.take(x, np.minimum(low + 1, n - 1), axis=axis)
    return (1 - share) * jnp.take(x, low, axis=axis) + share * high


def _merge(rows: Rows) -> Rows:
    """One prototype of several: the mean of those seen, by their images, as a unit vector. Counts are added up."""
    images = rows[_IMAGES].astype(np.float64)
    # Where none was seen, of the places where they start, if there are any.
    total = (images if images.any() else np.ones_like(images)) @ rows[_VECTORS].astype(np.float64)
    merged = {path: row.sum(axis=0, dtype=row.dtype) for path, row in rows.items()}
    return merged | {_VECTORS: (total / max(float(np.linalg.norm(total)), 1e-12)).astype(rows[_VECTORS].dtype)}


def _adopt(directions: np.ndarray, photos: np.ndarray, features: np.ndarray) -> Rows:
    """Prototypes as after the first batch that holds these photos."""
    return {_VECTORS: directions, _IMAGES: photos, _PIXELS: features}


def _directions(variables: dict) -> np.ndarray:
    found = bank(variables["memory"])
    return np.where(np.asarray(found.images_seen)[:, None] > 0, np.asarray(found.vectors), 0)


_VECTORS, _IMAGES, _PIXELS = (f"memory/bank/{name}" for name in ("vectors", "images_seen", "pixels"))

MDP = Objective(
    functions,
    head="projection",
    two_views=True,
    mixes=True,
    unlabelled=True,
    shardings=(*SHARDINGS, (r"bank/(vectors|images_seen|pixels)", PartitionSpec())),
    scorer=scorer,
    loss_options=loss_options,
    bank=bank,
    class_rows=ClassRows(((r"memory/bank/.*", 0),), _merge, _directions, "projection", _adopt),
    weighs=True,
    averaged=averaged,
    relates=True,
)
