"""The vectors of the classes of a pretraining, at every kept checkpoint, and features of sampled pixels beside them."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdp_jax import config as config_files
from mdp_jax import configs, runtime
from mdp_jax.configs import PretrainConfig
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import TransientError, UserError
from mdp_jax.evaluation import loaded
from mdp_jax.evaluation.closed_form import at_whole_strides, labelled
from mdp_jax.evaluation.discriminant import shares_of_cells
from mdp_jax.objectives.objective import ClassRows
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting.bank import Vectors
from mdp_jax.storage import checkpoints
from mdp_jax.storage.paths import expanded

_PHOTOS = 24  # of each set that pixels are taken from, at most


class History(NamedTuple):
    """What a workdir holds of the vectors of its classes.

    Attributes:
      config: of the run.
      label_space: of its sets.
      rows: what its objective says of them.
      steps: the vectors at the kept checkpoints, the newest last.
    """

    config: PretrainConfig
    label_space: LabelSpace
    rows: ClassRows
    steps: list[Vectors]


def history(workdir: str | os.PathLike, say: Callable[[str], None] = print) -> History:
    """Reads the vectors of the classes at all good checkpoints of a workdir, one checkpoint at a time.

    Args:
      workdir: of `mdp pretrain`.
      say: called with one line for each checkpoint that was skipped.

    Raises:
      UserError: no such workdir, no good checkpoint, files of different runs in it, vectors that are not finite, or an
        objective without a vector for each class.
    """
    folder = expanded(workdir)
    file = folder / "config.json"
    config = configs.typed_pretrain(configs.complete(config_files.load_json(file), str(file)), f"{file}: ")
    rows = OBJECTIVES[config.objective].class_rows
    if rows is None:
        raise UserError(
            f"{folder}: objective {config.objective} has neither prototypes nor a classifier; expected one that has"
        )
    label_space = LabelSpace.load(folder / "label_space.json")
    of_config = label_space.of_sources([source.name for source in config.sources])
    of_config.require_same(label_space, str(folder / "label_space.json"))
    runtime.start_devices()
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    found = []
    for saved in checkpoints.each(folder, say):
        label_space.require_same(LabelSpace.from_rows(saved.meta["label_space"]), f"{folder}/checkpoints")
        found.append(_vectors(saved, config, label_space, rows))
        if not np.isfinite(found[-1].vectors).all():
            raise UserError(
                f"{folder}/checkpoints/{found[-1].step}: vectors of classes that are not finite; expected those of a "
                "run that went well: remove this checkpoint to look at the others"
            )
    if not found:
        raise UserError(f"{folder}: no checkpoint that can be read; expected at least one")
    return History(config, label_space, rows, found)


def _vectors(saved: checkpoints.Saved, config: PretrainConfig, space: LabelSpace, rows: ClassRows) -> Vectors:
    variables = {"params": saved.state["params"], "memory": saved.state.get("memory", {})}
    bank_of = OBJECTIVES[config.objective].bank
    if bank_of is not None:
        count = np.asarray(bank_of(variables["memory"]).images_seen, np.int64)
    else:
        count = _of_classes(saved.meta["ledger"], np.add, config, space)
    last_seen = None
    if "last_seen" in saved.meta:
        last_seen = _of_classes(saved.meta["last_seen"], np.maximum, config, space)
    blocks = space.blocks()
    return Vectors(
        int(saved.state["step"]),
        [label for _, labels in blocks for label in labels],
        np.repeat(np.arange(len(blocks)), [len(labels) for _, labels in blocks]),
        [name for name, _ in blocks],
        np.asarray(rows.directions(variables), np.float64),
        bank_of is not None,
        count,
        "images" if bank_of is not None else "pixels",
        last_seen,
    )


def _of_classes(rows: list[list[int]], join: np.ufunc, config: PretrainConfig, space: LabelSpace) -> np.ndarray:
    """Of rows of the ledger (training/ledger.py) what belongs to each class, int64 [C]."""
    # They are those of the sources, of which some may have no labels. Earlier versions of mdp adopt --append had no row
    # of the set that they added.
    number = {source.name: row for source, row in zip(config.sources, rows, strict=False)}
    found = np.zeros(space.num_classes, np.int64)
    for (name, labels), ids in zip(space.datasets, space.global_ids, strict=True):
        if name in number:
            join.at(found, list(ids), number[name][1 : 1 + len(labels)])
    return found


class Pixels(NamedTuple):
    """Features of pixels.

    Attributes:
      vectors: float32 [P, D], as they are compared with the vectors of the classes.
      ids: int64 [P], the global class of each.
    """

    vectors: np.ndarray
    ids: np.ndarray


def sample_pixels(
    workdir: str | os.PathLike,
    found: History,
    each: int,
    data_dir: str | None,
    say: Callable[[str], None],
    weights: str = "",
) -> Pixels:
    """Takes features of some pixels of each class, whose cells are of this class for more than a half.

    Args:
      workdir: of the history; its newest checkpoint embeds the photos.
      found: the history.
      each: pixels of a class, at most.
      data_dir: folder of the sets; None = that of the config.
      say: called with one line for each set whose photos cannot be read, which is then left out.
      weights: of the checkpoint, as for loaded.load.

    Returns:
      The pixels, the same ones at each call.
    """
    net, config, rng = loaded.load(workdir, weights=weights), found.config, np.random.default_rng(0)
    dim = found.steps[-1].vectors.shape[1]
    vectors, ids = [np.zeros((0, dim), np.float32)], [np.zeros(0, np.int64)]
    of_name = {source.name: source for source in config.sources}
    for (name, labels), global_ids in zip(found.label_space.datasets, found.label_space.global_ids, strict=True):
        try:
            folder = config.data_dir if data_dir is None else data_dir
            source = sources.open_source(of_name[name], config.data, folder, "train", config.seed, scored=True)
            taken = np.unique(np.linspace(0, len(source) - 1, _PHOTOS).round().astype(int)).tolist()
            samples = [_of_photo(net, labelled(source, index), found.rows.layer, len(labels)) for index in taken]
        except TransientError:
            raise
        except UserError as error:
            say(f"no pixels of {name}: {error}")
            continue
        features, own = (np.concatenate(parts) for parts in zip(*samples, strict=True))
        for label, global_id in enumerate(global_ids):
            there = np.flatnonzero(own == label)
            chosen = rng.permutation(there)[:each]
            vectors.append(features[chosen])
            ids.append(np.full(len(chosen), global_id))
    return Pixels(np.concatenate(vectors), np.concatenate(ids))


def _of_photo(net: loaded.Network, sample: dict, layer: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] of a photo, and the class that has more than a half of each cell, or -1."""
    features = net.features_as_they_are(at_whole_strides(sample["image"], net.model.output_stride), (layer,))
    shares = shares_of_cells(sample["label"], features.shape[:2], classes)
    own = np.where(shares.max(axis=1) > 0.5, shares.argmax(axis=1), -1)
    return features.reshape(-1, features.shape[-1]), own
