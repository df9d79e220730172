"""Gradients of a batch taken in parts, one after the other, where the whole of it does not fit into memory."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp


def cut(batch, parts: int, devices: int):
    """[B, ...] leaves as [parts, B / parts, ...].

    The share of every device is cut, so that nothing moves between devices, and neighbours stay together: pairs, where
    B / (parts x devices) is even.
    """

    def of_leaf(x):
        x = x.reshape(devices, parts, x.shape[0] // (devices * parts), *x.shape[1:])
        return jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])

    return jax.tree.map(of_leaf, batch)


def join(batch, devices: int):
    """The inverse of `cut`: [parts, B / parts, ...] leaves as [B, ...]."""

    def of_leaf(x):
        x = x.reshape(x.shape[0], devices, x.shape[1] // devices, *x.shape[2:])
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[3:])

    return jax.tree.map(of_leaf, batch)


@flax.struct.dataclass
class Mean:
    """A metric that is a mean over what a batch has of something: pixels, labelled pixels, those of one dataset.

    Attributes:
      total: float [...], sum of weight x value.
      weight: float or int, broadcastable to [...], sum of the weights.
      nothing: the value where the weight is 0.
    """

    total: jax.Array
    weight: jax.Array
    nothing: float = flax.struct.field(pytree_node=False, default=0.0)

    def value(self) -> jax.Array:
        """[...]"""
        return jnp.where(self.weight > 0, self.total / jnp.where(self.weight > 0, self.weight, 1), self.nothing)


def gradient_in_parts(loss_of: Callable, params, batch_stats, batch, parts: int, devices: int):
    """Loss and gradient of a batch whose loss is a mean by weight over its pixels.

    The parts' gradients are averaged by their weights, which is the gradient of the mean over the whole batch. So the
    update is that of the large batch but for batch normalisation, whose statistics are those of each part.

    Args:
      loss_of: (params, batch_stats, part, index of the part) -> loss, (weight, batch_stats, {name: Mean}).
      params: to be differentiated by.
      batch_stats: running statistics; every part moves them.
      batch: pytree of [B, ...].
      parts: 1 computes all at once.
      devices: that the batch is split over.

    Returns:
      loss, gradient, batch_stats, {name: value of the metric over the whole batch}.
    """
    value_and_gradient = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, (_, batch_stats, metrics)), gradient = value_and_gradient(params, batch_stats, batch, 0)
        return loss, gradient, batch_stats, {name: metric.value() for name, metric in metrics.items()}

    def body(carry, inputs):
        batch_stats, gradient = carry
        (loss, (weight, batch_stats, metrics)), of_part = value_and_gradient(params, batch_stats, *inputs)
        gradient = jax.tree.map(lambda total, x: total + (weight * x).astype(total.dtype), gradient, of_part)
        return (batch_stats, gradient), metrics | {"loss": Mean(weight * loss, weight)}

    inputs = (cut(batch, parts, devices), jnp.arange(parts))
    start = (batch_stats, jax.tree.map(jnp.zeros_like, params))
    (batch_stats, gradient), metrics = jax.lax.scan(body, start, inputs)
    metrics = jax.tree.map(lambda of_parts: jnp.sum(of_parts, axis=0), metrics)
    total = metrics["loss"].weight
    gradient = jax.tree.map(lambda x: (x / jnp.where(total > 0, total, 1.0)).astype(x.dtype), gradient)
    metrics = {name: metric.value() for name, metric in metrics.items()}
    return metrics.pop("loss"), gradient, batch_stats, metrics
