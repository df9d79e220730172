"""Optimizers and learning-rate schedules of pretraining and fine-tuning (METHOD.md sections 5 and 6)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def _as_float(step: ArrayLike) -> jax.Array:
    """A step count in the widest float that JAX computes in: an int32 divided by an int is a float32 even with x64."""
    return jnp.asarray(step, float)


def cosine_with_warmup(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
    """Makes the schedule of pretraining (METHOD.md section 5).

    It is linear from peak / warmup_steps to peak over the warm-up, then half a cosine to 0.

    Args:
      peak: the largest learning rate.
      warmup_steps: number of steps of the warm-up; may be 0.
      steps: number of steps of the whole run.
    """
    warmup_steps = min(warmup_steps, steps)

    def schedule(step: ArrayLike) -> jax.Array:
        taken = _as_float(step)
        warmup = peak * (taken + 1) / max(warmup_steps, 1)
        progress = (taken - warmup_steps) / max(steps - warmup_steps, 1)
        cosine = peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        return jnp.where(taken < warmup_steps, warmup, cosine)

    return schedule


def polynomial(lr: float, lr_min: float, power: float, steps: int) -> optax.Schedule:
    """Makes the schedule of fine-tuning, MMSegmentation's PolyLR (METHOD.md section 6).

    It is (lr - lr_min) (1 - step / (steps - 1))^power + lr_min.

    Args:
      lr: the first learning rate.
      lr_min: the last learning rate.
      power: of the decay.
      steps: number of steps of the whole run.
    """

    def schedule(step: ArrayLike) -> jax.Array:
        left = 1 - jnp.clip(_as_float(step) / max(steps - 1, 1), 0, 1)
        return (lr - lr_min) * left**power + lr_min

    return schedule


def kernels(params: Any) -> Any:
    """Marks the kernels of convolutions.

    Args:
      params: tree of a network's parameters.

    Returns:
      A tree of bool: True for kernels, False for biases and batch normalisation.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def sgd(
    schedule: optax.Schedule, momentum: float, weight_decay: float, decay_all: bool
) -> optax.GradientTransformation:
    """Makes SGD as torch computes it: buffer = momentum buffer + (gradient + decay p); p -= lr buffer.

    Args:
      schedule: number of steps taken -> learning rate.
      momentum: of the buffer, in [0, 1].
      weight_decay: factor of the parameters that are added to the gradient.
      decay_all: whether biases and batch normalisation decay, too; otherwise only kernels do.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=None if decay_all else kernels),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
    )
