"""What the method is compared with, as pure functions (METHOD.md section 7)."""

import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class HeadLosses:
    """What each pixel adds to the multi-head cross entropy; all float [B, N].

    Attributes:
      loss: sum over the pixel's labels of weight x cross entropy.
      weight: sum of the weights of its labels, 0 for ignored pixels.
      hit: sum of the weights of those of its labels that have the largest logit of their head.
    """

    loss: jax.Array
    weight: jax.Array
    hit: jax.Array


@jax.named_scope("loss")
def multi_head_cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array, dataset_of: np.ndarray
) -> tuple[jax.Array, HeadLosses]:
    """Cross entropy of each label within the classes of its own dataset, the weighted mean over the batch.

    One head for each dataset: its softmax runs over the dataset's classes alone, so a pixel says nothing about the
    classes of other datasets. A mixed pixel counts in the heads of both of its labels, with their weights.

    Args:
      logits: float [B, N, C], the heads side by side, classes in the order of their global ids.
      labels: int [B, N, 2] global class ids, -1 = ignore or no second label.
      weights: float, broadcastable to [B, N, 2].
      dataset_of: int [C], the dataset index of each global class, non-decreasing.

    Returns:
      The loss, a scalar, 0 with no valid pixel; and HeadLosses of [B, N] without gradient.
    """
    datasets = int(dataset_of.max()) + 1
    borders = np.searchsorted(dataset_of, np.arange(datasets + 1))
    heads = [logits[..., start:end] for start, end in itertools.pairwise(borders)]
    log_totals = jnp.stack([jax.nn.logsumexp(head, axis=-1) for head in heads], axis=-1)  # [B, N, S]
    largest = jnp.stack([jnp.max(head, axis=-1) for head in heads], axis=-1)

    own = jnp.maximum(labels, 0)
    head_of = jnp.asarray(dataset_of)[own]
    logit = jnp.take_along_axis(logits, own, axis=-1)  # [B, N, 2]
    per_label = jnp.take_along_axis(log_totals, head_of, axis=-1) - logit
    weights = jnp.where(labels >= 0, jnp.broadcast_to(weights, labels.shape), 0.0).astype(logits.dtype)
    hit = weights * (logit >= jnp.take_along_axis(largest, head_of, axis=-1))
    losses = HeadLosses(*(jnp.sum(x, axis=-1) for x in (weights * per_label, weights, hit)))
    weight = jnp.sum(losses.weight)
    return jnp.sum(losses.loss) / jnp.where(weight > 0, weight, 1.0), jax.lax.stop_gradient(losses)
