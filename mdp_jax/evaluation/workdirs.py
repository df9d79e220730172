"""Loads the workdir of a run: its config, its classes and the weights of one of its checkpoints."""

import os
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import checks, configs, runtime
from mdp_jax import config as config_files
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import chosen_weights
from mdp_jax.models import network
from mdp_jax.storage import checkpoints
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import expanded

_OF_READING = ("data_dir", "data", "dataset", "sources")  # values that a finished run may be given anew
_LOOPS = {True: ("pretraining", "mdp pretrain"), False: ("fine-tuning", "mdp finetune")}

PALETTE = "palette.json"  # of a fine-tuning on a set that has colours of its own: [R, G, B] of each class

Overrides = Sequence[tuple[str, str]]


class Choice(NamedTuple):
    """Which checkpoint of a workdir was taken.

    Attributes:
      step: of it.
      best: whether it is that of the best validation.
      default: whether it is the one that is taken where nobody chooses.
      weights: which of its weights: one of chosen_weights.WEIGHTS.
      usual: whether these are the ones that are taken where nobody chooses.
    """

    step: int
    best: bool
    default: bool
    weights: str = chosen_weights.PLAIN
    usual: bool = True

    def in_words(self) -> str:
        """What is said of the weights after the step; empty for plain ones."""
        return chosen_weights.in_words(self.weights)


class Changed(NamedTuple):
    """A value of a run's config that an override changed.

    Attributes:
      before: that of the run.
      now: that of the override.
    """

    before: Any
    now: Any


def keep_palette(folder: pathlib.Path, palette: np.ndarray | None) -> None:
    """Writes the colours of a set's classes into a workdir, or removes those of an earlier start.

    Args:
      folder: the workdir.
      palette: uint8 RGB [C, 3]; None = the set has no colours of its own.
    """
    if palette is None:
        (folder / PALETTE).unlink(missing_ok=True)
    else:
        write_json(folder / PALETTE, palette.tolist())


class Workdir(NamedTuple):
    """What a workdir holds.

    Attributes:
      folder: the workdir.
      config: of the run, with the overrides.
      label_space: of its labelled datasets.
      step: number of steps of the checkpoint.
      variables: {"params", "batch_stats"}, and "memory" of a pretraining, as nested dicts on the first device.
      chosen: which checkpoint it is, and which of its weights.
      changed: {dotted key: value} of what the overrides changed; without the keys that change no result, and those that
        say where files lie.
    """

    folder: pathlib.Path
    config: ConfigDict
    label_space: LabelSpace
    step: int
    variables: dict
    chosen: Choice
    changed: Mapping[str, Changed] = types.MappingProxyType({})

    @property
    def pretraining(self) -> bool:
        """Whether it is of `mdp pretrain`."""
        return "sources" in self.config

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of a fine-tuning's dataset, by id."""
        return self.label_space.datasets[0][1]

    def palette(self) -> np.ndarray | None:
        """The colours of the classes of a fine-tuning's dataset, uint8 RGB [C, 3]; None where it has none of its own.

        Raises:
          UserError: the workdir's file of them holds something else.
        """
        file = self.folder / PALETTE
        expected = f"{len(self.classes)} colours, each three whole numbers from 0 to 255"
        if not file.exists():
            return None
        rows = read_json(file, expected, [[int]])
        if len(rows) != len(self.classes) or any(len(row) != 3 or not 0 <= min(row) <= max(row) < 256 for row in rows):
            raise UserError(f"{file}: expected {expected}")
        return np.array(rows, np.uint8).reshape(-1, 3)


def is_pretraining(workdir: str | os.PathLike) -> bool:
    """Whether a workdir is of `mdp pretrain`.

    Args:
      workdir: of either loop.

    Raises:
      UserError: its config.json cannot be read.
    """
    return "sources" in config_files.load_json(expanded(workdir) / "config.json")


def load(
    workdir: str | os.PathLike,
    overrides: Overrides = (),
    pretraining: bool | None = None,
    step: str | int = "",
    weights: str = "",
    auxiliary: bool = False,
) -> Workdir:
    """Loads config, label space and weights of a workdir; says on stderr where it takes the best checkpoint by itself.

    Args:
      workdir: of either loop.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.
      pretraining: whether it must be a workdir of pretraining, or must not; None = either.
      step: "best", "last" or a step; "" = the checkpoint of the best validation where there is one, else the newest.
      weights: "plain"; "ema": their moving average; "momentum": the momentum encoder of a pretraining; "" = the moving
        average where it is kept, else plain.
      auxiliary: whether the variables have the auxiliary head of a fine-tuning, which only training uses.

    Raises:
      UserError: it is not such a workdir, has no such checkpoint or weights, its classes disagree, its weights are not
        finite, or an override is impossible.
    """
    runtime.start_devices()
    folder = expanded(workdir)
    config = configs.complete(config_files.load_json(folder / "config.json"), str(folder / "config.json"))
    found = "sources" in config
    if pretraining is not None and found != pretraining:
        raise UserError(f"{folder}: the workdir of {_LOOPS[found][1]}; expected one of {_LOOPS[pretraining][1]}")
    for key, _ in overrides:
        if key.split(".")[0] not in _OF_READING:
            why = f"fixed when {folder} was trained" if key.split(".")[0] in config else "no such key"
            raise UserError(f"--config.{key}: {why}; expected a key of {', '.join(_OF_READING)}")
    own = config_files.results_from(config)
    config = config_files.apply_overrides(config, list(overrides))
    now = config_files.results_from(config)
    changed = {key: Changed(own.get(key), value) for key, value in now.items() if own.get(key) != value}
    checks.reading(config)
    label_space = LabelSpace.load(folder / "label_space.json")
    # Otherwise float64 weights would be read as float32, and fail their checksums.
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    found_step = checkpoints.choose(folder, step)
    saved = found_step.saved
    if step == "" and found_step.best and found_step.step != found_step.newest:
        print(_said(folder, found_step), file=sys.stderr)
    label_space.require_same(LabelSpace.from_rows(saved.meta["label_space"]), str(folder / "checkpoints"))
    taken = chosen_weights.weights_of(saved.state, saved.meta, weights, str(folder))
    parts = {"params": taken.params, "batch_stats": taken.batch_stats}
    for name, leaf in leaf_names(parts).items():
        if not np.isfinite(leaf).all():
            raise UserError(f"{folder}/checkpoints: {name} is not finite; expected the weights of a run that went well")
    if not auxiliary:
        parts = network.without_auxiliary(parts)
    parts |= {name: saved.state[name] for name in ("memory",) if name in saved.state}
    variables = jax.device_put(parts, jax.local_devices()[0])
    at, best = int(saved.state["step"]), checkpoints.best_step(folder)
    usual = found_step.newest if best is None else best
    is_best, default = found_step.best and at != found_step.newest, step == "" or at == usual
    choice = Choice(at, is_best, default, taken.name, taken.usual)
    return Workdir(folder, config, label_space, at, variables, choice, changed)


def _said(folder: pathlib.Path, found: checkpoints.Chosen) -> str:
    score = found.saved.meta.get("mIoU")
    scored = "" if score is None else f" (mIoU {score:.2f} % when it was validated)"
    return (
        f"{folder}: the best checkpoint, of step {found.step}{scored}; --step last takes the newest, of step "
        f"{found.newest}"
    )
