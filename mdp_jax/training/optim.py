"""Optimizers and learning-rate schedules of pretraining and fine-tuning (METHOD.md sections 5 and 6)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from mdp_jax.configs import FinetuneOptimConfig, ModelConfig, PretrainOptimConfig
from mdp_jax.models.entries import Layers
from mdp_jax.models.registry import BACKBONES

AnyOptimConfig = PretrainOptimConfig | FinetuneOptimConfig


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


def cosine(lr: float, lr_min: float, steps: int) -> optax.Schedule:
    """Makes half a cosine: lr_min + (lr - lr_min) (1 + cos(pi step / (steps - 1))) / 2.

    Args:
      lr: the first learning rate.
      lr_min: the last learning rate.
      steps: number of steps of the whole run.
    """

    def schedule(step: ArrayLike) -> jax.Array:
        progress = jnp.clip(_as_float(step) / max(steps - 1, 1), 0, 1)
        return lr_min + (lr - lr_min) * 0.5 * (1 + jnp.cos(jnp.pi * progress))

    return schedule


# Name -> (config, steps after the warm-up) -> schedule of fine-tuning.
SCHEDULES: dict[str, Callable[[FinetuneOptimConfig, int], optax.Schedule]] = {
    "poly": lambda config, steps: polynomial(config.lr, config.lr_min, config.power, steps),
    "cosine": lambda config, steps: cosine(config.lr, config.lr_min, steps),
}
WARMUP_START = 1e-6  # share of the learning rate that a warm-up begins with, as in MMSegmentation's configs


def warmed_up(schedule: optax.Schedule, lr: float, warmup_steps: int) -> optax.Schedule:
    """Puts MMSegmentation's linear warm-up in front of a schedule: from WARMUP_START lr in step 0 to lr at its end.

    Args:
      schedule: of the steps after the warm-up, counted from 0.
      lr: the learning rate at the end of the warm-up.
      warmup_steps: number of steps of the warm-up; 0 gives `schedule` itself.
    """
    if not warmup_steps:
        return schedule

    def warmup(step: ArrayLike) -> jax.Array:
        return lr * (WARMUP_START + (1 - WARMUP_START) * jnp.clip(_as_float(step) / max(warmup_steps - 1, 1), 0, 1))

    return optax.join_schedules([warmup, schedule], [warmup_steps])


def kernels(params: Any) -> Any:
    """Marks the kernels of convolutions and matrix products.

    Args:
      params: tree of a network's parameters.

    Returns:
      A tree of bool: True for kernels; False for biases, normalisations, factors of branches, positions and tokens.
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


def adamw(schedule: optax.Schedule, betas: tuple[float, float], weight_decay: float) -> optax.GradientTransformation:
    """Makes AdamW as torch computes it (arXiv 1711.05101), with decay on `kernels` alone.

    Args:
      schedule: number of steps taken -> learning rate.
      betas: of the two moments, in [0, 1).
      weight_decay: p -= lr weight_decay p.
    """
    return optax.adamw(schedule, *betas, weight_decay=weight_decay, mask=kernels)


