"""The momentum encoder g: its start, its embeddings and its update (METHOD.md sections 2 and 3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mdp_jax.models import network
from mdp_jax.models.apply import apply_training
from mdp_jax.objectives.objective import Setting, flat
from mdp_jax.objectives.parts import cut, join

MOMENTUM_VIEWS = ("clean", "mixed")  # what the momentum encoder may be shown
# Its weights have the shardings of the network that it averages, which training/sharding.py has.
SHARDINGS = ((r"momentum_batch_stats/.*", PartitionSpec()),)


def averaged(memory: dict) -> dict:
    """The momentum encoder in a memory.

    Args:
      memory: from a state, or nested dicts from a checkpoint.

    Returns:
      {"params", "batch_stats"}, as those of the query encoder.
    """
    # A checkpoint leaves out what is empty.
    return {"params": memory["momentum_params"], "batch_stats": memory.get("momentum_batch_stats", {})}


class Embedded(NamedTuple):
    """The embeddings of a view.

    Attributes:
      vectors: float [B, N, D], unit vectors.
      batch_stats: the encoder's running statistics after the view.
    """

    vectors: jax.Array
    batch_stats: dict


class MomentumEncoder:
    """The momentum encoder of a setting. Its parts of a memory are `momentum_params` and `momentum_batch_stats`.

    Attributes:
      network: that of the query encoder.
    """

    def __init__(self, setting: Setting):
        """Makes the encoder.

        Args:
          setting: of the objective.
        """
        self.network = network.pixel_encoder(setting.model)
        self._normalise = setting.normalise
        self._parts, self._devices = setting.accumulate, setting.devices
        self._momentum = setting.method.encoder_momentum

    def init(self, params: dict, batch_stats: dict) -> dict:
        """Makes its parts of the memory at step 0.

        Args:
          params: of the query encoder; they are copied.
          batch_stats: of the query encoder; they are copied.

        Returns:
          {"momentum_params", "momentum_batch_stats"}.
        """
        # Copies: the step's input is donated, and one buffer cannot be donated twice.
        return {
            "momentum_params": jax.tree.map(jnp.copy, params),
            "momentum_batch_stats": jax.tree.map(jnp.copy, batch_stats),
        }

    def embed(self, memory: dict, images: jax.Array) -> Embedded:
        """Embeds a view.

        Args:
          memory: has the encoder's parts.
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

    @jax.named_scope("momentum")
    def update(self, memory: dict, params: dict, batch_stats: dict) -> dict:
        """Makes its parts of the memory after the step: weights m_enc g + (1 - m_enc) new f.

        Args:
          memory: before the step.
          params: of the query encoder, after the optimizer.
          batch_stats: of this encoder, as `embed` gives them.

        Returns:
          {"momentum_params", "momentum_batch_stats"}.
        """
        keep = self._momentum
        averaged = jax.tree.map(lambda g, f: keep * g + (1 - keep) * f, memory["momentum_params"], params)
        return {"momentum_params": averaged, "momentum_batch_stats": batch_stats}
