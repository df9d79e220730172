"""Pixel-to-class sparse coding: which classes a pixel is coded by, and with which weights (METHOD.md section 4)."""

import functools

import jax
import jax.numpy as jnp

_GROUP = 16  # neighbouring classes


def nearest_classes(similarity: jax.Array, allowed: jax.Array, k: int) -> jax.Array:
    """Marks the k allowed classes of largest similarity; of equal ones those that come first.

    Each round finds the next value and the first class behind the last one that has it. Both are plain reductions,
    which compilers vectorise, unlike an argmax. Unlike `lax.top_k`, which gathers a batch-sharded operand onto
    every device, they stay on the device of their pixels. No array of the operand's size is written between rounds.

    A CPU that has many classes runs the rounds on the largest value of each 16 neighbours, and then on the classes of
    the k best groups. The choice is the same: if a class is in none of these groups, each of them has a better one.

    Args:
      similarity: float [..., C].
      allowed: bool [..., C], same shape.
      k: how many classes; fewer are marked where fewer are allowed.

    Returns:
      bool [..., C] with at most k entries True along the last axis.
    """
    count = similarity.shape[-1]
    left = jnp.where(allowed, similarity, _lowest(similarity))
    classes = jnp.arange(count).reshape((1,) * (similarity.ndim - 1) + (-1,))
    whole = functools.partial(_last_of_best, k=min(k, count))
    if count < 2 * k * _GROUP:  # the groups that are left would be a large share of all
        value, last = whole(left, classes)
    else:
        grouped = functools.partial(_last_of_best_by_groups, k=k)
        value, last = jax.lax.platform_dependent(left, classes, cpu=grouped, default=whole)
    return ((left > value) | ((left == value) & (classes <= last))) & (left > _lowest(left))


def _lowest(values: jax.Array) -> float:
    """Stands for a class that is not allowed."""
    return float(jnp.finfo(values.dtype).min)


def _rounds(left: jax.Array, ids: jax.Array, k: int) -> list[tuple[jax.Array, jax.Array]]:
    """The k largest of [..., C] in order, as (value, id) of [..., 1]; of equal ones the smallest id comes first.

    Where there are fewer than k, the rest has an id that is larger than all.
    """
    lowest, beyond = _lowest(left), jnp.iinfo(ids.dtype).max
    value = jnp.full((*left.shape[:-1], 1), jnp.inf, left.dtype)
    last = jnp.full(value.shape, beyond, ids.dtype)
    found = []
    for _ in range(k):
        behind = (left < value) | ((left == value) & (ids > last))
        value = jnp.max(jnp.where(behind, left, lowest), axis=-1, keepdims=True)
        last = jnp.min(jnp.where(behind & (left == value), ids, beyond), axis=-1, keepdims=True)
        found.append((value, last))
    return found


def _last_of_best(left: jax.Array, classes: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Value and id, [..., 1], of the class of [..., C] that comes k-th."""
    return _rounds(left, classes, k)[-1]


def _last_of_best_by_groups(left: jax.Array, classes: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The same, found among the classes of the k best groups."""
    groups = -(-left.shape[-1] // _GROUP)
    beyond = groups * _GROUP - left.shape[-1]
    padded = jnp.pad(left, [(0, 0)] * (left.ndim - 1) + [(0, beyond)], constant_values=_lowest(left))
    members = padded.reshape(*left.shape[:-1], groups, _GROUP)
    ids = jnp.arange(groups, dtype=classes.dtype).reshape((1,) * (left.ndim - 1) + (-1,))
    best = jnp.concatenate([group for _, group in _rounds(jnp.max(members, axis=-1), ids, k)], axis=-1)
    best = jnp.minimum(best, groups - 1)[..., None]  # where fewer are allowed: a class twice does no harm
    values = jnp.take_along_axis(members, best, axis=-2)
    within = jnp.arange(_GROUP, dtype=classes.dtype).reshape((1,) * left.ndim + (-1,))
    shape = (*left.shape[:-1], k * _GROUP)
    return _last_of_best(values.reshape(shape), (best * _GROUP + within).reshape(shape), k)


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
