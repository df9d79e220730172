"""What an objective of pretraining is, and what several of them share (METHOD.md sections 2 to 4 and 7).

An objective is written in the manner of an optax transformation: pure functions around a memory of its own, which all
go through one training step and which no other code looks into.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mdp_jax.configs import MethodConfig, ModelConfig, PretrainConfig, PretrainModelConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.losses import LossOptions
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.models.apply import Network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.parts import Mean


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an objective is made for.

    Attributes:
      model: the network under the head, and its projection.
      method: values of the objectives.
      label_space: of all datasets.
      normalise: uint8 photos to what the network takes.
      seed: of the run.
      batch: samples of a step.
      accumulate: parts that the batch is taken in.
      devices: how many the batch is split over.
    """

    model: PretrainModelConfig
    method: MethodConfig
    label_space: LabelSpace
    normalise: Normalise
    seed: int
    batch: int
    accumulate: int
    devices: int

    @classmethod
    def of(cls, config: PretrainConfig, label_space: LabelSpace, devices: int) -> "Setting":
        """The setting of a run."""
        return cls(
            config.model,
            config.method,
            label_space,
            Normalise.of(config.data, config.model.compute_dtype),
            config.seed,
            config.batch,
            config.accumulate,
            devices,
        )

    @property
    def stride(self) -> int:
        """Pixels from one feature under the head to the next."""
        return network.feature_stride(self.model)


class Query(NamedTuple):
    """The mixed view of a batch.

    Attributes:
      image: float [B, H, W, 3], normalised.
      labels: int [B, H, W, 2], global ids, -1 = ignore or no second label.
      weights: float [B, 1, 1, 2], of the two labels.
      aux: {name: [B, ...]}, what `prepare` added to the batch for the loss.
    """

    image: jax.Array
    labels: jax.Array
    weights: jax.Array
    aux: dict[str, jax.Array]


class Prepared(NamedTuple):
    """What is known of a batch before the loss, without gradient.

    Attributes:
      label: int [B, H, W], that of the query view, before it is mixed.
      aux: {name: [B, ...]}, what the loss is given of each sample with the query view.
      carry: what `update` is given; any pytree.
    """

    label: jax.Array
    aux: dict[str, jax.Array]
    carry: dict


class Functions(NamedTuple):
    """The functions of one objective in one setting; all pure.

    Attributes:
      network: of the query; params, batch_stats = its variables.
      init: (params, batch_stats) -> memory at step 0, a dict whose leaves `shardings` of the objective match.
      prepare: (state before the step, batch) -> Prepared.
      loss: (params, batch_stats, state before the step, Query) -> loss, (sum of weights, batch_stats, {name: Mean}).
      update: (state before the step, params after the optimizer, batch, `carry`) -> memory after the step, metrics.
    """

    network: Network
    init: Callable
    prepare: Callable
    loss: Callable
    update: Callable


# (variables {"params", "batch_stats", "memory"}, normalised images [B,H,W,3]) -> logits [B,h,w,C_d]
Logits = Callable[[dict, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of pretraining: its functions for a setting, and its facts.

    Attributes:
      functions: for a setting.
      head: what stands on the network's decoder: the projection or a classifier.
      two_views: whether it takes a second view of each sample, `key_image` and `key_label`.
      mixes: whether it is defined for mixed pairs.
      unlabelled: whether it takes datasets without labels.
      label_spaces: the kinds of label space that it is defined for.
      shardings: (regex over paths in the memory, where such a leaf lies); each leaf is matched by one.
      scorer: (model, method, C, global ids of a dataset) -> its logits for the classes of that dataset alone; None for
        an objective without classes.
      loss_options: of the prototype loss for a config's `method`; None for an objective without that loss.
      bank: the prototypes in its memory, as it is in a state or as nested dicts from a checkpoint; None for an
        objective without them.
    """

    functions: Callable[[Setting], Functions]
    head: Literal["projection", "classifier"]
    two_views: bool
    mixes: bool
    unlabelled: bool
    label_spaces: tuple[str, ...] = ("concatenated", "merged")
    shardings: tuple[tuple[str, PartitionSpec], ...] = ()
    scorer: Callable[[ModelConfig, MethodConfig, int, np.ndarray], Logits] | None = None
    loss_options: Callable[[MethodConfig], LossOptions] | None = None
    bank: Callable[[dict], Bank] | None = None


def prepare_nothing(state: Any, batch: dict) -> Prepared:
    """`prepare` of an objective that has nothing to do before its loss."""
    del state
    return Prepared(batch["label"], {}, {})


def flat(x: jax.Array) -> jax.Array:
    """[B, h, w, ...] to [B, N, ...]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def labels_of_features(labels: jax.Array, stride: int, label_stride: int) -> jax.Array:
    """Labels [B, H, W, ...] at feature resolution, flat: [B, N, ...] (METHOD.md section 2).

    y[::s, ::s], where feature i is centred; with a `label_stride` y[s / 2::s, s / 2::s], which is where bilinear
    interpolation of logits, as in fine-tuning, puts feature i.

    Args:
      labels: of the pixels.
      stride: s.
      label_stride: of the config's `method`.
    """
    first = stride // 2 if label_stride else 0
    return flat(labels[:, first::stride, first::stride])


def pixels_of_loss(
    vectors: jax.Array, labels: jax.Array, stride: int, label_stride: int
) -> tuple[jax.Array, jax.Array]:
    """Embeddings [B, h, w, D] and labels [B, H, W, 2] at the resolution of the loss, flat: [B, N, D] and [B, N, 2].

    Every `label_stride`-th label, and the unit vectors interpolated there. They are not normalised again: so the
    logits, which are linear in them, are interpolated too, as in fine-tuning. Without it as `labels_of_features`.

    Args:
      vectors: unit vectors of the features.
      labels: of the pixels.
      stride: pixels from one feature to the next.
      label_stride: of the config's `method`.
    """
    if label_stride in (0, stride):
        return flat(vectors), labels_of_features(labels, stride, label_stride)
    labels = labels[:, label_stride // 2 :: label_stride, label_stride // 2 :: label_stride]
    return flat(network.upsample(vectors, labels.shape[1:3])), flat(labels)


def loss_of_each_dataset(loss: jax.Array, weight: jax.Array, labels: jax.Array, label_space: LabelSpace) -> Mean:
    """The metric `dataset_loss`: mean loss of pixels with one label, in either place, of a class of one dataset alone.

    Args:
      loss: float [B, N], of each pixel.
      weight: float [B, N], of each pixel.
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
      loss: float [B, N], of each pixel, a sum over its labels, times their weights.
      hit: float [B, N], the same of labels that are predicted.
      weight: float [B, N], of each pixel.
      labels: int [B, N, 2], global ids, -1 = ignore or no second label.
      label_space: of S datasets.
    """
    total = jnp.sum(weight)
    return {
        "accuracy": Mean(jnp.sum(hit), total),
        "valid_fraction": Mean(total, jnp.asarray(weight.size)),
        "dataset_loss": loss_of_each_dataset(loss, weight, labels, label_space),
    }
