"""The momentum encoder g: how it begins, embeds and is updated (METHOD.md sections 2 and 3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mdp_jax.models import network
from mdp_jax.models.apply import apply_training
from mdp_jax.objectives.objective import Setting, flat
from mdp_jax.objectives.parts import cut, join

# Its weights lie as those of the network that it follows do; training/sharding.py knows where that is.
SHARDINGS = ((r"momentum_batch_stats/.*", PartitionSpec()),)


MOMENTUM_VIEWS = ("clean", "mixed")  # what the momentum encoder may be shown


class Embedded(NamedTuple):
    """What the momentum encoder makes of a view.

    Attributes:
      vectors: float [B, N, D], unit vectors.
      batch_stats: its running statistics after the view.
    """

    vectors: jax.Array
    batch_stats: dict


class MomentumEncoder:
    """The momentum encoder of a setting. Its parts of a memory are `momentum_params` and `momentum_batch_stats`.

    Attributes:
      network: that of the query encoder.
    """

    def __init__(self, setting: Setting):
        """Args:
        setting: of the objective.
        """
        self.network = network.pixel_encoder(setting.model)
        self._normalise = setting.normalise
        self._parts, self._devices = setting.accumulate, setting.devices
        self._momentum = setting.method.encoder_momentum

    def init(self, params: dict, batch_stats: dict) -> dict:
        """Its parts of the memory at step 0: copies of the query encoder's."""
        # Copies: the step is given its input's memory, and one buffer cannot be given twice.
        return {
            "momentum_params": jax.tree.map(jnp.copy, params),
            "momentum_batch_stats": jax.tree.map(jnp.copy, batch_stats),
        }

    def embed(self, memory: dict, images: jax.Array) -> Embedded:
        """Embeds a view.

        Args:
          memory: with its parts.
          images: [B, H, W, 3], 0 to 255.
        """

        def of_part(batch_stats: dict, images: jax.Array) -> tuple[dict, jax.Array]:
            outputs = apply_training(self.network, memory["momentum_params"], batch_stats, self._normalise(images))
            return outputs.batch_stats, flat(outputs.values)

        if self._parts == 1:
            batch_stats, vectors = of_part(memory["momentum_batch_stats"], images)
            return Embedded(vectors, batch_stats)
        images = cut(images, self._parts, self._devices)
        batch_stats, vectors = jax.lax.scan(of_part, memory["momentum_batch_stats"], images)
        return Embedded(join(vectors, self._devices), batch_stats)

    def update(self, memory: dict, params: dict, batch_stats: dict) -> dict:
        """Its parts of the memory after the step: weights m_enc g + (1 - m_enc) new f.

        Args:
          memory: before the step.
          params: the query encoder's after the optimizer.
          batch_stats: its own, as `embed` gives them.
        """
        keep = self._momentum
        averaged = jax.tree.map(lambda g, f: keep * g + (1 - keep) * f, memory["momentum_params"], params)
        return {"momentum_params": averaged, "momentum_batch_stats": batch_stats}
