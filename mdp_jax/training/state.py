"""The state of training, one pytree for each loop with everything that changes, and its value at step 0."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mdp_jax.models.apply import Network
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
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


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
    segmenter: Network, optimizer: optax.GradientTransformation, crop: tuple[int, int], seed: int, trainable: str
) -> FinetuneState:
    """Makes the state of step 0, from scratch. Pure; `on_mesh` jits it.

    Args:
      segmenter: models.network.Segmenter.
      optimizer: over the trainable parts.
      crop: height and width of the views.
      seed: of the run.
      trainable: as for `trainable_parts`.
    """
    params, batch_stats = initial_variables(segmenter, crop, seed)
    opt_state = optimizer.init(trainable_parts(params, trainable))
    return FinetuneState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state)


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
