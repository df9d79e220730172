"""A network applied to images, in training and in evaluation; with batch normalisation or without."""

from typing import NamedTuple, cast

import flax.linen as nn
import jax

from mdp_jax.models import network
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.models.whole import WHOLE

Network = nn.Module  # what others call it, since Linen is imported in models alone


class Outputs(NamedTuple):
    """What a network gives in training.

    Attributes:
      values: float [B, h, w, ...].
      batch_stats: the new running statistics; {} for a network without batch normalisation.
      auxiliary: logits of the auxiliary head [B, h, w, C]; None without one.
    """

    values: jax.Array
    batch_stats: dict
    auxiliary: jax.Array | None = None


@jax.named_scope("network")
def apply_training(
    model: Network, params: dict, batch_stats: dict, images: jax.Array, rngs: dict[str, jax.Array] | None = None
) -> Outputs:
    """Applies a network with the statistics of the batch, which move the running statistics.

    Args:
      model: a network of models/network.py.
      params: its parameters.
      batch_stats: its running statistics.
      images: float [B, H, W, 3], normalised.
      rngs: streams of random numbers; "dropout" where a rate is positive.

    Returns:
      The outputs and the new running statistics.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    second = [AUXILIARY] if getattr(model, AUXILIARY, None) is not None else []
    values, updated = model.apply(variables, images, train=True, mutable=["batch_stats", *second], rngs=rngs)
    return Outputs(values, updated.get("batch_stats", {}), updated[AUXILIARY]["logits"] if second else None)


def apply_evaluation(model: Network, variables: dict, images: jax.Array) -> jax.Array:
    """Applies a network with its running statistics.

    Args:
      model: a network of models/network.py.
      variables: a dict with "params" and "batch_stats", and "whole" where it sees a part of an image
        (models/whole.py); other keys are ignored.
      images: float [B, H, W, 3], normalised.

    Returns:
      float [B, h, w, ...].
    """
    return cast(jax.Array, model.apply(_read(variables), images, train=False))


def apply_layers(model: Network, variables: dict, images: jax.Array, layers: tuple[str, ...]) -> jax.Array:
    """The features of some parts of a network side by side, with its running statistics.

    Args:
      model: of models/network.py.
      variables: as for `apply_evaluation`.
      images: float [B, H, W, 3], normalised.
      layers: see network.joined.

    Returns:
      float [B, h, w, channels].
    """
    return cast(jax.Array, model.apply(_read(variables), images, layers, False, method=network.joined))


def _read(variables: dict) -> dict:
    """The collections that a network reads."""
    return {name: variables[name] for name in ("params", "batch_stats", WHOLE) if name in variables}
