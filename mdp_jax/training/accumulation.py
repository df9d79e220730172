"""Computes the gradient of a batch in parts, one after the other, for batches that do not fit into memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdp_jax.objectives.parts import Aux, Mean, cut

LossOf = Callable[[Any, dict, Any, Any], tuple[jax.Array, Aux]]


class Gradient(NamedTuple):
    """The gradient of a whole batch.

    Attributes:
      loss: scalar.
      gradient: tree of the parameters.
      batch_stats: running statistics after the batch.
      metrics: {name: value over the whole batch}.
    """

    loss: jax.Array
    gradient: Any
    batch_stats: dict
    metrics: dict[str, jax.Array]


def gradient_in_parts(
    loss_of: LossOf, params: Any, batch_stats: dict, batch: Any, parts: int, devices: int
) -> Gradient:
    """Computes the gradient of a batch whose loss is a mean by weight over its pixels.

    The parts' gradients are averaged by their weights, which gives the gradient of the mean over the whole batch. So
    the update is that of the large batch, except for batch normalisation, whose statistics are those of each part.

    Args:
      loss_of: (params, batch_stats, part, index of the part) -> loss and Aux.
      params: tree of the parameters.
      batch_stats: running statistics; every part moves them.
      batch: pytree of [B, ...].
      parts: number of parts; 1 computes all at once.
      devices: number of devices that the batch is split over.
    """
    value_and_gradient = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, (_, batch_stats, metrics)), gradient = value_and_gradient(params, batch_stats, batch, 0)
        return Gradient(loss, gradient, batch_stats, {name: metric.value() for name, metric in metrics.items()})

    def body(carry: tuple[dict, Any], inputs: tuple[Any, jax.Array]) -> tuple[tuple[dict, Any], dict[str, Mean]]:
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
    return Gradient(metrics.pop("loss"), gradient, batch_stats, metrics)
