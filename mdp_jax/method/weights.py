"""Weights of pixels in a loss (METHOD.md section 4)."""

import jax
import jax.numpy as jnp

PIXEL_WEIGHTS = ("pixel", "image_class")


def image_class_weights(labels: jax.Array, weights: jax.Array, num_classes: int) -> jax.Array:
    """Divides the weights of labels by their sum over the same class in the same image.

    So each class of each image weighs 1 in all, whatever the number of its pixels, as in the two-step average of the
    prototypes.

    Args:
      labels: int [B, N, 2], global ids, -1 = ignore or no second label.
      weights: float, broadcastable to [B, N, 2].
      num_classes: C.

    Returns:
      float [B, N, 2]; 0 where there is no label.
    """
    weights = jnp.where(labels >= 0, jnp.broadcast_to(weights, labels.shape), 0.0)
    ids = jnp.where(labels < 0, num_classes, labels).reshape(len(labels), -1)

    def sums_of_image(weights: jax.Array, ids: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(weights, ids, num_classes + 1)[ids]

    sums = jax.vmap(sums_of_image)(weights.reshape(ids.shape), ids).reshape(labels.shape)
    return weights / jnp.where(sums > 0, sums, 1.0)


def pixel_weights(labels: jax.Array, weights: jax.Array, num_classes: int, kind: str) -> jax.Array:
    """The weights of labels in the loss.

    Args:
      labels: int [B, N, 2], global ids, -1 = ignore or no second label.
      weights: float, broadcastable to [B, N, 2], of the two labels of a mixed pixel.
      num_classes: C.
      kind: one of PIXEL_WEIGHTS.

    Returns:
      float, broadcastable to [B, N, 2].
    """
    return weights if kind == "pixel" else image_class_weights(labels, weights, num_classes)
