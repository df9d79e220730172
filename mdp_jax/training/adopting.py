"""A new set without a training step: a classifier in closed form on the features of a trained network (METHOD.md 8)."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mdp_jax import checks, configs, distributed, runtime
from mdp_jax import config as config_files
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant, loaded, workdirs
from mdp_jax.evaluation.discriminant import Statistics
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.evaluation.scoring import score
from mdp_jax.models.registry import NO_DECODER
from mdp_jax.storage.paths import expanded
from mdp_jax.training import workdir
from mdp_jax.training.state import FinetuneState

LAYERS = ("backbone", "decoder")


class Adopted(NamedTuple):
    """What a set was adopted from.

    Attributes:
      classes: names.
      photos: int64 [C], labelled photos that hold each class.
      weight: float64 [C], features of each class.
      seconds: for the features and the classifier, without reading the weights.
    """

    classes: tuple[str, ...]
    photos: np.ndarray
    weight: np.ndarray
    seconds: float

    def unseen(self) -> list[str]:
        """Classes without a labelled pixel, which are never predicted."""
        return [name for name, weight in zip(self.classes, self.weight, strict=True) if weight == 0]


HEADS: dict[str, Callable[[Statistics, float, float, bool], discriminant.Linear]] = {
    "lda": lambda statistics, shrinkage, temperature, frequencies: discriminant.linear_discriminant(
        statistics, shrinkage, frequencies
    ),
    "prototypes": lambda statistics, shrinkage, temperature, frequencies: discriminant.nearest_prototypes(
        statistics, temperature
    ),
}


def statistics_of(net: loaded.Network, source: sources.Source, layer: str) -> Statistics:
    """The statistics of a network's features on labelled photos, in one pass.

    Args:
      net: the network; photos are resized as its `data` says.
      source: of the photos; a label may have another size than its photo.
      layer: "backbone" or "decoder".

    Raises:
      UserError: a photo that cannot be read, or no labelled pixel at all.
    """
    found: Statistics | None = None
    for index in range(len(source)):
        sample = source[index]
        features = net.features_as_they_are(sample["image"], layer)
        if found is None:
            found = Statistics.empty(len(source.classes), features.shape[-1])
        weights = discriminant.shares_of_cells(sample["label"], features.shape[:2], len(source.classes))
        found.add(features.reshape(-1, features.shape[-1]), weights)
    if found is None or not found.weight.any():
        raise UserError(f"dataset {source.name!r}: no labelled pixel in its {len(source)} photos; expected some")
    return found


def adopt(
    checkpoint: str | os.PathLike,
    config: ConfigDict,
    folder: str | os.PathLike,
    layer: str = "backbone",
    head: str = "lda",
    shrinkage: float = 0.01,
    frequencies: bool = True,
) -> Adopted:
    """Makes a segmenter of a new set, in a workdir like one of `mdp finetune`, and scores it.

    Args:
      checkpoint: workdir of `mdp pretrain` or `mdp finetune`, or a file of weights.
      config: as configs.finetune() makes it; its dataset, data_dir, seed, and how photos are resized are read.
      folder: new workdir; gets config.json, label_space.json, checkpoints/, evaluation.json.
      layer: features under the classifier: "backbone" or "decoder".
      head: "lda" or "prototypes".
      shrinkage: see discriminant.linear_discriminant.
      frequencies: see discriminant.linear_discriminant.

    Returns:
      What it was made from.

    Raises:
      UserError: nothing at `checkpoint`, a folder that is in use, bad data, or values that cannot be.
    """
    runtime.prepare()
    for name, value, known in (("layer", layer, LAYERS), ("head", head, tuple(HEADS))):
        if value not in known:
            raise UserError(f"--{name} {value}: expected one of {', '.join(known)}")
    if not shrinkage > 0:
        raise UserError(f"--shrinkage {shrinkage}: expected more than 0")
    folder = expanded(folder)
    with workdir.Held(folder) as hold:
        return _adopt(checkpoint, config, folder, layer, head, shrinkage, frequencies, hold)


def _adopt(
    checkpoint: str | os.PathLike,
    config: ConfigDict,
    folder: pathlib.Path,
    layer: str,
    head: str,
    shrinkage: float,
    frequencies: bool,
    hold: workdir.Held,
) -> Adopted:
    if (folder / "config.json").exists():
        raise UserError(f"--workdir {folder}: holds a run; expected a new folder")
    net = loaded.load(checkpoint)
    own = configs.typed_finetune(config)
    if own.dataset is None:
        raise UserError("config.dataset: empty; expected a dataset")
    data = dataclasses.replace(own.data, mean=net.data.mean, std=net.data.std)
    source = sources.open_source(own.dataset, data, own.data_dir, "train", own.seed, scored=True)
    label_space = label_spaces.build([source])
    checks.reading(config)
    photos = _validation(own, data)
    for of_split in filter(None, (source, photos)):  # before the pass over all photos
        sources.check_source(of_split, data.check_files, distributed.say)
    net.data = data
    began = time.perf_counter()
    statistics = statistics_of(net, source, layer)
    linear = HEADS[head](statistics, shrinkage, _TEMPERATURE, frequencies)
    seconds = time.perf_counter() - began
    adopted = _config_of(config, net, data, layer, os.fspath(checkpoint))
    workdir.require_free_or_same(folder, adopted, label_space)
    state = _state_of(net, linear, layer)
    hold.keep()
    workdir.start(folder, adopted, label_space)
    checkpoints = workdir.checkpoints(folder, configs.typed_finetune(adopted))
    meta = {
        "config": config_files.to_dict(adopted),
        "label_space": label_space.rows(),
        "photos": {source.name: sources.photos_of(source)},
        "next_batch": 0,
        "adopted": {"layer": layer, "head": head, "shrinkage": shrinkage, "frequencies": frequencies},
    }
    try:
        checkpoints.save(0, state, meta)
    finally:
        checkpoints.close()
    if photos is not None:
        write_scores(folder, score(workdirs.load(folder)))
    return Adopted(tuple(source.classes), statistics.photos, statistics.weight, seconds)


def _validation(config: configs.FinetuneConfig, data: configs.DataConfig) -> sources.Source | None:
    """The photos that it is scored on; None, which is said, where there are none."""
    assert config.dataset is not None
    try:
        return sources.open_source(config.dataset, data, config.data_dir, "val", config.seed)
    except UserError as error:
        distributed.say(f"mdp: no validation photos, so that it is not scored ({error})")
        return None


_TEMPERATURE = configs.MethodConfig().temperature


def _config_of(config: ConfigDict, net: loaded.Network, data: configs.DataConfig, layer: str, init: str) -> ConfigDict:
    """The fine-tuning config whose network is the adopted one."""
    made = config.copy_and_resolve_references()
    decoder = net.model.decoder if layer == "decoder" else configs.DecoderConfig(name=NO_DECODER)
    model = {field.name: getattr(net.model, field.name) for field in dataclasses.fields(configs.ModelConfig)}
    with made.unlocked():
        made.init = init
        made.model.update(configs.as_config_dict(configs.FinetuneModelConfig(**model | {"decoder": decoder})))
        made.model.decoder.dropout = 0.0
        made.data.mean, made.data.std = tuple(data.mean), tuple(data.std)
    return made.lock()


def _state_of(net: loaded.Network, linear: discriminant.Linear, layer: str) -> FinetuneState:
    parts = LAYERS[: LAYERS.index(layer) + 1]
    dtype = jax.tree.leaves(net.variables["params"])[0].dtype
    params = {part: net.variables["params"][part] for part in parts if part in net.variables["params"]}
    conv = {"kernel": jnp.asarray(linear.kernel[None, None], dtype), "bias": jnp.asarray(linear.bias, dtype)}
    params["classifier"] = {"conv": conv}
    stats = net.variables["batch_stats"]
    batch_stats = {part: stats[part] for part in parts if part in stats}
    return FinetuneState(jnp.zeros((), jnp.int32), params, batch_stats, optax.EmptyState())
