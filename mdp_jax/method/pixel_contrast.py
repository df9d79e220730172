"""Pixel-to-pixel contrast within an image: the baseline without prototypes (METHOD.md section 7)."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class ContrastLosses:
    """What each query pixel adds to the loss; all float [B, M].

    Attributes:
      loss: L of the pixel.
      weight: 1 for pixels with a positive, 0 for all others.
      hit: 1 where the most similar key pixel is a positive.
    """

    loss: jax.Array
    weight: jax.Array
    hit: jax.Array


def sample_pixels(key: jax.Array, labels: jax.Array, budget: int) -> tuple[jax.Array, jax.Array]:
    """Draws labelled pixels of each image at random, without replacement.

    Args:
      key: random key of the draw.
      labels: int [B, N], -1 = ignore.
      budget: pixels of an image, at most.

    Returns:
      Indices of pixels, int32 [B, M] with M = min(budget, N), labelled pixels first; where an image has fewer than M of
      them, the rest are ignored pixels. And a scalar in [0, 1], the share of the labelled pixels that were dropped; 0
      where none is labelled.
    """
    pixels = labels.shape[1]
    budget = min(budget, pixels)
    labelled = labels >= 0
    order = jnp.where(labelled, jax.random.uniform(key, labels.shape), 2.0)
    # A sort and not `lax.top_k`, which gathers a batch-sharded operand onto every device.
    indices = jnp.argsort(order, axis=1)[:, :budget].astype(jnp.int32)
    counts = jnp.sum(labelled, axis=1)
    dropped = jnp.sum(jnp.maximum(counts - budget, 0))
    return indices, dropped / jnp.maximum(jnp.sum(counts), 1)


def take_pixels(x: jax.Array, indices: jax.Array) -> jax.Array:
    """Takes pixels of each image by their indices.

    Args:
      x: [B, N, ...].
      indices: int [B, M].

    Returns:
      [B, M, ...].
    """
    return jnp.take_along_axis(x, indices.reshape(*indices.shape, *(1,) * (x.ndim - 2)), axis=1)


@jax.named_scope("loss")
def pixel_contrast(
    queries: jax.Array, query_labels: jax.Array, keys: jax.Array, key_labels: jax.Array, temperature: float
) -> tuple[jax.Array, ContrastLosses]:
    """Supervised contrast between the pixels of two views of an image, the mean over the batch.

    For query pixel i with label y, over the labelled key pixels a of the same image, P of which are of label y:
    L_i = -1 / |P| sum_{p in P} log( exp(v_i . k_p / tau) / sum_a exp(v_i . k_a / tau) ). Pixels of other images are no
    negatives. Query pixels that are ignored or have no positive add nothing; with no other pixels the loss is 0 and its
    gradient 0. No gradient reaches the keys.

    Args:
      queries: float [B, M, D], unit vectors of the query encoder.
      query_labels: int [B, M], -1 = ignore.
      keys: float [B, K, D], unit vectors of the momentum encoder.
      key_labels: int [B, K], -1 = ignore.
      temperature: tau > 0.

    Returns:
      The loss, a scalar, and ContrastLosses of [B, M] without gradient.
    """
    dtype = jnp.promote_types(queries.dtype, jnp.float32)
    queries, keys = queries.astype(dtype), jax.lax.stop_gradient(keys.astype(dtype))
    valid = (key_labels >= 0)[:, None, :]
    positive = valid & (query_labels[:, :, None] == key_labels[:, None, :])  # [B, M, K]
    count = jnp.sum(positive, axis=-1).astype(dtype)
    similarity = jnp.einsum("bmd,bkd->bmk", queries, keys, precision=jax.lax.Precision.HIGHEST) / temperature
    # A finite minimum: without any labelled key the sum of exponentials and its gradient stay finite.
    logits = jnp.where(valid, similarity, jnp.finfo(dtype).min)
    log_total = jax.nn.logsumexp(logits, axis=-1)
    mean_positive = jnp.sum(jnp.where(positive, similarity, 0.0), axis=-1) / jnp.maximum(count, 1.0)
    weight = (count > 0).astype(dtype)
    per_pixel = jnp.where(count > 0, log_total - mean_positive, 0.0)
    nearest = jnp.argmax(logits, axis=-1)[..., None]
    hit = weight * jnp.take_along_axis(positive, nearest, axis=-1)[..., 0]
    total = jnp.sum(weight)
    loss = jnp.sum(per_pixel) / jnp.where(total > 0, total, 1.0)
    return loss, jax.lax.stop_gradient(ContrastLosses(per_pixel, weight, hit))
