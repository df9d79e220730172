"""Optimizers and learning-rate schedules of pretraining and fine-tuning (METHOD.md sections 5 and 6)."""

import jax
import jax.numpy as jnp
import optax


def _as_float(step) -> jax.Array:
    """A step count in the widest float that JAX computes in: an int32 divided by an int is a float32 even with x64."""
    return jnp.asarray(step, float)


def cosine_with_warmup(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
    """Linear from peak / warmup_steps to peak over the warm-up, then half a cosine to 0 (METHOD.md section 5).

    Args:
      peak: the largest learning rate.
      warmup_steps: may be 0.
      steps: length of the whole run.
    """
    warmup_steps = min(warmup_steps, steps)

    def schedule(step):
        step = _as_float(step)
        warmup = peak * (step + 1) / max(warmup_steps, 1)
        progress = (step - warmup_steps) / max(steps - warmup_steps, 1)
        cosine = peak * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        return jnp.where(step < warmup_steps, warmup, cosine)

    return schedule


def polynomial(lr: float, lr_min: float, power: float, steps: int) -> optax.Schedule:
    """(lr - lr_min) (1 - step / (steps - 1))^power + lr_min, as MMSegmentation's PolyLR (METHOD.md section 6)."""

    def schedule(step):
        step = _as_float(step)
        left = 1 - jnp.clip(step / max(steps - 1, 1), 0, 1)
        return (lr - lr_min) * left**power + lr_min

    return schedule


def kernels(params) -> object:
    """A tree of bool: True for the kernels of convolutions, False for biases and batch normalisation."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def sgd(
    schedule: optax.Schedule, momentum: float, weight_decay: float, decay_all: bool
) -> optax.GradientTransformation:
    """SGD as torch computes it: buffer = momentum buffer + (gradient + decay p); p -= lr buffer.

    Args:
      schedule: learning rate by step.
      momentum: of the buffer.
      weight_decay: added to the gradient.
      decay_all: also on biases and batch normalisation; otherwise on kernels alone.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=None if decay_all else kernels),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
    )
