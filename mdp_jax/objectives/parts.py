"""Cuts a batch into parts, for batches that do not fit into memory, and means over the parts."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp


def cut(batch: Any, parts: int, devices: int) -> Any:
    """Cuts a batch into parts.

    The share of every device is cut, so that nothing moves between devices. Neighbours stay together, and so do pairs
    where B / (parts x devices) is even.

    Args:
      batch: pytree of [B, ...].
      parts: number of parts.
      devices: number of devices that B is split over; parts x devices divides B.

    Returns:
      The pytree with leaves [parts, B / parts, ...].
    """

    def of_leaf(x: jax.Array) -> jax.Array:
        x = x.reshape(devices, parts, x.shape[0] // (devices * parts), *x.shape[1:])
        return jnp.moveaxis(x, 1, 0).reshape(parts, -1, *x.shape[3:])

    return jax.tree.map(of_leaf, batch)


def join(batch: Any, devices: int) -> Any:
    """The inverse of `cut`.

    Args:
      batch: pytree of [parts, B / parts, ...].
      devices: as for `cut`.

    Returns:
      The pytree with leaves [B, ...].
    """

    def of_leaf(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], devices, x.shape[1] // devices, *x.shape[2:])
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[3:])

    return jax.tree.map(of_leaf, batch)


@flax.struct.dataclass
class Mean:
    """A metric that is a mean over things of a batch: pixels, labelled pixels, or pixels of one dataset.

    Attributes:
      total: float [...], sum of weight x value.
      weight: float or int, broadcastable to [...], sum of the weights.
      nothing: the value where the weight is 0.
    """

    total: jax.Array
    weight: jax.Array
    nothing: float = flax.struct.field(pytree_node=False, default=0.0)

    def value(self) -> jax.Array:
        """The mean, float [...]."""
        return jnp.where(self.weight > 0, self.total / jnp.where(self.weight > 0, self.weight, 1), self.nothing)


class Aux(NamedTuple):
    """What a loss gives besides its value.

    Attributes:
      weight: scalar, the sum of the weights that the loss is a mean by.
      batch_stats: the running statistics after it.
      metrics: {name: Mean}.
    """

    weight: jax.Array
    batch_stats: dict
    metrics: dict[str, Mean]
