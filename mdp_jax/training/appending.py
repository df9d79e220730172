"""A new set in the bank of a pretrained network: its prototypes in closed form (METHOD.md section 8)."""

import os
import pathlib
import time
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mdp_jax import config as config_files
from mdp_jax import configs, distributed
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import closed_form, workdirs
from mdp_jax.evaluation.discriminant import prototypes
from mdp_jax.evaluation.scores import write_scores
from mdp_jax.evaluation.scoring import score
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.reporting import runs
from mdp_jax.storage import checkpoints as stored
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.training import ledger, workdir
from mdp_jax.training.adopting import Adopted, opened

LAYER = "projection"  # whose features are compared with prototypes


def append_to_bank(checkpoint: str | os.PathLike, config: ConfigDict, folder: str | os.PathLike) -> Adopted:
    """Adds a set to the bank of a pretrained network, in a new workdir like the network's own.

    Everything else of the checkpoint stays as it is, bit for bit.

    Args:
      checkpoint: workdir of `mdp pretrain`, whose objective has prototypes.
      config: as configs.finetune() makes it; its dataset, data_dir, seed and short_side are read.
      folder: new workdir; gets config.json, label_space.json, checkpoints/, evaluation.json where the photos of all
        sets are there, and edited.json where the checkpoint's workdir has one.

    Returns:
      What the set was adopted from.

    Raises:
      UserError: not such a workdir, a folder that is in use, bad data, or a set of a name that is taken.
    """
    before = expanded(checkpoint)
    if not before.is_dir() or not workdirs.is_pretraining(before):
        raise UserError(f"--append: {before} is no workdir of mdp pretrain; expected one, whose bank can grow")
    run = workdirs.load(before)
    own = configs.typed_pretrain(run.config)
    if OBJECTIVES[own.objective].bank is None:
        raise UserError(
            f"--append: {before} is of the objective {own.objective}, which has no prototypes; expected one with them"
        )
    if run.label_space.kind != "concatenated" or own.stages or own.mixture_weights or own.mixture_schedule:
        raise UserError(
            f"--append: {before} has merged classes, stages, mixture_weights or a mixture_schedule, in which a new set "
            "has no place; expected none of them"
        )
    edited = runs.read_edited(before)
    with opened(checkpoint, config, folder, [(LAYER,)]) as at:
        ((name, classes),) = at.label_space.datasets
        if name in {source.name for source in own.sources}:
            raise UserError(f"--append: {before} has a set {name!r} already; expected another config.dataset.name")
        label_space = LabelSpace((*run.label_space.datasets, (name, classes)))
        grown = _config_of(run.config, at.untyped)
        workdir.require_free_or_same(at.folder, grown, label_space)
        began = time.perf_counter()
        statistics = closed_form.statistics_of(at.net, at.source, (LAYER,))
        vectors = prototypes(statistics)
        seconds = time.perf_counter() - began
        saved = stored.load(before)
        bank = saved.state["memory"]["bank"]
        rows = {"vectors": vectors, "images_seen": statistics.photos, "pixels": statistics.weight}
        bank = _appended(bank, rows)
        state = saved.state | {"memory": saved.state["memory"] | {"bank": bank}}
        at.hold.keep()
        workdir.start(at.folder, grown, label_space)
        if edited:  # the weights are the same, so they were trained on the same sets
            write_json(at.folder / runs.EDITED, edited)
        checkpoints = workdir.checkpoints(at.folder, configs.typed_pretrain(grown))
        names = [*(source.name for source in own.sources), name]
        photos = saved.meta["photos"] | {name: sources.photos_of(at.source)}
        meta = saved.meta | {
            "config": config_files.to_dict(grown),
            "label_space": label_space.rows(),
            "photos": photos,
            "adopted": {"dataset": name, "head": "prototypes", "layer": LAYER},
        }
        for name in ledger.NAMES & saved.meta.keys():
            meta[name] = ledger.grown(saved.meta[name], label_space.of_sources(names)).tolist()
        try:
            checkpoints.save(run.step, state, meta)
        finally:
            checkpoints.close()
        _score(at.folder)
    return Adopted(tuple(at.source.classes), statistics.photos, statistics.weight, seconds)


def _appended(bank: dict[str, np.ndarray | None], rows: dict[str, np.ndarray]) -> dict[str, Any]:
    """The bank with more rows at its end; what it does not keep, such as pixels of classes, stays None."""
    return {
        name: None if old is None else np.concatenate([old, rows[name].astype(old.dtype)]) for name, old in bank.items()
    }


def _config_of(before: ConfigDict, config: ConfigDict) -> ConfigDict:
    """The config of the pretraining with one more source, which is found wherever its own config found it."""
    made, source = before.copy_and_resolve_references(), config.dataset.copy_and_resolve_references()
    with source.unlocked():
        if "root" in source and config.data_dir != before.data_dir:
            source.root = str((expanded(config.data_dir) / expanded(source.root)).resolve())
    with made.unlocked():
        made.sources = (*made.sources, source)
    return made.lock()


def _score(folder: pathlib.Path) -> None:
    """Scores the network on each of its sets, where their photos are there."""
    try:
        run = workdirs.load(folder)
        found = score(run)
    except UserError as error:
        distributed.say(f"mdp: not scored ({error}); mdp evaluate does it where the photos are")
        return
    write_scores(folder, found, chosen=run.chosen)
