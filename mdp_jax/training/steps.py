"""One step of pretraining and one of fine-tuning: pure functions (state, batch) -> (state, metrics)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mdp_jax.method import mixing
from mdp_jax.method.segmentation_losses import SegmentationLoss, accuracy, segmentation_loss
from mdp_jax.models.apply import Network, apply_training
from mdp_jax.models.network import upsample
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.objective import Functions, Query, Setting
from mdp_jax.objectives.parts import Aux, Mean
from mdp_jax.training import sharding
from mdp_jax.training.accumulation import gradient_in_parts
from mdp_jax.training.state import FinetuneState, PretrainState, next_average, trainable_parts


def traced_once(step: Callable) -> Callable:
    """Wraps a function so that a second tracing is an error: a batch of another shape is a mistake.

    Args:
      step: a function that is jitted.
    """
    traces: list[int] = []

    @functools.wraps(step)
    def wrapped(*args: Any) -> Any:
        if traces:
            raise RuntimeError(f"{step.__name__} was traced twice: the shapes or types of its inputs changed")
        traces.append(1)
        return step(*args)

    return wrapped


def jitted(step: Callable, shardings: Any, mesh: Mesh) -> jax.stages.Wrapped:
    """Jits a step (state, batch) -> (state, metrics); the state is donated and keeps its shardings.

    Args:
      step: pure.
      shardings: of the state.
      mesh: of the run; every device gets all metrics. Layers find it while they are traced (models/layers.py).
    """

    @functools.wraps(step)
    def on_mesh(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*args)

    return jax.jit(traced_once(on_mesh), donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))


def pretrain_step(setting: Setting, functions: Functions, optimizer: optax.GradientTransformation) -> Callable:
    """Makes the step of METHOD.md section 3: the loss with the memory before it, the optimizer, the memory's update.

    It is the same for every objective.

    Args:
      setting: of the objective.
      functions: of the objective in this setting.
      optimizer: over the parameters of its network.

    Returns:
      (PretrainState, batch of data/batches/pipeline.py) -> (PretrainState, metrics). Metrics are scalars, except
      `dataset_loss` [S], which is NaN for a dataset where the batch has no pixel of a class that only it has.
    """

    def step(state: PretrainState, batch: dict) -> tuple[PretrainState, dict]:
        def loss_of(params: dict, batch_stats: dict, part: dict, index: Any) -> tuple[jax.Array, Aux]:
            del index
            image, label, *mix = (part[name] for name in ("image", "label", "mix_kind", "lam", "box"))
            mixed = mixing.mix_pairs(setting.normalise(image), label.astype(jnp.int32), *mix)
            return functions.loss(params, batch_stats, state, Query(*mixed, part["aux"]))

        prepared = functions.prepare(state, batch)
        own = {name: batch[name] for name in ("image", "mix_kind", "lam", "box")}
        own |= {"label": prepared.label, "aux": prepared.aux}
        found = gradient_in_parts(loss_of, state.params, state.batch_stats, own, setting.accumulate, setting.devices)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(found.gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        memory, more = functions.update(state, params, batch, prepared.carry)
        metrics = {"loss": found.loss, **found.metrics, "gradient_norm": optax.global_norm(found.gradient), **more}
        return PretrainState(state.step + 1, params, found.batch_stats, opt_state, memory), metrics

    return step


class FinetuneSetting(NamedTuple):
    """What the step of fine-tuning is made for.

    Attributes:
      normalise: makes the network's inputs from uint8 photos.
      trainable: "all" or "head".
      loss: of the labelled pixels.
      seed: of the dropout.
      accumulate: number of parts that the gradient of a batch is computed in.
      devices: number of devices that the batch is split over.
      ema_decay: of the moving averages of the weights, where the state has them.
      auxiliary_weight: of the loss of the auxiliary head, where the network has one.
    """

    normalise: Normalise
    trainable: str
    loss: SegmentationLoss
    seed: int
    accumulate: int
    devices: int
    ema_decay: float = 0.0
    auxiliary_weight: float = 0.0


def finetune_step(setting: FinetuneSetting, segmenter: Network, optimizer: optax.GradientTransformation) -> Callable:
    """Makes the step of METHOD.md section 6: a loss of the logits at the labels' size.

    Args:
      setting: of the run.
      segmenter: models.network.Segmenter.
      optimizer: over the trainable parts.

    Returns:
      (FinetuneState, {"image", "label"}) -> (FinetuneState, metrics); metrics are scalars.
    """
    key = jax.random.key(setting.seed)

    def step(state: FinetuneState, batch: dict) -> tuple[FinetuneState, dict]:
        def loss_of(parts: dict, batch_stats: dict, batch: dict, index: Any) -> tuple[jax.Array, Aux]:
            label = batch["label"].astype(jnp.int32)
            dropout = {"dropout": jax.random.fold_in(key, state.step * setting.accumulate + index)}
            image = setting.normalise(batch["image"])
            outputs = apply_training(segmenter, state.params | parts, batch_stats, image, dropout)
            _, height, width = label.shape
            logits = upsample(outputs.values, (height, width))
            loss, weight = segmentation_loss(logits, label, setting.loss)
            right, labelled = accuracy(logits, label)
            metrics = {"accuracy": Mean(right.astype(loss.dtype), labelled)}
            if outputs.auxiliary is not None:
                # Its loss is divided by the same weight, which depends on the labels alone.
                second, _ = segmentation_loss(upsample(outputs.auxiliary, (height, width)), label, setting.loss)
                metrics["auxiliary_loss"] = Mean(weight * second, weight)
                loss = loss + setting.auxiliary_weight * second
            return loss, Aux(weight, outputs.batch_stats, metrics)

        parts = trainable_parts(state.params, setting.trainable)
        found = gradient_in_parts(loss_of, parts, state.batch_stats, batch, setting.accumulate, setting.devices)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(found.gradient, state.opt_state, parts)
            params = state.params | optax.apply_updates(parts, updates)
        metrics = {"loss": found.loss, **found.metrics, "gradient_norm": optax.global_norm(found.gradient)}
        ema = next_average(state.ema, params, found.batch_stats, setting.ema_decay)
        return FinetuneState(state.step + 1, params, found.batch_stats, opt_state, ema), metrics

    return step
