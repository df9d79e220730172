"""What an objective of pretraining is, and what several of them share (METHOD.md sections 2 to 4 and 7)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.models import network
from mdp_jax.models.normalisation import normalise_image
from mdp_jax.training.accumulation import Mean, cut, join


class Query(NamedTuple):
    """The mixed view of a batch.

    Attributes:
      image: float [B, H, W, 3], normalised.
      labels: int [B, H, W, 2], global ids, -1 = ignore or no second label.
      weights: float [B, 1, 1, 2], of the two labels.
      beside: {name: [B, ...]}, what `before` added to the batch for the loss.
    """

    image: jax.Array
    labels: jax.Array
    weights: jax.Array
    beside: dict[str, jax.Array]


class Before(NamedTuple):
    """What is known of a batch before the loss, without gradient.

    Attributes:
      label: int [B, H, W], that of the query view, before it is mixed.
      beside: {name: [B, ...]}, what the loss is given of each sample beside the query view.
      kept: what `follow` is given; anything.
    """

    label: jax.Array
    beside: dict[str, jax.Array]
    kept: dict


class Objective(NamedTuple):
    """One objective for one config and label space.

    Attributes:
      network: of the query; params, batch_stats = its variables.
      memory: (params, batch_stats) -> the parts of PretrainState that this objective has beside them, at step 0.
      before: (state before the step, batch) -> Before.
      loss: (params, batch_stats, state before the step, Query) -> loss, (sum of weights, batch_stats, {name: Mean}).
      follow: (state, params after the optimizer, batch, `kept`) -> those parts after the step, metrics.
    """

    network: network.PixelEncoder | network.Segmenter
    memory: Callable
    before: Callable
    loss: Callable
    follow: Callable


def batch_as_it_is(state, batch: dict) -> Before:
    """`before` of an objective that has nothing to do before its loss."""
    del state
    return Before(batch["label"], {}, {})


def flat(x: jax.Array) -> jax.Array:
    """[B, h, w, ...] to [B, N, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def labels_of_features(labels: jax.Array, config) -> jax.Array:
    """Labels [B, H, W, ...] at feature resolution, flat: [B, N, ...] (METHOD.md section 2).

    y[::s, ::s], where feature i is centred; with `method.label_stride` y[s / 2::s, s / 2::s], which is where bilinear
    interpolation of logits, as in fine-tuning, puts feature i.
    """
    stride = config.model.output_stride
    first = stride // 2 if config.method.label_stride else 0
    return flat(labels[:, first::stride, first::stride])


def pixels_of_loss(vectors: jax.Array, labels: jax.Array, config) -> tuple[jax.Array, jax.Array]:
    """Embeddings [B, h, w, D] and labels [B, H, W, 2] at the resolution of the loss, flat: [B, N, D] and [B, N, 2].

    Every `method.label_stride`-th label, and the unit vectors interpolated there. They are not normalised again: so the
    logits, which are linear in them, are interpolated too, as in fine-tuning. Without it as `labels_of_features`.
    """
    stride = config.method.label_stride
    if stride in (0, config.model.output_stride):
        return flat(vectors), labels_of_features(labels, config)
    labels = labels[:, stride // 2 :: stride, stride // 2 :: stride]
    return flat(network.upsample(vectors, labels.shape[1:3])), flat(labels)


def apply(model, params: dict, batch_stats: dict, images: jax.Array) -> tuple[jax.Array, dict]:
    """Outputs [B, h, w, ...] in training, and the running statistics after them."""
    outputs, updated = model.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    return outputs, updated["batch_stats"]


def loss_of_each_dataset(loss: jax.Array, weight: jax.Array, labels: jax.Array, label_space: LabelSpace) -> Mean:
    """The metric `dataset_loss`: mean loss of pixels with one label, in either place, of a class of one dataset alone.

    Args:
      loss, weight: float [B, N], of each pixel.
      labels: int [B, N, 2], global ids, -1 = ignore or no label.
      label_space: of S datasets.

    Returns:
      Mean of float [S], NaN where the batch has no such pixel.
    """
    count = len(label_space.datasets)
    dataset_of = jnp.asarray(label_space.dataset_of())
    single = jnp.sum(labels >= 0, axis=-1) == 1
    ids = jnp.where(single, dataset_of[jnp.maximum(jnp.max(labels, axis=-1), 0)], count)
    sums = jax.ops.segment_sum(jnp.stack([loss, weight], -1).reshape(-1, 2), ids.reshape(-1), count + 1)
    return Mean(sums[:count, 0], sums[:count, 1], jnp.nan)


def pixel_metrics(
    loss: jax.Array, hit: jax.Array, weight: jax.Array, labels: jax.Array, label_space: LabelSpace
) -> dict[str, Mean]:
    """The metrics that every objective has: `accuracy`, `valid_fraction` and `dataset_loss`.

    Args:
      loss, hit, weight: float [B, N], of each pixel; `loss` and `hit` are sums over its labels, times their weights.
      labels: int [B, N, 2], global ids, -1 = ignore or no second label.
      label_space: of S datasets.
    """
    total = jnp.sum(weight)
    return {
        "accuracy": Mean(jnp.sum(hit), total),
        "valid_fraction": Mean(total, jnp.asarray(weight.size)),
        "dataset_loss": loss_of_each_dataset(loss, weight, labels, label_space),
    }


class MomentumEncoder:
    """The momentum encoder g of a config: how it begins, embeds and follows (METHOD.md sections 2 and 3).

    Attributes:
      network: that of the query encoder.
    """

    def __init__(self, config, devices: int):
        """`config` of `mdp pretrain`; the batch is split over `devices`."""
        self.network = network.pixel_encoder(config.model)
        self._prepare = functools.partial(normalise_image, data_config=config.data, dtype=config.model.compute_dtype)
        self._parts, self._devices = config.accumulate, devices
        self._keep = config.method.encoder_momentum

    def copied(self, params: dict, batch_stats: dict) -> dict:
        """Its parts of PretrainState at step 0."""
        # Copies: the step is given its input's memory, and one buffer cannot be given twice.
        return {
            "momentum_params": jax.tree.map(jnp.copy, params),
            "momentum_batch_stats": jax.tree.map(jnp.copy, batch_stats),
        }

    def embed(self, state, images: jax.Array) -> tuple[jax.Array, dict]:
        """Unit vectors [B, N, D] of images [B, H, W, 3] from 0 to 255, and its running statistics after them."""

        def of_part(batch_stats, images):
            vectors, batch_stats = apply(self.network, state.momentum_params, batch_stats, self._prepare(images))
            return batch_stats, flat(vectors)

        if self._parts == 1:
            batch_stats, vectors = of_part(state.momentum_batch_stats, images)
            return vectors, batch_stats
        images = cut(images, self._parts, self._devices)
        batch_stats, vectors = jax.lax.scan(of_part, state.momentum_batch_stats, images)
        return join(vectors, self._devices), batch_stats

    def averaged(self, state, params: dict) -> dict:
        """Its weights after the step: m_enc g + (1 - m_enc) new f."""
        return jax.tree.map(lambda g, f: self._keep * g + (1 - self._keep) * f, state.momentum_params, params)
