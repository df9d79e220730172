"""What an objective of pretraining is, and what several of them share (METHOD.md sections 2 to 4 and 7).

An objective is like an optax transformation: pure functions with their own memory. All objectives use one training
step, and no other code reads the memory.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mdp_jax.configs import MethodConfig, PretrainConfig, PretrainModelConfig
from mdp_jax.data.class_names import NO_RELATIONS, NameRelations
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.losses import LossOptions
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.models.apply import Network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.parts import Aux, Mean


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an objective is made for.

    Attributes:
      model: the network under the head, and its projection.
      method: values of the objectives; its label stride is that of `network.label_stride`.
      label_space: of all datasets.
      normalise: makes the network's inputs from uint8 photos.
      seed: of the run.
      batch: samples of a step.
      accumulate: number of parts that the gradient of a batch is computed in.
      devices: number of devices that the batch is split over.
      names: what the names of the classes say.
    """

    model: PretrainModelConfig
    method: MethodConfig
    label_space: LabelSpace
    normalise: Normalise
    seed: int
    batch: int
    accumulate: int
    devices: int
    names: NameRelations = NO_RELATIONS

    @classmethod
    def of(
        cls, config: PretrainConfig, label_space: LabelSpace, devices: int, names: NameRelations = NO_RELATIONS
    ) -> "Setting":
        """Makes the setting of a run.

        Args:
          config: of the run; `model`, `method`, `data`, `seed`, `batch` and `accumulate` are read.
          label_space: of all datasets.
          devices: of the mesh.
          names: what the names of the classes say.
        """
        return cls(
            config.model,
            dataclasses.replace(
                config.method, label_stride=network.label_stride(config.model, config.method.label_stride)
            ),
            label_space,
            Normalise.of(config.data, config.model.compute_dtype),
            config.seed,
            config.batch,
            config.accumulate,
            devices,
            names,
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
      aux: {name: [B, ...]}, what `prepare` added for the loss.
    """

    image: jax.Array
    labels: jax.Array
    weights: jax.Array
    aux: dict[str, jax.Array]


class Prepared(NamedTuple):
    """What is computed from a batch before the loss, without gradient.

    Attributes:
      label: int [B, H, W], of the query view, before mixing.
      aux: {name: [B, ...]}, of each sample; the loss gets it in the Query.
      carry: a dict of any pytrees, which `update` gets.
    """

    label: jax.Array
    aux: dict[str, jax.Array]
    carry: dict


class State(Protocol):
    """The parts of the training state that an objective reads (training/state.py)."""

    @property
    def step(self) -> jax.Array:
        """Steps taken, int32 []."""

    @property
    def memory(self) -> dict:
        """The objective's memory."""


Init = Callable[[dict, dict], dict]
Prepare = Callable[[State, dict], Prepared]
Loss = Callable[[dict, dict, State, Query], tuple[jax.Array, Aux]]
Update = Callable[[State, dict, dict, dict], tuple[dict, dict]]


class Functions(NamedTuple):
    """The functions of one objective in one setting; all pure.

    Attributes:
      network: of the query; `params` and `batch_stats` are its variables.
      init: (params, batch_stats) -> memory at step 0, a dict whose leaves the objective's `shardings` match.
      prepare: (state before the step, batch) -> Prepared.
      loss: (params, batch_stats, state before the step, Query) -> loss and Aux.
      update: (state before the step, params after the optimizer, batch, `carry`) -> memory after the step and metrics.
    """

    network: Network
    init: Init
    prepare: Prepare
    loss: Loss
    update: Update


# (variables {"params", "batch_stats", "memory"}, normalised images [B,H,W,3]) -> logits [B,h,w,C_d]
Logits = Callable[[dict, jax.Array], jax.Array]


Rows = dict[str, np.ndarray]  # path of a leaf -> its rows, the axis of the classes first


@dataclasses.dataclass(frozen=True)
class ClassRows:
    """Which parts of a training state have a row for each class, so that classes can come and go (training/editing.py).

    Attributes:
      leaves: pairs of a regex over whole paths in the state, such as "memory/bank/vectors", and the axis of the
        classes. All other leaves have nothing to do with the classes.
      merge: rows [k, ...] of k classes that become one -> rows [...] of this class.
      directions: variables {"params", "memory"} -> float [C, D], a vector for each class with its norm; 0 where there
        is none. Their cosines say which classes are alike.
      layer: the features that they are compared with, as models.apply.apply_layer names them.
      adopt: (unit vectors float64 [C', D] of C' classes from photos, number of photos int64 [C'], of features float64
        [C']) -> rows [C', ...] for some of the leaves, of which a state need not have all; None where photos give none.
    """

    leaves: tuple[tuple[str, int], ...]
    merge: Callable[[Rows], Rows]
    directions: Callable[[dict], np.ndarray]
    layer: str
    adopt: Callable[[np.ndarray, np.ndarray, np.ndarray], Rows] | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of pretraining: its functions for a setting, and its facts.

    Attributes:
      functions: makes the functions for a setting.
      head: the projection or a classifier.
      two_views: whether it reads a second view of each sample, `key_image` and `key_label`.
      mixes: whether it is defined for mixed pairs.
      unlabelled: whether it can use datasets without labels.
      label_spaces: the kinds of label space that it is defined for.
      shardings: pairs of a regex over paths in the memory and a sharding; exactly one regex matches each leaf.
      scorer: (model, method, C, global ids of a dataset's classes) -> function of the logits of these classes; None
        for an objective without classes.
      loss_options: of the prototype loss for a config's `method`; None for an objective without that loss.
      weighs: whether it has the weights of pixels `method.pixel_weights`.
      relates: whether its loss has the relations of classes `method.relations`.
      bank: memory, from a state or as nested dicts from a checkpoint -> prototypes; None for an objective without
        them.
      class_rows: the parts of the state with a row for each class; None for an objective without such parts.
    """

    functions: Callable[[Setting], Functions]
    head: Literal["projection", "classifier"]
    two_views: bool
    mixes: bool
    unlabelled: bool
    label_spaces: tuple[str, ...] = ("concatenated", "merged")
    shardings: tuple[tuple[str, PartitionSpec], ...] = ()
    scorer: Callable[[PretrainModelConfig, MethodConfig, int, np.ndarray], Logits] | None = None
    loss_options: Callable[[MethodConfig], LossOptions] | None = None
    bank: Callable[[dict], Bank] | None = None
    class_rows: ClassRows | None = None
    weighs: bool = False
    relates: bool = False


def prepare_nothing(state: State, batch: dict) -> Prepared:
    """The `prepare` of an objective that computes nothing before its loss.

    Args:
      state: not used.
      batch: of the step.
    """
    del state
    return Prepared(batch["label"], {}, {})


def flat(x: jax.Array) -> jax.Array:
    """Joins the axes of rows and columns.

    Args:
      x: [B, h, w, ...].

    Returns:
      [B, N, ...] with N = h w.
    """
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def labels_of_features(labels: jax.Array, stride: int, label_stride: int) -> jax.Array:
    """Takes labels at feature resolution (METHOD.md section 2).

    They are y[::s, ::s], where feature i is centred. With a `label_stride` they are y[s / 2::s, s / 2::s], where
    bilinear interpolation of logits, as in fine-tuning, puts feature i.

    Args:
      labels: [B, H, W, ...], of the pixels.
      stride: s.
      label_stride: of the config's `method`.

    Returns:
      [B, N, ...].
    """
    first = stride // 2 if label_stride else 0
    return flat(labels[:, first::stride, first::stride])


def pixels_of_loss(
    vectors: jax.Array, labels: jax.Array, stride: int, label_stride: int
) -> tuple[jax.Array, jax.Array]:
    """Takes embeddings and labels at the resolution of the loss.

    These are every `label_stride`-th label, and the unit vectors interpolated there. The vectors are not normalised
    again, so the logits, which are linear in them, are interpolated too, as in fine-tuning. With a `label_stride` of 0
    the labels are those of `labels_of_features`.

    Args:
      vectors: [B, h, w, D], unit vectors of the features.
      labels: [B, H, W, 2], of the pixels.
      stride: pixels from one feature to the next.
      label_stride: of the config's `method`.

    Returns:
      Embeddings [B, N, D] and labels [B, N, 2].
    """
    if label_stride in (0, stride):
        return flat(vectors), labels_of_features(labels, stride, label_stride)
    labels = labels[:, label_stride // 2 :: label_stride, label_stride // 2 :: label_stride]
    _, height, width, _ = labels.shape
    return flat(network.upsample(vectors, (height, width))), flat(labels)


def loss_of_each_dataset(loss: jax.Array, weight: jax.Array, labels: jax.Array, label_space: LabelSpace) -> Mean:
    """Computes the metric `dataset_loss`: the mean loss of pixels with one label, of a class of only one dataset.

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
    """Computes the metrics that every objective has: `accuracy`, `valid_fraction` and `dataset_loss`.

    Args:
      loss: float [B, N], of each pixel, the sum over its labels of weight x loss.
      hit: float [B, N], of each pixel, the sum of the weights of its labels that are predicted.
      weight: float [B, N], of each pixel, the sum of the weights of its labels.
      labels: int [B, N, 2], global ids, -1 = ignore or no second label.
      label_space: of S datasets.

    Returns:
      {name: Mean}.
    """
    total = jnp.sum(weight)
    return {
        "accuracy": Mean(jnp.sum(hit), total),
        "valid_fraction": Mean(total, jnp.asarray(weight.size)),
        "dataset_loss": loss_of_each_dataset(loss, weight, labels, label_space),
    }
