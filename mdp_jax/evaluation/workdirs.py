"""The workdir of a run that is there: its config, its classes and its newest good weights."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mdp_jax import checks, configs, runtime
from mdp_jax import config as config_files
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints
from mdp_jax.storage.paths import expanded

_OF_READING = ("data_dir", "data", "dataset", "sources")  # values that a finished run may be given anew
_LOOPS = {True: ("pretraining", "mdp pretrain"), False: ("fine-tuning", "mdp finetune")}

Overrides = Sequence[tuple[str, str]]


class Workdir(NamedTuple):
    """What a workdir holds.

    Attributes:
      folder: the workdir.
      config: of the run, with the overrides.
      label_space: of its datasets, those without labels left out.
      step: steps taken by the checkpoint.
      variables: {"params", "batch_stats"}, and "memory" of a pretraining, as nested dicts on the first device.
    """

    folder: pathlib.Path
    config: ConfigDict
    label_space: LabelSpace
    step: int
    variables: dict

    @property
    def pretraining(self) -> bool:
        """Whether it is of `mdp pretrain`."""
        return "sources" in self.config

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of a fine-tuning's dataset, by id."""
        return self.label_space.datasets[0][1]


def is_pretraining(workdir: str | os.PathLike) -> bool:
    """Whether a workdir is of `mdp pretrain`; UserError where there is no config.json in it."""
    return "sources" in config_files.load_json(expanded(workdir) / "config.json")


def load(workdir: str | os.PathLike, overrides: Overrides = (), pretraining: bool | None = None) -> Workdir:
    """Config, label space and newest good weights of a workdir.

    Args:
      workdir: of either loop.
      overrides: of its config, as (dotted key, text); those of reading photos alone.
      pretraining: which of the loops it has to be of; None = either.

    Raises:
      UserError: not such a workdir, no checkpoint, classes that disagree, or an override that cannot be.
    """
    runtime.start_devices()
    folder = expanded(workdir)
    config = configs.complete(config_files.load_json(folder / "config.json"), str(folder / "config.json"))
    found = "sources" in config
    if pretraining is not None and found != pretraining:
        raise UserError(f"{folder}: the workdir of {_LOOPS[found][1]}; expected one of {_LOOPS[pretraining][1]}")
    for key, _ in overrides:
        if key.split(".")[0] not in _OF_READING:
            raise UserError(
                f"--config.{key}: fixed when {folder} was trained; expected a key of {', '.join(_OF_READING)}"
            )
    config = config_files.apply_overrides(config, list(overrides))
    checks.reading(config)
    label_space = LabelSpace.load(folder / "label_space.json")
    runtime.set_precision(config.model)  # float64 weights would be read as float32, and fail their checksums
    saved = checkpoints.load(folder)
    label_space.require_same(LabelSpace.from_rows(saved.meta["label_space"]), str(folder / "checkpoints"))
    variables = {name: saved.state[name] for name in ("params", "batch_stats", "memory") if name in saved.state}
    return Workdir(folder, config, label_space, int(saved.state["step"]), {"batch_stats": {}, **variables})
