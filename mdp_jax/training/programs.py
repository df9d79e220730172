"""The program of a run as one record: its network, the state that it begins with, its step and its schedule.

Nothing is compiled yet, so `mdp plan` can lower the same programs for machines that are not present.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from mdp_jax.configs import FinetuneConfig, PretrainConfig, peak_learning_rate
from mdp_jax.data.batches import stages
from mdp_jax.data.class_names import NO_RELATIONS, NameRelations
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.segmentation_losses import SegmentationLoss
from mdp_jax.models import network
from mdp_jax.models.apply import Network
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.objective import Setting
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.training import optim, sharding
from mdp_jax.training.state import finetune_state, on_mesh, pretrain_state
from mdp_jax.training.steps import FinetuneSetting, finetune_step, jitted, pretrain_step


class Program(NamedTuple):
    """A run on a mesh.

    Attributes:
      network: the network that the optimizer moves.
      make: jitted () -> state of step 0 on the mesh.
      shardings: of the state.
      step: jitted (state, batch) -> (state, metrics); the state is donated.
      schedule: learning rate by the number of steps taken.
      init_memory: (params, batch_stats) -> memory of the objective at step 0; None in fine-tuning.
    """

    network: Network
    make: Callable[[], Any]
    shardings: Any
    step: jax.stages.Wrapped
    schedule: optax.Schedule
    init_memory: Callable[[dict, dict], dict] | None = None


def pretraining_schedule(config: PretrainConfig, samples: int, starts: Sequence[int]) -> optax.Schedule:
    """Makes the schedule of the learning rate: in each stage a warm-up and half a cosine to 0 (METHOD.md 5 and 7).

    Args:
      config: of the run; `optim`, `batch`, `steps` and `epochs` are read.
      samples: number of samples that all datasets hold together.
      starts: steps at which the stages begin; of several stages each warms up for a tenth of its steps at most.
    """
    peak = peak_learning_rate(config.optim, config.batch)
    warmup = min(round(config.optim.warmup_epochs * samples / config.batch), stages.MOST_STEPS)
    lengths = [end - start for start, end in itertools.pairwise([*starts, stages.total_steps(config, samples)])]
    warmups = [warmup] if len(lengths) == 1 else [min(warmup, length // 10) for length in lengths]
    of_stages = [optim.cosine_with_warmup(peak, *stage) for stage in zip(warmups, lengths, strict=True)]
    return optax.join_schedules(of_stages, starts[1:])


def pretraining(
    config: PretrainConfig,
    mesh: Mesh,
    label_space: LabelSpace,
    samples: int,
    starts: Sequence[int] = (0,),
    names: NameRelations = NO_RELATIONS,
) -> Program:
    """Makes the program of `mdp pretrain`.

    Args:
      config: of the run.
      mesh: what sharding.mesh_of makes.
      label_space: of all datasets.
      samples: number of samples that all datasets hold together.
      starts: steps at which the stages begin (data/batches/stages.py); one for joint pretraining.
      names: what the names of the classes say (data/class_names.py).
    """
    schedule = pretraining_schedule(config, samples, starts)
    optimizer = optim.optimizer(config.optim, schedule, network.layers(config.model), decay_all=False)
    objective, setting = OBJECTIVES[config.objective], Setting.of(config, label_space, mesh.size, names)
    functions = objective.functions(setting)
    make = functools.partial(pretrain_state, functions, optimizer, config.data.crop, config.seed)
    rules = sharding.state_rules(network.sharding_rules(config.model, objective.head), objective.shardings)
    laid_out = on_mesh(make, mesh, rules)
    step = jitted(pretrain_step(setting, functions, optimizer), laid_out.shardings, mesh)
    return Program(functions.network, *laid_out, step, schedule, functions.init)


def finetuning_schedule(config: FinetuneConfig) -> optax.Schedule:
    """Makes the schedule of the learning rate: a linear warm-up, then the decay that the config names (METHOD.md 6).

    Args:
      config: of the run; `optim` and `steps` are read.
    """
    warmup = config.optim.warmup_steps
    decay = optim.SCHEDULES[config.optim.schedule](config.optim, config.steps - warmup)
    return optim.warmed_up(decay, config.optim.lr, warmup)


def loss_of(config: FinetuneConfig, class_weights: tuple[float, ...]) -> SegmentationLoss:
    """Says what the loss of fine-tuning is.

    Args:
      config: of the run; `loss` and `loss_mean` are read.
      class_weights: one for each class; () = all 1.
    """
    loss = config.loss
    return SegmentationLoss(
        name=loss.name,
        mean=config.loss_mean,
        class_weights=class_weights,
        label_smoothing=loss.label_smoothing,
        ohem_threshold=loss.ohem_threshold,
        ohem_kept=loss.ohem_kept,
        focal_gamma=loss.focal_gamma,
        focal_alpha=loss.focal_alpha,
        dice_weight=loss.dice_weight,
    )


def finetuning(
    config: FinetuneConfig, mesh: Mesh, num_classes: int, class_weights: tuple[float, ...] | None = None
) -> Program:
    """Makes the program of `mdp finetune`.

    Args:
      config: of the run.
      mesh: what sharding.mesh_of makes.
      num_classes: of the dataset.
      class_weights: of the loss (training/class_weights.py); () = all 1. None: the masks are not counted, as in a plan,
        and weights that need it are 1.
    """
    if class_weights is None:
        class_weights = (1.0,) * num_classes if config.loss.class_weights else ()
    schedule = finetuning_schedule(config)
    optimizer = optim.optimizer(config.optim, schedule, network.layers(config.model), decay_all=True)
    segmenter = network.segmenter(config.model, num_classes, frozen_body=config.trainable == "head")
    make = functools.partial(finetune_state, segmenter, optimizer, config.data.crop, config.seed, config.trainable)
    laid_out = on_mesh(make, mesh, sharding.state_rules(network.sharding_rules(config.model, "classifier")))
    normalise = Normalise.of(config.data, config.model.compute_dtype)
    loss = loss_of(config, class_weights)
    setting = FinetuneSetting(normalise, config.trainable, loss, config.seed, config.accumulate, mesh.size)
    step = jitted(finetune_step(setting, segmenter, optimizer), laid_out.shardings, mesh)
    return Program(segmenter, *laid_out, step, schedule)
