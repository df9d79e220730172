"""The prototype loss alone, to see what its logits cost in memory (METHOD.md section 4)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.losses import prototype_loss
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import topologies
from mdp_jax.planning.compiling import compile_for
from mdp_jax.planning.memory import MIB, Exhausted, excess
from mdp_jax.training import sharding


def feature_pixels(config: ConfigDict) -> int:
    """Pixels of one image at feature resolution."""
    height, width = (-(-side // network.feature_stride(config.model)) for side in config.data.crop)
    return height * width


def chunk(config: ConfigDict, devices: int) -> int:
    """Pixels of a device whose logits exist at one time: method.loss_chunk, in whole pixels of each image."""
    images = config.batch // devices
    return images * min(max(1, config.method.loss_chunk // images), feature_pixels(config))


def lower(config: ConfigDict, devices: list, classes: int) -> jax.stages.Lowered:
    """Value and gradient of the loss for the pixels of config.batch images, lowered for `devices`.

    Args:
      config: of `mdp pretrain`.
      devices: real ones, or of a topology; they divide the batch.
      classes: C.
    """
    mesh = sharding.mesh_of(devices, 1)
    ((_, spec),) = sharding.BATCH_RULES
    split, whole = NamedSharding(mesh, spec), sharding.replicated(mesh)
    images, pixels, dim = config.batch, feature_pixels(config), config.model.projection.dim
    own = chunk(config, len(devices)) * len(devices) // images

    options = OBJECTIVES[config.objective].loss_options(config.method)

    def loss(embeddings, labels, weights, bank):
        return prototype_loss(embeddings, labels, weights, bank, options, own)

    def array(place, dtype, *shape):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    bank = Bank(array(whole, jnp.float32, classes, dim), array(whole, jnp.int32, classes))
    return jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(
        array(split, jnp.float32, images, pixels, dim),
        array(split, jnp.int32, images, pixels, 2),
        array(split, jnp.float32, images, 1, 2),
        bank,
    )


def rows(cases: Sequence[tuple[str, ConfigDict, LabelSpace]], quick: bool) -> list[dict]:
    """The columns of the table by name, for each (topology, config with the global batch, label space).

    Beside the columns "verdict", lines of text; None stands for what only a program that fits tells. `quick` changes
    nothing.
    """
    del quick
    return [_row(*case) for case in cases]


def _row(topology: str, config: ConfigDict, space: LabelSpace) -> dict:
    devices = topologies.devices(topology)
    own, classes = chunk(config, len(devices)), space.num_classes
    pixels = config.batch // len(devices) * feature_pixels(config)
    outcome, seconds = compile_for(
        f"{topology}, the loss of {pixels} pixels on a chip, {classes} classes", lower(config, devices, classes)
    )
    logits = own * classes * 4
    temporaries = None if isinstance(outcome, Exhausted) else outcome.memory_analysis().temp_size_in_bytes
    return {
        "topology": topology,
        "chips": len(devices),
        "batch": config.batch,
        "pixels on a chip": pixels,
        "classes": classes,
        "pixels of a chunk": own,
        "logits of a chunk (MiB)": logits / MIB,
        "logits of all pixels (MiB)": pixels * classes * 4 / MIB,
        "temporaries (MiB)": None if temporaries is None else temporaries / MIB,
        "temporaries / logits of a chunk": None if temporaries is None else temporaries / logits,
        "compiled in (s)": round(seconds),
        "verdict": excess(outcome) if isinstance(outcome, Exhausted) else ["fits"],
    }
