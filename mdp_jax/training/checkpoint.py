"""Checkpoints with checksums: saved asynchronously, verified when read, the newest good one wins."""

import hashlib
import logging
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from mdp_jax.errors import UserError
from mdp_jax.training.sharding import leaf_names

# Orbax and its file layer log every save at INFO and WARNING; what the user must know is said here.
logging.getLogger("absl").setLevel(logging.ERROR)


def _checksums(tree) -> dict[str, str]:
    """A hash of the bytes of every leaf: a flipped bit on disk restores without any error of its own."""
    return {
        name: hashlib.blake2b(np.ascontiguousarray(leaf).tobytes(), digest_size=8).hexdigest()
        for name, leaf in leaf_names(jax.device_get(tree)).items()
    }


def _verify(tree, expected: dict[str, str]) -> None:
    for name, checksum in _checksums(tree).items():
        if expected.get(name) != checksum:
            raise ValueError(f"checksum of {name} differs from the one that was saved")


class Checkpoints:
    """The folder `checkpoints` of a workdir: one folder a step, each with the state and a JSON `meta`.

    `meta` holds what is needed beside the arrays: the config, the label space or class names, the index of the next
    batch, and the checksums.
    """

    def __init__(self, workdir, keep: int = 1):
        """Opens the folder, and makes it where it is missing.

        Args:
          workdir: of a run.
          keep: how many of the newest checkpoints stay.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        self._damaged: list[int] = []

    def save(self, step: int, state, meta: dict) -> None:
        """Copies the state and writes it in the background.

        Args:
          step: steps taken.
          state: a pytree of arrays.
          meta: JSON values.
        """
        for damaged in self._damaged:  # a step is saved once; these will come again
            self._manager.delete(damaged)
        self._damaged = []
        meta = meta | {"checksums": _checksums(state)}
        self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        )

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
          Exception: a save that failed, for instance on a full disk.
        """
        self._manager.wait_until_finished()
        self._manager.close()

    def _restore_step(self, step: int, target):
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore())
        )
        meta = dict(restored["meta"])
        _verify(restored["state"], meta.pop("checksums"))
        return restored["state"], meta

    def _saved_shapes(self, step: int):
        """The saved tree as nested dicts of shapes, to be restored onto the first device."""
        device = SingleDeviceSharding(jax.devices()[0])
        saved = self._manager.item_metadata(step)["state"]
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), saved)

    def restore(self, target=None, say: Callable[[str], None] = print):
        """The newest checkpoint that can be read and whose checksums agree; newer ones go when the next one is saved.

        Args:
          target: pytree of ShapeDtypeStruct with shardings; None restores nested dicts as they were saved.
          say: is told, in one line each, which checkpoints were skipped and why.

        Returns:
          (state, meta), or None where there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints and none of them can be used.
        """
        self._damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._restore_step(step, self._saved_shapes(step) if target is None else target)
            # Damaged files make orbax raise anything: ValueError, KeyError, JSONDecodeError, bare Exception.
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:200]
                self._damaged.append(step)
                say(f"skipped {self.folder}/{step}: {reason or type(error).__name__}")
            else:
                return found
        if self._damaged:
            raise UserError(f"{self.folder}: none of the checkpoints of steps {sorted(self._damaged)} can be read")
        return None


def load(workdir) -> tuple[dict, dict]:
    """State and meta of the newest good checkpoint of a workdir, as nested dicts of arrays on the first device.

    Raises:
      UserError: no such workdir, or no checkpoint in it.
    """
    folder = pathlib.Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir}: no folder checkpoints in it; expected the workdir of a run")
    checkpoints = Checkpoints(workdir)
    found = checkpoints.restore()
    checkpoints.close()
    if found is None:
        raise UserError(f"{folder}: empty; expected at least one checkpoint")
    return found
