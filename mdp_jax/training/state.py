"""Everything that changes in training, as one pytree for each loop, and how it begins."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mdp_jax.method.prototypes import Bank
from mdp_jax.training import sharding


@flax.struct.dataclass
class PretrainState:
    """The state of pretraining (METHOD.md sections 2 and 3); the last three are {} for objectives without them.

    Attributes:
      step: int32 [], steps taken.
      params: of the query network: {"backbone", "decoder"} and "projection", or "classifier" for cross entropies.
      batch_stats: running statistics of its batch normalisation.
      opt_state: of the optimizer.
      momentum_params: of the momentum encoder, same tree as params.
      momentum_batch_stats: its own running statistics.
      bank: the prototypes.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    momentum_params: dict
    momentum_batch_stats: dict
    bank: Bank | dict


@flax.struct.dataclass
class FinetuneState:
    """The state of fine-tuning.

    Attributes:
      step: int32 [], steps taken.
      params: {"backbone", "decoder", "classifier"}.
      batch_stats: running statistics of batch normalisation.
      opt_state: of the optimizer, over the trainable parts of params alone.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


def _init_variables(model, image_size: tuple[int, int], key: jax.Array) -> dict:
    # Two images, so that the statistics of pooled features are defined.
    return model.init(key, jnp.zeros((2, *image_size, 3), jnp.float32), train=False)


def pretrain_state(config, objective, optimizer) -> PretrainState:
    """The state before the first step: seeded weights, an empty bank. Pure; to be jitted by `on_mesh`."""
    variables = _init_variables(objective.network, config.data.crop, jax.random.key(config.seed))
    params, batch_stats = variables["params"], variables["batch_stats"]
    memory = objective.memory(params, batch_stats)
    return PretrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), **memory)


def trainable_parts(params: dict, trainable: str) -> dict:
    """The parts of fine-tuning's parameters that the optimizer moves: all, or the head (the classifier) alone."""
    return {"classifier": params["classifier"]} if trainable == "head" else params


def finetune_state(config, segmenter, optimizer) -> FinetuneState:
    """The state before the first step, from scratch. Pure; to be jitted by `on_mesh`."""
    variables = _init_variables(segmenter, config.data.crop, jax.random.key(config.seed))
    params = variables["params"]
    opt_state = optimizer.init(trainable_parts(params, config.trainable))
    return FinetuneState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], opt_state)


def on_mesh(make: Callable, mesh: Mesh):
    """Lays a state out by the sharding table, without making it yet.

    Args:
      make: () -> state.
      mesh: see sharding.mesh_of.

    Returns:
      `make` jitted, its result laid out on the mesh, and the tree of its shardings.
    """
    places = sharding.shardings(jax.eval_shape(make), mesh, sharding.STATE_RULES)
    return jax.jit(make, out_shardings=places), places
