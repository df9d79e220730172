"""What pretraining minimises, by name: the method itself and what it is compared with (METHOD.md sections 3, 4 and 7).

An objective is a network, the state that it needs beside the query network's, a loss, and what follows the optimizer.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method import baselines, losses, prototypes
from mdp_jax.models import network
from mdp_jax.training.accumulation import cut, join
from mdp_jax.training.normalisation import normalise_image


class Query(NamedTuple):
    """The mixed view of a batch.

    Attributes:
      image: float [B, H, W, 3], normalised.
      labels: int [B, H, W, 2], global ids, -1 = ignore or no second label.
      weights: float [B, 1, 1, 2], of the two labels.
    """

    image: jax.Array
    labels: jax.Array
    weights: jax.Array


class Objective(NamedTuple):
    """One objective for one config and label space.

    Attributes:
      network: of the query; params, batch_stats = its variables.
      memory: (params, batch_stats) -> the parts of PretrainState that this objective has beside them, at step 0.
      loss: (params, batch_stats, state before the step, Query) -> loss, (sum of weights, batch_stats, metrics).
      follow: (state, params after the optimizer, batch) -> those parts after the step, metrics.
    """

    network: network.PixelEncoder | network.Segmenter
    memory: Callable
    loss: Callable
    follow: Callable


def _flat(x: jax.Array) -> jax.Array:
    """[B, h, w, ...] to [B, N, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def _apply(model, params: dict, batch_stats: dict, images: jax.Array) -> tuple[jax.Array, dict]:
    """Outputs [B, h, w, ...] in training, and the running statistics after them."""
    outputs, updated = model.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    return outputs, updated["batch_stats"]


def _loss_of_each_dataset(loss: jax.Array, weight: jax.Array, labels: jax.Array, dataset_of: np.ndarray) -> jax.Array:
    """Mean loss [S] of the pixels of each dataset that carry one label; NaN where a dataset has none."""
    count = int(dataset_of.max()) + 1
    own = labels[..., 0]
    ids = jnp.where((own >= 0) & (labels[..., 1] < 0), jnp.asarray(dataset_of)[jnp.maximum(own, 0)], count)
    sums = jax.ops.segment_sum(jnp.stack([loss, weight], -1).reshape(-1, 2), ids.reshape(-1), count + 1)
    return sums[:count, 0] / jnp.where(sums[:count, 1] > 0, sums[:count, 1], jnp.nan)


def _mean_over(weight: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The sum over pixels divided by the sum of `weight`, 0 where that is 0."""
    total = jnp.sum(weight)
    return lambda values: jnp.sum(values) / jnp.where(total > 0, total, 1.0)


def loss_options(method) -> losses.LossOptions:
    """The static values of the prototype loss from a config's `method`."""
    return losses.LossOptions(
        method.temperature,
        method.sparse_coding,
        method.sparse_classes,
        method.sparse_weight,
        method.sparse_temperature,
    )


def _key_embeddings(encoder, state, images, prepare: Callable, parts: int, devices: int) -> tuple[jax.Array, dict]:
    """The momentum encoder's unit vectors [B, N, D] of uint8 images [B, H, W, 3], and its running statistics."""

    def embed(batch_stats, images):
        vectors, batch_stats = _apply(encoder, state.momentum_params, batch_stats, prepare(images))
        return batch_stats, _flat(vectors)

    if parts == 1:
        batch_stats, vectors = embed(state.momentum_batch_stats, images)
        return vectors, batch_stats
    batch_stats, vectors = jax.lax.scan(embed, state.momentum_batch_stats, cut(images, parts, devices))
    return join(vectors, devices), batch_stats


def _mdp(config, label_space: LabelSpace, devices: int) -> Objective:
    """Multi-Dataset Pretraining: prototypes, momentum encoder, sparse coding (METHOD.md sections 3 and 4)."""
    encoder = network.pixel_encoder(config.model)
    stride, dataset_of = config.model.output_stride, label_space.dataset_of()
    options = loss_options(config.method)
    chunk = max(1, config.method.loss_chunk * devices * config.accumulate // config.batch)
    prepare = functools.partial(normalise_image, data_config=config.data, dtype=config.model.compute_dtype)
    embed_keys = functools.partial(_key_embeddings, encoder, prepare=prepare, parts=config.accumulate, devices=devices)
    bank_dtype = jnp.promote_types(config.model.param_dtype, jnp.float32)

    def memory(params, batch_stats):
        return {
            # Copies: the step is given its input's memory, and one buffer cannot be given twice.
            "momentum_params": jax.tree.map(jnp.copy, params),
            "momentum_batch_stats": jax.tree.map(jnp.copy, batch_stats),
            "bank": prototypes.empty_bank(label_space.num_classes, config.model.projection.dim, bank_dtype),
        }

    def loss(params, batch_stats, state, query):
        vectors, batch_stats = _apply(encoder, params, batch_stats, query.image)
        labels = _flat(query.labels[:, ::stride, ::stride])
        loss, pixels = losses.prototype_loss(_flat(vectors), labels, query.weights[:, :, 0], state.bank, options, chunk)
        mean = _mean_over(pixels.weight)
        return loss, (
            jnp.sum(pixels.weight),
            batch_stats,
            {
                "prototype_loss": mean(pixels.prototype),
                "sparse_loss": mean(pixels.sparse),
                "accuracy": mean(pixels.hit),
                "valid_fraction": jnp.mean(pixels.weight),
                "dataset_loss": _loss_of_each_dataset(pixels.prototype, pixels.weight, labels, dataset_of),
            },
        )

    def follow(state, params, batch):
        vectors, batch_stats = embed_keys(state=state, images=batch["key_image"])
        labels = _flat(batch["key_label"][:, ::stride, ::stride].astype(jnp.int32))
        bank = prototypes.update_bank(state.bank, vectors, labels, config.method.prototype_momentum)
        keep = config.method.encoder_momentum
        momentum_params = jax.tree.map(lambda g, f: keep * g + (1 - keep) * f, state.momentum_params, params)
        parts = {"momentum_params": momentum_params, "momentum_batch_stats": batch_stats, "bank": bank}
        return parts, {
            "classes_seen": jnp.sum(bank.seen, dtype=jnp.int32),
            "bank_cosine": prototypes.mean_cosine(bank),
        }

    return Objective(encoder, memory, loss, follow)


def _multi_head(config, label_space: LabelSpace, devices: int) -> Objective:
    """Cross entropy with one head for each dataset, at the labels' own resolution as in fine-tuning (section 7)."""
    del devices
    model = network.segmenter(config.model, label_space.num_classes)
    dataset_of = label_space.dataset_of()

    def memory(params, batch_stats):
        del params, batch_stats
        return {"momentum_params": {}, "momentum_batch_stats": {}, "bank": {}}

    def loss(params, batch_stats, state, query):
        logits, batch_stats = _apply(model, params, batch_stats, query.image)
        logits = network.upsample(logits, query.labels.shape[1:3])
        labels = _flat(query.labels)
        loss, pixels = baselines.multi_head_cross_entropy(_flat(logits), labels, query.weights[:, :, 0], dataset_of)
        mean = _mean_over(pixels.weight)
        return loss, (
            jnp.sum(pixels.weight),
            batch_stats,
            {
                "accuracy": mean(pixels.hit),
                "valid_fraction": jnp.mean(pixels.weight),
                "dataset_loss": _loss_of_each_dataset(pixels.loss, pixels.weight, labels, dataset_of),
            },
        )

    def follow(state, params, batch):
        del params, batch
        return {name: getattr(state, name) for name in ("momentum_params", "momentum_batch_stats", "bank")}, {}

    return Objective(model, memory, loss, follow)


OBJECTIVES = {"mdp": _mdp, "multi_head": _multi_head}


def objective(config, label_space: LabelSpace, devices: int) -> Objective:
    """The objective that config.objective names.

    Args:
      config: of `mdp pretrain`, checked.
      label_space: of all datasets.
      devices: how many the batch is split over.
    """
    return OBJECTIVES[config.objective](config, label_space, devices)
