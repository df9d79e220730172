"""A batch in parts, taken one after the other where the whole of it does not fit into memory, and means over them."""

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
