"""Checkpoints with checksums: saved asynchronously, verified when read, the newest good one wins."""

import contextlib
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from mdp_jax import distributed
from mdp_jax.errors import UserError
from mdp_jax.storage.checksums import checksums, own_checksums

NO_CHECKPOINT, NONE_GOOD = -1, -2  # in place of a step
_FORMAT = 1  # of state and meta: what is written in another one is not read as damaged

# Orbax and its file layer log every save at INFO and WARNING; what the user must know is said here.
logging.getLogger("absl").setLevel(logging.ERROR)


def _digest(meta: dict) -> str:
    """SHA-256 of JSON values as they are when they have been read back: lists for tuples, text for keys."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(meta)), sort_keys=True).encode()).hexdigest()


def _manager(folder: pathlib.Path, **options) -> ocp.CheckpointManager:
    handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options), item_handlers=handlers)


def _restore(manager: ocp.CheckpointManager, step: int, target):
    """State and meta of a step, laid out as `target`."""
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore())
    )
    return restored["state"], dict(restored["meta"])


def _restore_as_saved(manager: ocp.CheckpointManager, step: int):
    """State and meta of a step, the state as nested dicts on the first device."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    saved = manager.item_metadata(step)["state"]
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), saved)
    with jax.enable_x64(True):  # float64 stays what it is, whatever this process computes in
        return _restore(manager, step, target)


def _newest_good(folder: pathlib.Path, say: Callable[[str], None]):
    """(step, state as nested dicts, meta) of the newest checkpoint that can be read and whose checksums agree.

    By one process alone, so that a damaged file which only one process would meet cannot leave the others waiting.
    NO_CHECKPOINT or NONE_GOOD in place of the step where there is none. UserError where another version wrote it.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    with _manager(folder, read_only=True, multiprocessing_options=alone) as manager:
        steps = sorted(manager.all_steps(), reverse=True)
        for step in steps:
            try:
                state, meta = _restore_as_saved(manager, step)
                digest = meta.pop("digest", None)
                if meta.get("format") != _FORMAT and digest in (None, _digest(meta)):
                    raise UserError(f"{folder}/{step}: of another version of mdp_jax; expected one of this version")
                if digest != _digest(meta):
                    raise ValueError("digest of meta differs from the one that was saved")
                del meta["format"]
                expected = meta.pop("checksums")
                for name, checksum in own_checksums(state).items():
                    if expected.get(name) != checksum:  # a flipped bit restores without any error of its own
                        raise ValueError(f"checksum of {name} differs from the one that was saved")
            except UserError:
                raise
            # Damaged files make orbax raise anything: ValueError, KeyError, JSONDecodeError, bare Exception.
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:200]
                say(f"skipped {folder}/{step}: {reason or type(error).__name__}")
            else:
                return step, state, meta
    return NONE_GOOD if steps else NO_CHECKPOINT, None, None


class Checkpoints:
    """The folder `checkpoints` of a workdir: one folder a step, each with the state and a JSON `meta`.

    `meta` holds what is needed beside the arrays: the config, the label space, the photos' names, the index of the next
    batch, and the checksums of state and meta. With several processes each must make every call.
    """

    def __init__(self, workdir, keep: int = 1, keep_every: int = 0):
        """Opens the folder, and makes it where it is missing.

        Args:
          workdir: of a run.
          keep: how many of the newest checkpoints stay.
          keep_every: those of steps divisible by it stay too; 0 = no others.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._manager = _manager(self.folder, max_to_keep=keep, keep_period=keep_every or None, create=True)
        self._damaged: list[int] = []

    def save(self, step: int, state, meta: dict) -> None:
        """Copies the state and writes it in the background.

        Args:
          step: steps taken.
          state: a pytree of arrays.
          meta: JSON values.

        Raises:
          UserError: this or the save before it could not be written, as on a full disk; earlier checkpoints stay.
        """
        for damaged in self._damaged:  # a step is saved once; these will come again
            self._manager.delete(damaged)
        self._damaged = []
        meta = meta | {"format": _FORMAT, "checksums": checksums(state)}
        meta |= {"digest": _digest(meta)}
        with self._writing():
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
            )

    def close(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: a save could not be written, as on a full disk; earlier checkpoints stay.
        """
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        # The writer's libraries give a failed write their own types; all of them name the file and the cause.
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise UserError(
                f"{self.folder}: a checkpoint could not be written ({reason}); earlier ones stay"
            ) from error

    def restore(self, target, say: Callable[[str], None] = print):
        """The newest checkpoint that can be read and whose checksums agree; newer ones go when the next one is saved.

        Args:
          target: pytree of ShapeDtypeStruct with shardings, on any number of devices and processes.
          say: is told by process 0, in one line each, which checkpoints were skipped and why.

        Returns:
          (state, meta), or None where there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints and none of them can be used, or the newest is of another version.
        """
        step = distributed.from_main(_newest_good(self.folder, say)[0] if distributed.is_main() else 0)
        steps = sorted(self._manager.all_steps())
        if step == NONE_GOOD:
            raise UserError(f"{self.folder}: none of the checkpoints of steps {steps} can be read")
        if step == NO_CHECKPOINT:
            return None
        self._damaged = [newer for newer in steps if newer > step]
        try:
            state, meta = _restore(self._manager, step, target)
        except (ValueError, KeyError) as error:
            raise UserError(f"{self.folder}/{step}: {str(error).strip().splitlines()[0][:300]}") from error
        del meta["checksums"], meta["digest"], meta["format"]
        return state, meta


def load(workdir, say: Callable[[str], None] = print) -> tuple[dict, dict]:
    """State and meta of the newest good checkpoint of a workdir, as nested dicts of arrays on the first device.

    With several processes each reads by itself.

    Raises:
      UserError: no such workdir, no checkpoint in it that can be read, or one of another version.
    """
    folder = pathlib.Path(workdir).resolve() / "checkpoints"
    if not folder.parent.is_dir():
        raise UserError(f"{workdir}: no such file or folder; expected the workdir of a run")
    if not folder.is_dir():
        raise UserError(f"{workdir}: no folder checkpoints in it; expected the workdir of a run")
    step, state, meta = _newest_good(folder, say)
    if step == NO_CHECKPOINT:
        raise UserError(f"{folder}: empty; expected at least one checkpoint")
    if step == NONE_GOOD:
        raise UserError(f"{folder}: none of its checkpoints can be read")
    return state, meta