def lars(schedule: optax.Schedule, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Makes LARS (arXiv 1708.03888): SGD whose layers' steps are in proportion to their norms.

    Vectors (biases, normalisations) neither decay nor have their steps scaled.

    Args:
      schedule: number of steps taken -> learning rate.
      momentum: of the buffer, in [0, 1].
      weight_decay: factor of the parameters that are added to the gradient.
    """
    return optax.lars(schedule, weight_decay, weight_decay_mask=kernels, trust_ratio_mask=kernels, momentum=momentum)


def lamb(schedule: optax.Schedule, betas: tuple[float, float], weight_decay: float) -> optax.GradientTransformation:
    """Makes LAMB (arXiv 1904.00962): AdamW whose layers' steps are in proportion to their norms.

    Args:
      schedule: number of steps taken -> learning rate.
      betas: of the two moments, in [0, 1).
      weight_decay: decoupled, of `kernels`.
    """
    return optax.lamb(schedule, *betas, weight_decay=weight_decay, mask=kernels)


# Name -> (config, schedule, whether biases and normalisations decay in SGD) -> optimizer.
OPTIMIZERS: dict[str, Callable[[AnyOptimConfig, optax.Schedule, bool], optax.GradientTransformation]] = {
    "sgd": lambda config, schedule, decay_all: sgd(schedule, config.momentum, config.weight_decay, decay_all),
    "adamw": lambda config, schedule, _: adamw(schedule, config.betas, config.weight_decay),
    "lars": lambda config, schedule, _: lars(schedule, config.momentum, config.weight_decay),
    "lamb": lambda config, schedule, _: lamb(schedule, config.betas, config.weight_decay),
}


def remarks(name: str, model: ModelConfig) -> list[str]:
    """What is to be said of the choice of an optimiser.

    Args:
      name: `optim.name` of a config.
      model: the network.

    Returns:
      Lines of text: one where SGD is to train a network without batch normalisation.
    """
    if name != "sgd" or BACKBONES[model.backbone].normalisation == "batch":
        return []
    return [
        f"config.optim.name=sgd: {model.backbone} has no batch normalisation, and such networks are mostly trained "
        "with adamw; docs/weights.md (Which values to set) has values for it"
    ]


def remarks_of_rates(config: FinetuneOptimConfig) -> list[str]:
    """What is to be said of the learning rates: `lr_min` stays what it is where only `lr` is made smaller.

    Args:
      config: of fine-tuning.

    Returns:
      Lines of text: one where the last learning rate is above the first.
    """
    if config.lr_min <= config.lr:
        return []
    return [
        f"config.optim.lr_min={config.lr_min:g}: more than config.optim.lr={config.lr:g}, so the learning rate rises "
        "to it; --config.optim.lr_min=0.0 makes it fall"
    ]


def layer_factors(params: Any, layer_decay: float, layers: Layers) -> Any:
    """The factors of the learning rate in layer-wise decay: layer_decay^(layers.number - 1 - layer).

    Args:
      params: {"backbone", ...}; parts other than the backbone have the factor 1.
      layer_decay: in (0, 1].
      layers: of the backbone.

    Returns:
      A tree of floats.
    """

    def of_leaf(path: tuple, _: Any) -> float:
        part, *rest = (key.key for key in path)
        if part != "backbone":
            return 1.0
        return layer_decay ** (layers.number - 1 - layers.of("/".join(rest)))

    return jax.tree_util.tree_map_with_path(of_leaf, params)


def _scaled_by_layer(layer_decay: float, layers: Layers) -> optax.GradientTransformation:
    """Multiplies the updates, weight decay included, by `layer_factors`."""

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        del params
        factors = layer_factors(updates, layer_decay, layers)
        return jax.tree.map(lambda update, factor: update * jnp.asarray(factor, update.dtype), updates, factors)

    return optax.stateless(scale)


def optimizer(
    config: AnyOptimConfig, schedule: optax.Schedule, layers: Layers | None, decay_all: bool
) -> optax.GradientTransformation:
    """Makes the optimizer that a config names.

    The gradient is clipped by its global norm before anything else. The layer-wise decay multiplies the whole step.

    Args:
      config: of either loop.
      schedule: number of steps taken -> learning rate.
      layers: of the backbone; None where layer_decay is 1.
      decay_all: whether SGD decays biases and normalisations, too.
    """
    made = OPTIMIZERS[config.name](config, schedule, decay_all)
    before = [optax.clip_by_global_norm(norm) for norm in config.clip_norm]
    after = []
    if config.layer_decay != 1:
        assert layers is not None  # the checks refuse it
        after = [_scaled_by_layer(config.layer_decay, layers)]
    return optax.chain(*before, made, *after) if before or after else made
