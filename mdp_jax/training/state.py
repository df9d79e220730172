"""The state of training, one pytree for each loop with everything that changes, and its value at step 0."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mdp_jax.models.apply import Network
from mdp_jax.models.network import without_auxiliary
from mdp_jax.objectives.objective import Functions
from mdp_jax.training import sharding


@flax.struct.dataclass
class PretrainState:
    """The state of pretraining (METHOD.md sections 2 and 3).

    Attributes:
      step: int32 [], steps taken.
      params: of the query network: {"backbone", "decoder"} and "projection", or "classifier" for cross entropies.
      batch_stats: running statistics of its batch normalisation; {} without any.
      opt_state: of the optimizer.
      memory: of the objective, which alone reads it; {} for an objective without memory.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    memory: dict


@flax.struct.dataclass
class FinetuneState:
    """The state of fine-tuning.

    Attributes:
      step: int32 [], steps taken.
      params: {"backbone", "decoder", "classifier"}.
      batch_stats: running statistics of batch normalisation; {} without any.
      opt_state: of the optimizer, over the trainable parts of params alone.
      ema: moving averages of both, {"params", "batch_stats"}; {} where none are kept.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    ema: dict = flax.struct.field(default_factory=dict)


class Variables(NamedTuple):
    """The variables of a network.

    Attributes:
      params: its parameters.
      batch_stats: running statistics; {} for a network without batch normalisation.
    """

    params: dict
    batch_stats: dict


def initial_variables(model: Network, crop: tuple[int, int], seed: int) -> Variables:
    """Draws the initial weights of a network.

    Args:
      model: the network.
      crop: height and width of its inputs.
      seed: of the run.
    """
    # Two images, so that the statistics of pooled features are defined.
    found = model.init(jax.random.key(seed), jnp.zeros((2, *crop, 3), jnp.float32), train=False)
    return Variables(found["params"], found.get("batch_stats", {}))


def pretrain_state(
    functions: Functions, optimizer: optax.GradientTransformation, crop: tuple[int, int], seed: int
) -> PretrainState:
    """Makes the state of step 0: seeded weights and the objective's first memory. Pure; `on_mesh` jits it.

    Args:
      functions: of the objective.
      optimizer: over the parameters of its network.
      crop: height and width of the views.
      seed: of the run.
    """
    params, batch_stats = initial_variables(functions.network, crop, seed)
    memory = functions.init(params, batch_stats)
    return PretrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), memory)


def trainable_parts(params: dict, trainable: str) -> dict:
    """The parts of fine-tuning's parameters that the optimizer moves.

    Args:
      params: {"backbone", "decoder", "classifier"}.
      trainable: "all", or "head" for the classifier alone.
    """
    return {"classifier": params["classifier"]} if trainable == "head" else params


def finetune_state(
    segmenter: Network,
    optimizer: optax.GradientTransformation,
    crop: tuple[int, int],
    seed: int,
    trainable: str,
    averages: bool = False,
) -> FinetuneState:
    """Makes the state of step 0, from scratch. Pure; `on_mesh` jits it.

    Args:
      segmenter: models.network.Segmenter.
      optimizer: over the trainable parts.
      crop: height and width of the views.
      seed: of the run.
      trainable: as for `trainable_parts`.
      averages: whether moving averages of the weights are kept.
    """
    params, batch_stats = initial_variables(segmenter, crop, seed)
    opt_state = optimizer.init(trainable_parts(params, trainable))
    ema = first_average(params, batch_stats) if averages else {}
    return FinetuneState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state, ema)


def first_average(params: dict, batch_stats: dict) -> dict:
    """The moving averages before the first step: the weights themselves.

    Args:
      params: of the network.
      batch_stats: of the network.

    Returns:
      {"params", "batch_stats"}. They are copies: the step's input is donated, and one buffer cannot be donated twice.
    """
    return jax.tree.map(lambda x: x.copy(), {"params": params, "batch_stats": batch_stats})


def next_average(ema: dict, params: dict, batch_stats: dict, decay: float) -> dict:
    """The moving averages after a step: decay times the one before, and (1 - decay) times the weights.

    Running statistics are averaged like weights, as in timm's ModelEmaV3: so the two fit together.

    Args:
      ema: before the step; {} stays {}.
      params: after the step.
      batch_stats: after the step.
      decay: share of an average that stays, in [0, 1).
    """
    if not ema:
        return {}
    # In this form a weight that does not change, as under a frozen body, keeps its bits in the average.
    new = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(lambda average, x: average + (1 - decay) * (x - average), ema, new)


def scored(state: FinetuneState) -> Variables:
    """The variables by which a fine-tuning is scored: the moving averages where they are kept; no auxiliary head.

    Args:
      state: of the run.
    """
    found = state.ema or {"params": state.params, "batch_stats": state.batch_stats}
    return Variables(**without_auxiliary(found))


class OnMesh(NamedTuple):
    """A state that has its shardings and is not made yet.

    Attributes:
      make: jitted () -> state.
      shardings: tree of its shardings.
    """

    make: Callable[[], Any]
    shardings: Any


def on_mesh(make: Callable[[], Any], mesh: Mesh, rules: sharding.Rules) -> OnMesh:
    """Finds the shardings of a state by a table.

    Args:
      make: () -> state; pure.
      mesh: what sharding.mesh_of makes.
      rules: what sharding.state_rules makes.
    """
    shardings = sharding.shardings(jax.eval_shape(make), mesh, rules)
    return OnMesh(jax.jit(make, out_shardings=shardings), shardings)
