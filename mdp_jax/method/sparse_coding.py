"""Pixel-to-class sparse coding: which classes a pixel is coded by, and with which weights (METHOD.md section 4)."""

import jax
import jax.numpy as jnp


def nearest_classes(similarity: jax.Array, allowed: jax.Array, k: int) -> jax.Array:
    """Marks the k allowed classes of largest similarity.

    It repeats argmax and mask instead of `lax.top_k`, which gathers a batch-sharded operand onto every device.

    Args:
      similarity: float [..., C].
      allowed: bool [..., C], same shape.
      k: how many classes; fewer are marked where fewer are allowed.

    Returns:
      bool [..., C] with at most k entries True along the last axis.
    """
    lowest = jnp.finfo(similarity.dtype).min
    left = jnp.where(allowed, similarity, lowest)
    chosen = jnp.zeros(similarity.shape, bool)
    classes = jnp.arange(similarity.shape[-1]).reshape((1,) * (similarity.ndim - 1) + (-1,))
    for _ in range(min(k, similarity.shape[-1])):
        best = (jnp.argmax(left, axis=-1, keepdims=True) == classes) & (left > lowest)
        chosen = chosen | best
        left = jnp.where(best, lowest, left)
    return chosen


def code_weights(similarity: jax.Array, chosen: jax.Array, temperature: float) -> jax.Array:
    """Computes w_k, the softmax of similarity / temperature over the chosen classes.

    Args:
      similarity: float [..., C], cosines of pixel and prototypes.
      chosen: bool [..., C].
      temperature: tau_s > 0.

    Returns:
      float [..., C], 0 for classes that are not chosen.
    """
    lowest = jnp.finfo(similarity.dtype).min
    scaled = jnp.where(chosen, similarity / temperature, lowest)
    exponent = jnp.exp(scaled - jnp.max(scaled, axis=-1, keepdims=True)) * chosen
    total = jnp.sum(exponent, axis=-1, keepdims=True)
    return exponent / jnp.where(total > 0, total, 1.0)
