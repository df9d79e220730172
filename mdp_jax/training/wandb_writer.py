"""Weights & Biases as another writer of a run's numbers and pictures, where a config names a project (config.wandb)."""

import importlib
import importlib.util
import io
import os
import pathlib
import sys
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

from PIL import Image

from mdp_jax.errors import UserError
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.json_files import write_text
from mdp_jax.storage.paths import as_path

ID = "wandb_id"  # file of a workdir: the run's name at Weights & Biases, under which it goes on


def require(project: str) -> None:
    """Checks, before anything is computed, that the library is there.

    Args:
      project: the value of config.wandb; "" = not used.

    Raises:
      UserError: it is not.
    """
    if project and importlib.util.find_spec("wandb") is None:
        raise UserError(f"config.wandb={project!r}: Weights & Biases is not installed; pip install 'mdp_jax[wandb]'")


class WandbWriter:
    """Sends numbers and pictures to a project.

    Where that fails in a run, the run goes on without it and says so once. Without a network, WANDB_MODE=offline keeps
    everything in the workdir, and `wandb sync` sends it later.
    """

    def __init__(self, workdir: pathlib.Path, project: str, config: dict):
        """Begins a run, or goes on with that of the workdir.

        Args:
          workdir: of the run.
          project: its name.
          config: JSON values of the run.

        Raises:
          UserError: Weights & Biases does not take it, as without `wandb login`.
        """
        wandb = importlib.import_module("wandb")
        name, own = workdir.absolute().name, _own_id(workdir)
        if isinstance(workdir, BucketPath):  # where the library cannot write
            self._staged = tempfile.TemporaryDirectory(prefix="mdp-wandb-")
        place = self._staged.name if isinstance(workdir, BucketPath) else str(workdir)
        try:
            self._run: Any = wandb.init(project=project, id=own, name=name, dir=place, config=config, resume="allow")
            # Steps are a number like the others: those after a restart may come twice.
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # of any type, from a network
            raise UserError(
                f"config.wandb={project!r}: {_first_line(error)}; expected `wandb login` before, or WANDB_MODE=offline"
            ) from error
        self._image = wandb.Image
        self._row: dict[str, Any] = {}

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a finite number.

        Args:
          name: of the curve.
          value: of it.
          step: steps taken.
        """
        self._row |= {name: value, "step": step}

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Adds a picture.

        Args:
          name: of the picture.
          png: the bytes of a PNG file.
          step: steps taken.
        """
        self._row |= {name: self._image(Image.open(io.BytesIO(png))), "step": step}

    def flush(self) -> None:
        """Sends what was added, as one row."""
        row, self._row = self._row, {}
        if row:
            self._trying(lambda run: run.log(row))

    def close(self) -> None:
        """Ends the run there."""
        self._trying(lambda run: run.finish())

    def _trying(self, send: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            send(self._run)
        except Exception as error:  # as above
            self._run = None
            print(f"mdp: Weights & Biases: {_first_line(error)}; going on without it", file=sys.stderr)


def _own_id(workdir: pathlib.Path) -> str:
    """The name of the workdir's run there: one that was moved keeps it, a copy gets a new one."""
    own, at = _noted(workdir)
    here = str(workdir.absolute())
    if own and at != here and at and _is_other(at, here) and _noted(as_path(at))[0] == own:
        print(f"mdp: Weights & Biases: {here} is a copy of {at}, so it begins a run of its own there", file=sys.stderr)
        own = ""
    own = own or uuid.uuid4().hex[:12]
    if at != here:
        write_text(workdir / ID, f"{own}\n{here}\n")
    return own


def _noted(workdir: pathlib.Path) -> tuple[str, str]:
    """The run's name, and the path that the workdir had; "" where that is not known."""
    try:
        own, at, *_ = [*(workdir / ID).read_text(encoding="utf-8").splitlines(), "", ""]
    except OSError:  # as of a folder that is gone, or that is another user's
        return "", ""
    return own, at


def _is_other(first: str, second: str) -> bool:
    """Whether two paths are not of one folder, as those through a link are."""
    try:
        return not os.path.samefile(first, second)
    except OSError:  # of buckets, or one is gone
        return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
