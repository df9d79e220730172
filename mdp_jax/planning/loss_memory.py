"""The prototype loss alone, to see how much memory its logits need (METHOD.md section 4)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from mdp_jax.data.class_names import RELATIONS
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.method.losses import NEGATIVES, Among, PixelLosses, prototype_loss
from mdp_jax.method.prototypes import Bank
from mdp_jax.models import network
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import topologies
from mdp_jax.planning.compiling import compile_for
from mdp_jax.planning.memory import MIB, Exhausted, excess
from mdp_jax.planning.programs import Case, is_pretraining
from mdp_jax.training import sharding


def has_loss(config: ConfigDict) -> bool:
    """Whether a config has a prototype loss: not that of `mdp finetune`, nor of an objective without one.

    Args:
      config: of either loop, not checked: its objective may be unknown.
    """
    objective = OBJECTIVES.get(config.objective) if is_pretraining(config) else None
    return objective is not None and objective.loss_options is not None


def pixels_of_image(config: ConfigDict) -> int:
    """The number of pixels of one image that the loss is over: those of the features, or of `method.label_stride`.

    Args:
      config: of `mdp pretrain`; `model`, `method` and `data.crop` are read.
    """
    apart = config.method.label_stride
    if apart:
        height, width = (len(range(apart // 2, side, apart)) for side in config.data.crop)
    else:
        height, width = (-(-side // network.feature_stride(config.model)) for side in config.data.crop)
    return height * width


def images_at_one_time(config: ConfigDict, devices: int) -> int:
    """The number of images of a device whose loss is computed at one time.

    Args:
      config: of `mdp pretrain`; `batch` and `accumulate` are read.
      devices: number of devices.
    """
    return max(1, config.batch // (devices * config.accumulate))


def chunk(config: ConfigDict, devices: int) -> int:
    """The number of pixels of a device whose logits exist at one time.

    It is method.loss_chunk, rounded to whole pixels of each image. On a CPU with many classes a step has fewer.

    Args:
      config: of `mdp pretrain`; what `images_at_one_time` and `pixels_of_image` read.
      devices: number of devices.
    """
    images = images_at_one_time(config, devices)
    return images * min(max(1, config.method.loss_chunk // images), pixels_of_image(config))


def lower(config: ConfigDict, devices: list, classes: int) -> jax.stages.Lowered:
    """Lowers value and gradient of the loss for the pixels of a batch, with `accumulate` of one part of it.

    Args:
      config: of `mdp pretrain`.
      devices: real ones, or of a topology; their number divides the batch.
      classes: C.
    """
    mesh = sharding.mesh_of(devices, 1)
    ((_, spec),) = sharding.BATCH_RULES
    split, whole = NamedSharding(mesh, spec), sharding.replicated(mesh)
    of_device, pixels = images_at_one_time(config, len(devices)), pixels_of_image(config)
    images, dim, own = of_device * len(devices), config.model.projection.dim, chunk(config, len(devices)) // of_device

    make_options = OBJECTIVES[config.objective].loss_options
    if make_options is None:
        raise UserError(f"config.objective={config.objective!r}: has no prototype loss; expected one that has")
    options, method = make_options(config.method), config.method

    def loss(
        embeddings: jax.Array, labels: jax.Array, weights: jax.Array, bank: Bank, among: Among
    ) -> tuple[jax.Array, PixelLosses]:
        return prototype_loss(embeddings, labels, weights, bank, options, own, among.related, among.sets)

    def array(sharding: NamedSharding, dtype: DTypeLike, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    # Which classes are related and of which set each one is does not change the memory.
    related = None if method.relations == RELATIONS[0] else array(whole, jnp.bool_, classes, classes)
    sets = None if method.negatives == NEGATIVES[0] else array(whole, jnp.int32, classes)
    pixels_seen = array(whole, jnp.float32, classes) if method.class_frequencies else None
    bank = Bank(array(whole, jnp.float32, classes, dim), array(whole, jnp.int32, classes), pixels_seen)
    return jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(
        array(split, jnp.float32, images, pixels, dim),
        array(split, jnp.int32, images, pixels, 2),
        array(split, jnp.float32, images, 1, 2),
        bank,
        Among(related, sets),
    )


def rows(cases: Sequence[Case], quick: bool) -> list[dict]:
    """Compiles the loss for each case.

    Args:
      cases: configs of `mdp pretrain`.
      quick: not used.

    Returns:
      {name of a column: value} for each case, and "verdict", lines of text. A value is None where only a program that
      fits tells it.
    """
    del quick
    return [_row(case.topology, case.config, case.label_space) for case in cases]


def _row(topology: str, config: ConfigDict, space: LabelSpace) -> dict:
    devices = topologies.devices(topology)
    own, classes = chunk(config, len(devices)), space.num_classes
    pixels = images_at_one_time(config, len(devices)) * pixels_of_image(config)
    outcome, seconds = compile_for(
        f"{topology}, the loss of {pixels} pixels on a chip, {classes} classes", lower(config, devices, classes)
    )
    logits = own * classes * 4
    stats = None if isinstance(outcome, Exhausted) else outcome.memory_analysis()
    temporaries = None if stats is None else stats.temp_size_in_bytes
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
