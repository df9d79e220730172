"""The steps of `mdp pretrain` and `mdp finetune`, ready to be compiled for devices that need not be present."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from mdp_jax import checks, configs
from mdp_jax.data import class_names, sources
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data.batches import stages
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.models.network import PixelEncoder, Segmenter
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import flops
from mdp_jax.training import class_weights, programs, sharding

# Of a pretraining set no more is needed than its classes: how many photos it has only scales the schedule.
_SAMPLES = 10_000
_NETWORKS = re.compile(rf"\b({PixelEncoder.__name__}|{Segmenter.__name__})\b")

QUERY, MOMENTUM, REST = "query encoder", "momentum encoder", "the rest"


class Case(NamedTuple):
    """What is planned.

    Attributes:
      topology: such as "v5e:4x4", of each slice; or "h100:8", of each node.
      config: of either loop, with the global batch.
      label_space: of the config's datasets.
      slices: number of slices or nodes.
      steps: of the run; None where it is not known, as its photos are not here.
    """

    topology: str
    config: ConfigDict
    label_space: LabelSpace
    slices: int = 1
    steps: int | None = None


class Program(NamedTuple):
    """A step that can be lowered.

    Attributes:
      step: jitted (state, batch) -> (state, metrics); it can be traced once.
      state: tree of ShapeDtypeStruct with shardings.
      batch: {name: ShapeDtypeStruct with a sharding} of the pipeline's global batch.
    """

    step: jax.stages.Wrapped
    state: object
    batch: dict[str, jax.ShapeDtypeStruct]


def is_pretraining(config: ConfigDict) -> bool:
    """Whether a config is of `mdp pretrain` and not of `mdp finetune`."""
    return "sources" in config


def label_space(config: ConfigDict, classes: int | None) -> LabelSpace:
    """Makes the label space of a config's datasets.

    Args:
      config: of either loop.
      classes: C, divided evenly among the labelled datasets, which then need not exist; None = the datasets' own
        classes.

    Raises:
      UserError: a dataset cannot be opened, there are fewer classes than labelled datasets, or fewer or more than
        a run takes, or more or fewer class weights than classes.
    """
    datasets = config.sources if is_pretraining(config) else (config.dataset,)
    if classes is not None:
        labelled = [source.name for source in datasets if source.labels == "masks"]
        if classes < len(labelled):
            raise UserError(f"--classes {classes}: expected at least one for each of the {len(labelled)} datasets")
        if not 2 <= classes <= label_spaces.MAX_CLASSES:
            raise UserError(f"--classes {classes}: expected from 2 to {label_spaces.MAX_CLASSES}, as in a run")
        ends = [classes * (d + 1) // len(labelled) for d in range(len(labelled))]
        names = [tuple(map(str, range(start, end))) for start, end in zip([0, *ends], ends, strict=False)]
        own = dict.fromkeys((source.name for source in datasets), ()) | dict(zip(labelled, names, strict=True))
        return LabelSpace(tuple(own.items()))
    try:
        opened = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in datasets]
    except UserError as error:
        raise UserError(f"{error}; to plan without the data, give the number of classes: --classes N") from None
    if not is_pretraining(config):
        class_weights.require_number(configs.typed_finetune(config), opened[0])
    return label_spaces.build(opened, config.label_space if is_pretraining(config) else "concatenated")


def steps(config: ConfigDict, photos: int | None) -> int | None:
    """The number of steps of a run.

    Args:
      config: of either loop, with the global batch.
      photos: number of photos of all datasets together; None = ask the datasets.

    Returns:
      The number; None where epochs are counted, and neither the photos are here nor their number is given.
    """
    if not is_pretraining(config):
        return config.steps
    if photos is None and not config.steps:
        try:
            opened = [
                sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources
            ]
        except UserError:
            return None
        photos = sum(len(source) for source in opened)
    return stages.total_steps(configs.typed_pretrain(config), photos or _SAMPLES)


def with_batch(config: ConfigDict, batch: int) -> ConfigDict:
    """Copies a config and sets its global batch.

    Args:
      config: of either loop.
      batch: of the copy.
    """
    config = config.copy_and_resolve_references()
    config.batch = batch
    return config


def check(config: ConfigDict, devices: int, slices: int = 1) -> None:
    """Checks a config for a number of devices.

    Args:
      config: of either loop.
      devices: number of devices of a slice or node.
      slices: number of slices or nodes.

    Raises:
      UserError: a value cannot work.
    """
    (checks.pretraining if is_pretraining(config) else checks.finetuning)(config, devices * slices)
    if config.fsdp < 1 or devices % config.fsdp:
        raise UserError(f"config.fsdp={config.fsdp}: expected a divisor of the {devices} chips")


def unit(config: ConfigDict) -> int:
    """The images of a device are a multiple of this: pairs in pretraining, and parts that are computed one by one.

    Args:
      config: of either loop; `accumulate` is read.
    """
    return config.accumulate * (2 if is_pretraining(config) else 1)


def _batch(config: ConfigDict, mesh: Mesh, key_view: bool) -> dict[str, jax.ShapeDtypeStruct]:
    """The global batch of data/pipeline.py."""
    samples, pairs, crop = (config.batch,), (config.batch // 2,), tuple(config.data.crop)
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((*samples, *crop, 3), jnp.uint8),
        "label": ((*samples, *crop), jnp.int16),
    }
    if is_pretraining(config):
        arrays |= {"key_image": arrays["image"], "key_label": arrays["label"]} if key_view else {}
        arrays["dataset"] = (samples, jnp.int32)
        arrays |= {"mix_kind": (pairs, jnp.int32), "lam": (pairs, jnp.float32), "box": ((*pairs, 4), jnp.int32)}
    ((_, spec),) = sharding.BATCH_RULES
    split = NamedSharding(mesh, spec)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=split) for name, (shape, dtype) in arrays.items()}


def program(config: ConfigDict, devices: list, space: LabelSpace) -> Program:
    """Makes the step of a config.

    Args:
      config: of either loop, checked, with the global batch.
      devices: real ones, or of a topology.
      space: label space of the config's datasets.
    """
    mesh = sharding.mesh_of(devices, config.fsdp)
    if is_pretraining(config):
        typed = configs.typed_pretrain(config)
        names = class_names.without_file(typed.method, space.num_classes, typed.model.projection.dim)
        made = programs.pretraining(typed, mesh, space, _SAMPLES, names=names)
    else:
        made = programs.finetuning(configs.typed_finetune(config), mesh, space.num_classes)
    state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(made.make),
        made.shardings,
    )
    key_view = is_pretraining(config) and OBJECTIVES[config.objective].two_views
    return Program(made.step, state, _batch(config, mesh, key_view))


def share(tree: Any) -> int:
    """The number of bytes of a tree that one device holds.

    Args:
      tree: of ShapeDtypeStruct with shardings.
    """
    sizes = (
        functools.reduce(int.__mul__, leaf.sharding.shard_shape(leaf.shape), leaf.dtype.itemsize)
        for leaf in jax.tree.leaves(tree)
    )
    return sum(sizes)


def _part(scope: str) -> str:
    if not _NETWORKS.search(scope):
        return REST
    return QUERY if "jvp(" in scope else MOMENTUM  # no gradient passes the momentum encoder


def operations(config: ConfigDict, devices: list, space: LabelSpace) -> dict[str, int]:
    """Counts the floating-point operations of one step on one device of a mesh without `fsdp` (planning/flops.py).

    They are counted from the step that is traced for a device's own share of the batch, so that operations which every
    device repeats count once, as on that device.

    Args:
      config: of either loop, checked, with the global batch.
      devices: real ones, or of a topology.
      space: label space of the config's datasets.

    Returns:
      {QUERY: forward and backward, MOMENTUM: forward, REST: losses, mixing, bank, optimizer}; in fine-tuning all of the
      network is QUERY.
    """
    own = config.copy_and_resolve_references()
    own.update({"batch": config.batch // len(devices), "fsdp": 1})
    traced = program(own, devices[:1], space)
    parts = flops.count(traced.step.trace(traced.state, traced.batch).jaxpr.jaxpr, _part)
    return {name: parts.get(name, 0) for name in (QUERY, MOMENTUM, REST)}
