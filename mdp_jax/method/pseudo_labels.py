"""Labels for pixels without any: the class of the nearest prototype, where it is near enough (METHOD.md section 7)."""

import jax
import jax.numpy as jnp

from mdp_jax.method.losses import from_chunks, to_chunks
from mdp_jax.method.prototypes import Bank


@jax.named_scope("pseudo_labels")
def pseudo_labels(embeddings: jax.Array, bank: Bank, temperature: float, threshold: float, chunk: int) -> jax.Array:
    """Labels each embedding by its nearest prototype, where the softmax over the seen prototypes is large enough.

    No gradient passes. The logits exist for one chunk of pixels at a time, like those of the loss.

    Args:
      embeddings: float [B, N, D], unit vectors of the momentum encoder.
      bank: C classes.
      temperature: tau > 0, of the softmax.
      threshold: the least softmax in [0, 1] that makes a label.
      chunk: pixels of each image whose logits [B, chunk, C] exist at one time.

    Returns:
      int32 [B, N], global class ids; -1 below the threshold, and everywhere while no class was seen.
    """

    def of_chunk(vectors: jax.Array) -> jax.Array:
        similarity = jnp.einsum("bnd,cd->bnc", vectors, bank.vectors, precision=jax.lax.Precision.HIGHEST)
        logits = jnp.where(bank.seen[None, None, :], similarity / temperature, jnp.finfo(similarity.dtype).min)
        share = jnp.exp(jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        near = (share >= threshold) & jnp.any(bank.seen)
        return jnp.where(near, jnp.argmax(logits, axis=-1).astype(jnp.int32), -1)

    embeddings = jax.lax.stop_gradient(embeddings.astype(bank.vectors.dtype))
    chunk = min(chunk, embeddings.shape[1])
    return from_chunks(jax.lax.map(of_chunk, to_chunks(embeddings, chunk)), embeddings.shape[1])


def spread(labels: jax.Array, stride: int) -> jax.Array:
    """Gives each pixel the label of its feature.

    Args:
      labels: int [B, h, w], labels of features.
      stride: pixels from one feature to the next.

    Returns:
      int [B, h stride, w stride].
    """
    return jnp.repeat(jnp.repeat(labels, stride, axis=1), stride, axis=2)
