"""Pixels against prototypes: the method itself (METHOD.md sections 3 and 4), with unlabelled datasets (section 7)."""

import functools

import jax.numpy as jnp

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method import losses, mixing, prototypes
from mdp_jax.method.pseudo_labels import pseudo_labels, spread
from mdp_jax.objectives.objective import (
    Before,
    MomentumEncoder,
    Objective,
    apply,
    batch_as_it_is,
    labels_of_features,
    pixel_metrics,
    pixels_of_loss,
)
from mdp_jax.training.accumulation import Mean

MOMENTUM_VIEWS = ("clean", "mixed")


def prototype_objective(config, label_space: LabelSpace, devices: int, options: losses.LossOptions) -> Objective:
    """Multi-Dataset Pretraining: prototypes, momentum encoder, and sparse coding as the `options` have it.

    Args:
      config, label_space, devices: as for objectives.objective.
      options: of the loss.
    """
    encoder = MomentumEncoder(config, devices)
    chunk = max(1, config.method.loss_chunk * devices * config.accumulate // config.batch)
    bank_dtype = jnp.promote_types(config.model.param_dtype, jnp.float32)
    mixed = config.method.momentum_view == "mixed"
    keys = functools.partial(_mixed_keys, dtype=config.model.compute_dtype) if mixed else _clean_keys

    def memory(params, batch_stats):
        bank = prototypes.empty_bank(label_space.num_classes, config.model.projection.dim, bank_dtype)
        return encoder.copied(params, batch_stats) | {"bank": bank}

    def loss(params, batch_stats, state, query):
        vectors, batch_stats = apply(encoder.network, params, batch_stats, query.image)
        vectors, labels = pixels_of_loss(vectors, query.labels, config)
        loss, pixels = losses.prototype_loss(vectors, labels, query.weights[:, :, 0], state.bank, options, chunk)
        weight = jnp.sum(pixels.weight)
        parts = {"prototype_loss": pixels.prototype, "sparse_loss": pixels.sparse}
        metrics = {name: Mean(jnp.sum(part), weight) for name, part in parts.items()}
        metrics |= pixel_metrics(pixels.prototype, pixels.hit, pixels.weight, labels, label_space)
        return loss, (weight, batch_stats, metrics)

    def follow(state, params, batch, kept):
        # With unlabelled datasets the embeddings were needed before the loss.
        images, labels = keys(batch)
        vectors, batch_stats = kept["keys"] if kept else encoder.embed(state, images)
        labels = labels_of_features(labels, config).astype(jnp.int32)
        bank = prototypes.update_bank(state.bank, vectors, labels, config.method.prototype_momentum)
        parts = {
            "momentum_params": encoder.averaged(state, params),
            "momentum_batch_stats": batch_stats,
            "bank": bank,
        }
        metrics = {"classes_seen": jnp.sum(bank.seen, dtype=jnp.int32), "bank_cosine": prototypes.mean_cosine(bank)}
        return parts, metrics | (kept["metrics"] if kept else {})

    unlabelled = label_space.unlabelled()
    before = _labelling(config, encoder, unlabelled, devices) if unlabelled.any() else batch_as_it_is
    return Objective(encoder.network, memory, before, loss, follow)


def _clean_keys(batch):
    return batch["key_image"], batch["key_label"]


def _mixed_keys(batch, dtype):
    """The second view mixed as the first is. Blended photos have no label here: they are of no single class."""
    image, label = batch["key_image"].astype(jnp.promote_types(dtype, jnp.float32)), batch["key_label"]
    image, labels, _ = mixing.mix_pairs(image, label.astype(jnp.int32), batch["mix_kind"], batch["lam"], batch["box"])
    blended = jnp.repeat(batch["mix_kind"] == mixing.PIXEL, 2)
    return image, jnp.where(blended[:, None, None], -1, labels[..., 0])


def _labelling(config, encoder: MomentumEncoder, unlabelled, devices: int):
    """`before` that labels the photos of unlabelled datasets by the momentum encoder's view of the same crop."""
    stride, method = config.model.output_stride, config.method
    chunk = max(1, method.loss_chunk * devices // config.batch)

    def before(state, batch):
        vectors, batch_stats = encoder.embed(state, batch["key_image"])
        found = pseudo_labels(vectors, state.bank, method.temperature, method.pseudo_threshold, chunk)
        height, width = (side // stride for side in batch["label"].shape[1:])
        found = found.reshape(-1, height, width)
        wanted = jnp.asarray(unlabelled)[batch["dataset"]][:, None, None]
        label = jnp.where(wanted, spread(found, stride), batch["label"].astype(jnp.int32))
        pixels = jnp.sum(wanted) * height * width
        passed = jnp.sum(wanted & (found >= 0))
        fraction = jnp.where(pixels > 0, passed / jnp.maximum(pixels, 1), jnp.nan)
        return Before(label, {}, {"keys": (vectors, batch_stats), "metrics": {"pseudo_fraction": fraction}})

    return before
