"""One step of pretraining and one of fine-tuning: pure functions (state, batch) -> (state, metrics)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mdp_jax.method import mixing
from mdp_jax.models.network import upsample
from mdp_jax.models.normalisation import normalise_image
from mdp_jax.objectives.objective import Objective, Query
from mdp_jax.training import sharding
from mdp_jax.training.accumulation import Mean, gradient_in_parts
from mdp_jax.training.state import FinetuneState, PretrainState, trainable_parts


def traced_once(step: Callable) -> Callable:
    """The same function, which refuses to be traced a second time: a batch of another shape is a mistake."""
    traces = []

    @functools.wraps(step)
    def wrapped(*args):
        if traces:
            raise RuntimeError(f"{step.__name__} was traced twice: the shapes or types of its inputs changed")
        traces.append(1)
        return step(*args)

    return wrapped


def jitted(step: Callable, places, mesh: Mesh) -> Callable:
    """A step (state, batch) -> (state, metrics), compiled once: the state is donated and stays where it is.

    Args:
      step: pure.
      places: shardings of the state.
      mesh: on which every device gets all metrics.
    """
    return jax.jit(traced_once(step), donate_argnums=0, out_shardings=(places, sharding.replicated(mesh)))


def pretrain_step(config, objective: Objective, optimizer, devices: int) -> Callable:
    """The step of METHOD.md section 3: losses against the state as it was, then the optimizer, then what follows it.

    The same for every objective.

    Args:
      config: of `mdp pretrain`.
      objective: that of this config (training/objectives.py).
      optimizer: over the parameters of its network.
      devices: how many the batch is split over.

    Returns:
      (PretrainState, batch of data/pipeline.py) -> (PretrainState, metrics). Metrics are scalars but for
      `dataset_loss` [S]: per dataset, NaN where the batch has no pixel of a class that it alone has.
    """
    prepare = functools.partial(normalise_image, data_config=config.data, dtype=config.model.compute_dtype)

    def step(state: PretrainState, batch: dict) -> tuple[PretrainState, dict]:
        def loss_of(params, batch_stats, part, index):
            del index
            image, label, *mix = (part[name] for name in ("image", "label", "mix_kind", "lam", "box"))
            query = Query(*mixing.mix_pairs(prepare(image), label.astype(jnp.int32), *mix), part["beside"])
            return objective.loss(params, batch_stats, state, query)

        label, beside, kept = objective.before(state, batch)
        own = {name: batch[name] for name in ("image", "mix_kind", "lam", "box")} | {"label": label, "beside": beside}
        loss, gradient, batch_stats, metrics = gradient_in_parts(
            loss_of, state.params, state.batch_stats, own, config.accumulate, devices
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        memory, more_metrics = objective.follow(state, params, batch, kept)
        metrics = {"loss": loss, **metrics, "gradient_norm": optax.global_norm(gradient), **more_metrics}
        return PretrainState(state.step + 1, params, batch_stats, opt_state, **memory), metrics

    return step


def cross_entropy(logits: jax.Array, label: jax.Array, mean: str) -> tuple[jax.Array, Mean]:
    """Pixel-wise cross entropy (METHOD.md section 6).

    Args:
      logits: float [B, H, W, C].
      label: int [B, H, W], -1 = ignore.
      mean: "all" divides by all pixels, ignored ones included; "valid" by the labelled ones.

    Returns:
      loss, 0 where no pixel is labelled, and the share of labelled pixels predicted right, both scalars.
    """
    valid = label >= 0
    per_pixel = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    labelled = jnp.sum(valid)
    loss = jnp.sum(jnp.where(valid, per_pixel, 0.0)) / (label.size if mean == "all" else jnp.maximum(labelled, 1))
    right = jnp.sum(valid & (jnp.argmax(logits, axis=-1) == label))
    return loss, Mean(right.astype(loss.dtype), labelled)


def finetune_step(config, segmenter, optimizer, devices: int) -> Callable:
    """The step of METHOD.md section 6: cross entropy of the logits brought to the labels' size.

    Args:
      config: of `mdp finetune`.
      segmenter: models.network.Segmenter.
      optimizer: over the parts that config.trainable names.
      devices: how many the batch is split over.

    Returns:
      (FinetuneState, {"image", "label"}) -> (FinetuneState, metrics), metrics scalars.
    """
    key = jax.random.key(config.seed)

    def step(state: FinetuneState, batch: dict) -> tuple[FinetuneState, dict]:
        def loss_of(parts, batch_stats, batch, index):
            image = normalise_image(batch["image"], config.data, config.model.compute_dtype)
            label = batch["label"].astype(jnp.int32)
            variables = {"params": state.params | parts, "batch_stats": batch_stats}
            dropout = {"dropout": jax.random.fold_in(key, state.step * config.accumulate + index)}
            logits, updated = segmenter.apply(variables, image, train=True, mutable=["batch_stats"], rngs=dropout)
            loss, accuracy = cross_entropy(upsample(logits, label.shape[1:]), label, config.loss_mean)
            weight = jnp.asarray(label.size if config.loss_mean == "all" else jnp.sum(label >= 0), loss.dtype)
            return loss, (weight, updated["batch_stats"], {"accuracy": accuracy})

        parts = trainable_parts(state.params, config.trainable)
        loss, gradient, batch_stats, metrics = gradient_in_parts(
            loss_of, parts, state.batch_stats, batch, config.accumulate, devices
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, parts)
        params = state.params | optax.apply_updates(parts, updates)
        metrics = {"loss": loss, **metrics, "gradient_norm": optax.global_norm(gradient)}
        return FinetuneState(state.step + 1, params, batch_stats, opt_state), metrics

    return step
