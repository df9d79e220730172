"""Pixel-to-class sparse coding: which classes a pixel is coded by, and with which weights (METHOD.md section 4)."""

import jax
import jax.numpy as jnp


def nearest_classes(similarity: jax.Array, allowed: jax.Array, k: int) -> jax.Array:
    """Marks the k allowed classes of largest similarity; of equal ones those that come first.

    Each round finds the next value and the first class behind the last one that has it. Both are plain reductions,
    which compilers vectorise, unlike an argmax. Unlike `lax.top_k`, which gathers a batch-sharded operand onto
    every device, they stay on the device of their pixels. No array of the operand's size is written between rounds.

    Args:
      similarity: float [..., C].
      allowed: bool [..., C], same shape.
      k: how many classes; fewer are marked where fewer are allowed.

    Returns:
      bool [..., C] with at most k entries True along the last axis.
    """
    lowest, count = jnp.finfo(similarity.dtype).min, similarity.shape[-1]
    left = jnp.where(allowed, similarity, lowest)
    classes = jnp.arange(count).reshape((1,) * (similarity.ndim - 1) + (-1,))
    value = jnp.full((*similarity.shape[:-1], 1), jnp.inf, similarity.dtype)
    last = jnp.full(value.shape, count, classes.dtype)
    for _ in range(min(k, count)):
        behind = (left < value) | ((left == value) & (classes > last))
        value = jnp.max(jnp.where(behind, left, lowest), axis=-1, keepdims=True)
        last = jnp.min(jnp.where(behind & (left == value), classes, count), axis=-1, keepdims=True)
    return ((left > value) | ((left == value) & (classes <= last))) & (left > lowest)


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


def related_classes(labels: jax.Array, related: jax.Array) -> jax.Array:
    """Marks the classes that are related to one of a pixel's labels, whatever the weights of the labels.

    Args:
      labels: int [..., M], global class ids, -1 = ignore or no such label.
      related: bool [C, C].

    Returns:
      bool [..., C].
    """
    rows = related[jnp.maximum(labels, 0)]
    return jnp.any(rows & (labels >= 0)[..., None], axis=-2)
