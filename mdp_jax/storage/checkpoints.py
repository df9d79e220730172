"""Checkpoints with checksums: saved asynchronously, read back, verified when read; the newest good one wins."""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from mdp_jax import distributed
from mdp_jax.errors import TransientError, UserError, is_transient, of_system
from mdp_jax.storage import buckets
from mdp_jax.storage.background import quiet
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.checksums import checksums, own_checksums
from mdp_jax.storage.leaves import leaf_names, one_copy
from mdp_jax.storage.paths import as_path, expanded, require_plain

NO_CHECKPOINT, NONE_GOOD = -1, -2  # in place of a step
NEWEST, BEST = "checkpoints", "best"  # folders of a workdir: of the newest steps, and of the one that scored best
LAST = "last"  # what `choose` is asked for the newest step by
_OF_THE_DISK = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EFBIG))
)
# The library's own file beside the items of a step. In a bucket it is uploaded last: where it is, all files are.
COMMITTED = "_CHECKPOINT_METADATA"
# Of state and meta. In format 1 the parts of an objective's memory lay at the top of the state of a pretraining.
_FORMAT = 2
SEALS = ("checksums", "digest", "format")  # of a meta, beside what it was given
_TOP_OF_FORMAT_1 = ("step", "params", "batch_stats", "opt_state")


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: the tree of arrays.
      meta: JSON values.
    """

    state: Any
    meta: dict


class _Found(NamedTuple):
    """The newest checkpoint that can be read; the step is NO_CHECKPOINT or NONE_GOOD where there is none."""

    step: int
    saved: Saved | None


def digest_of(meta: dict) -> str:
    """SHA-256 of JSON values as they are when they have been read back: lists for tuples, text for keys."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(meta)), sort_keys=True).encode()).hexdigest()


class _Step(ocp.path.step.Metadata):
    """A step that is there; when it was saved is asked for before any checkpoint can be skipped."""

    @property
    def commit_timestamp(self) -> datetime.datetime:
        try:
            return super().commit_timestamp
        except Exception:  # _CHECKPOINT_METADATA is damaged, of which any type of error may come
            return datetime.datetime.fromtimestamp(0, tz=datetime.UTC)


class _Steps(ocp.path.step.NameFormat):
    """Names of the folders of steps: their numbers."""

    def __init__(self) -> None:
        self._standard = ocp.path.step.standard_name_format()

    def build_name(self, step: int) -> str:
        return self._standard.build_name(step)

    def find_all(self, base_path: os.PathLike) -> Iterator[_Step]:
        return (_Step(found.step, found.path) for found in self._standard.find_all(base_path))

    def find_step(self, base_path: os.PathLike, step: int) -> _Step:
        found = self._standard.find_step(base_path, step)
        return _Step(found.step, found.path)


def sealed(meta: dict, state: Any) -> dict:
    """The meta of a checkpoint with its format, the checksums of the state and a digest; each process must call it.

    Args:
      meta: JSON values.
      state: a pytree of arrays.
    """
    meta = meta | {"format": _FORMAT, "checksums": checksums(state)}
    return meta | {"digest": digest_of(meta)}


def items_of(state: Any, meta: dict) -> ocp.args.Composite:
    """What a manager saves.

    Args:
      state: a pytree of arrays.
      meta: as `sealed` gives it.
    """
    return ocp.args.Composite(state=ocp.args.StandardSave(jax.tree.map(one_copy, state)), meta=ocp.args.JsonSave(meta))


def manager_of(folder: pathlib.Path, **options: Any) -> ocp.CheckpointManager:
    """Opens a folder of this machine with the library that writes checkpoints.

    Args:
      folder: of checkpoints.
      **options: of the library's manager.
    """
    quiet()
    # Two folders may be written at one time; their processes must not wait at each other's barriers.
    together = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name)
    options.setdefault("multiprocessing_options", together)
    options["step_name_format"] = _Steps()
    handlers = {"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options), item_handlers=handlers)


def alone() -> ocp.options.MultiprocessingOptions:
    """Options of a manager that reads or writes by this process alone, so that no other one waits for it."""
    return ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )


@contextlib.contextmanager
def reading(folder: pathlib.Path, step: int) -> Iterator[ocp.CheckpointManager]:
    """A manager that reads one step by this process alone; of a bucket it is copied to this machine while it lasts.

    Args:
      folder: of checkpoints.
      step: that is there.
    """
    if not isinstance(folder, BucketPath):
        with manager_of(folder, read_only=True, multiprocessing_options=alone()) as manager:
            yield manager
        return
    with tempfile.TemporaryDirectory(prefix="mdp-checkpoint-") as place:
        buckets.download_folder(str(folder / str(step)), pathlib.Path(place, str(step)))
        with manager_of(pathlib.Path(place), read_only=True, multiprocessing_options=alone()) as manager:
            yield manager


def _restore(manager: ocp.CheckpointManager, step: int, target: Any) -> Saved:
    """State and meta of a step as they were saved, laid out as `target`."""
    restored = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore())
    )
    return Saved(restored["state"], dict(restored["meta"]))


def read_step(manager: ocp.CheckpointManager, step: int, where: pathlib.Path) -> Saved:
    """State and meta of a step as nested dicts of NumPy arrays, verified.

    On the host: a state that is split over devices need not fit into the memory of one.

    Args:
      manager: as `reading` gives it.
      step: of the checkpoint.
      where: the folder of checkpoints, for errors.

    Raises:
      UserError: a later version wrote it.
      Exception: anything, where files are damaged.
    """
    shapes = manager.item_metadata(step)["state"]
    target = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)
    state, meta = _restore(manager, step, target)
    digest, version = meta.pop("digest", None), meta.get("format")
    if version not in range(1, _FORMAT + 1) and digest in (None, digest_of(meta)):
        raise UserError(
            f"{where}/{step}: of another version of mdp_jax (format {version}); expected format 1 to "
            f"{_FORMAT}; read it with the version that wrote it, or update this one"
        )
    if digest != digest_of(meta):
        raise ValueError("digest of meta differs from the one that was saved")
    expected, found = meta.pop("checksums"), own_checksums(state)
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):  # a flipped bit restores without any error of its own
            raise ValueError(f"checksum of {name} differs from the one that was saved")
    if meta.pop("format") == 1 and "params" in state:
        memory = {name: part for name, part in state.items() if name not in _TOP_OF_FORMAT_1}
        state = {name: part for name, part in state.items() if name in _TOP_OF_FORMAT_1}
        state |= {"memory": memory} if jax.tree.leaves(memory) else {}
    return Saved(state, meta)


def newest_good(folder: pathlib.Path, say: Callable[[str], None]) -> _Found:
    """The newest checkpoint that can be read and whose checksums agree.

    Raises:
      UserError: a later version wrote it.
      TransientError: the disk does not answer. An earlier checkpoint would do, and the newer ones would be deleted.
    """
    steps = steps_in(folder)[::-1]
    for step in steps:
        try:
            with reading(folder, step) as manager:
                return _Found(step, read_step(manager, step, folder))
        except UserError:
            raise
        # Damaged files make orbax raise anything: ValueError, KeyError, JSONDecodeError, bare Exception.
        except Exception as error:
            if is_transient(error):
                raise TransientError(
                    f"{folder}/{step}: cannot be read ({reason_of(error)}); the same command goes on once the disk "
                    "answers again; without this folder it goes on from the checkpoint before"
                ) from error
            say(f"skipped {folder}/{step}: {reason_of(error)}")
    return _Found(NONE_GOOD if steps else NO_CHECKPOINT, None)


def reason_of(error: Exception) -> str:
    """Why a checkpoint could not be written or read, in one line.

    Args:
      error: of the library, or of those under it.
    """
    text = str(error).strip().split("\n")[0]
    on_disk = next((reason for reason in _OF_THE_DISK if reason in text), None)  # behind what names files of its own
    return on_disk or text[:300] or type(error).__name__


def saved_name(name: str, names: set[str]) -> str:
    """The name under which a leaf of a state was saved, whatever the format.

    Args:
      name: of the leaf.
      names: of all leaves that were saved.
    """
    return name if name in names else name.removeprefix("memory/")


class Checkpoints:
    """A folder of checkpoints in a workdir: one folder a step, each with the state and a JSON `meta`.

    `meta` holds what is needed besides the arrays: the config, the label space, the photos' names, the index of the
    next batch, and the checksums of state and meta. With several processes each must make every call.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int = 1, keep_every: int = 0, name: str = NEWEST) -> None:
        """Opens the folder, and makes it where it is missing.

        Args:
          workdir: the workdir of a run.
          keep: how many of the newest checkpoints stay.
          keep_every: checkpoints of steps that are divisible by it stay too; 0 = no others.
          name: of the folder, NEWEST or BEST.
        """
        self.folder: pathlib.Path = as_path(workdir).absolute() / name
        self._keep, self._keep_every = keep, keep_every
        with self._writing():
            # The one before stays until the newest is proven to be readable.
            self._manager = manager_of(
                self.folder, max_to_keep=max(keep, 2), keep_period=keep_every or None, create=True
            )
        self._damaged: list[int] = []
        self._unproven: int | None = None

    def save(self, step: int, state: Any, meta: dict, prove: bool = True) -> None:
        """Copies the state and writes it in the background, after the save before it was read back.

        Args:
          step: steps taken.
          state: a pytree of arrays.
          meta: JSON values.
          prove: whether this save and the one before it are read back; not where there is no time.

        Raises:
          UserError: this or the save before it could not be written or read back; earlier checkpoints stay.
        """
        self._prove(prove)
        with self._writing():
            for damaged in self._damaged:  # a step is saved once; these will come again
                self._manager.delete(damaged)
        self._damaged = []
        items = items_of(state, sealed(meta, state))
        with self._writing():
            self._manager.save(step, args=items)
        self._unproven = step if prove else None

    def settle(self, prove: bool = True) -> None:
        """Waits until everything is on disk, and reads the last save back; the folder stays open.

        Args:
          prove: whether it is read back.

        Raises:
          UserError: a save could not be written or read back; earlier checkpoints stay.
        """
        self._prove(prove)

    def close(self, prove: bool = True) -> None:
        """Waits until everything is on disk, and reads the last save back.

        Args:
          prove: whether it is read back.

        Raises:
          UserError: a save could not be written or read back; earlier checkpoints stay.
        """
        try:
            self._prove(prove)
        except BaseException:
            with contextlib.suppress(UserError), self._writing():
                self._manager.close()
            raise
        with self._writing():
            self._manager.close()

    def _prove(self, read: bool) -> None:
        """Waits for the save under way and reads it: what can be written need not be readable."""
        step, self._unproven = self._unproven, None
        with self._writing():
            self._manager.wait_until_finished()
        if step is None or not read:
            return
        if distributed.is_main():
            try:
                with reading(self.folder, step) as manager:
                    read_step(manager, step, self.folder)
            except Exception as error:  # as in newest_good
                raise of_system(
                    error,
                    f"{self.folder}/{step}: was written and cannot be read back ({reason_of(error)}); earlier "
                    "checkpoints stay; choose a --workdir on another disk or in another folder",
                ) from error
        if self._keep == 1:
            surplus = [old for old in self._manager.all_steps() if old < step]
            with self._writing():
                for old in surplus:
                    if not self._keep_every or old % self._keep_every:
                        self._manager.delete(old)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        # The writer's libraries give a failed write their own types; all of them name the file and the cause.
        except (OSError, ValueError, RuntimeError) as error:
            line = f"{self.folder}: a checkpoint could not be written ({reason_of(error)}); earlier ones stay"
            raise of_system(error, line) from error

    def replace_from(self, step: int) -> None:
        """Lets the next save replace the checkpoints of this step and of later ones.

        Args:
          step: that will be saved next.
        """
        self._damaged = [later for later in sorted(self._manager.all_steps()) if later >= step]

    def restore(self, target: Any, say: Callable[[str], None] = print) -> Saved | None:
        """Restores the newest checkpoint that can be read and whose checksums agree.

        Newer, damaged checkpoints are deleted when the next one is saved.

        Args:
          target: pytree of ShapeDtypeStruct with shardings, on any number of devices and processes.
          say: called in process 0 with one line for each checkpoint that was skipped, with the reason.

        Returns:
          The checkpoint, with a state like `target`; None where there is no checkpoint at all.

        Raises:
          UserError: no checkpoint of several can be read, or the newest one has another version or another network.
        """
        step = distributed.from_main(newest_good(self.folder, say).step if distributed.is_main() else 0)
        steps = sorted(self._manager.all_steps())
        if step == NONE_GOOD:
            raise UserError(f"{self.folder}: none of the checkpoints of steps {steps} can be read")
        if step == NO_CHECKPOINT:
            return None
        self._damaged = [newer for newer in steps if newer > step]
        shapes = self._manager.item_metadata(step)["state"]
        wanted = self.by_saved_name(step, leaf_names(shapes), target)
        leaves, structure = jax.tree.flatten(shapes)
        saved = jax.tree.unflatten(structure, [wanted[name] for name in leaf_names(shapes)]) if leaves else shapes
        state, meta = _restore(self._manager, step, saved)
        restored = leaf_names(state)
        in_order = [restored[saved_name(name, set(restored))] for name in leaf_names(target)]
        for key in SEALS:
            del meta[key]
        return Saved(jax.tree.unflatten(jax.tree.structure(target), in_order), meta)

    def by_saved_name(self, step: int, saved: dict, target: Any) -> dict:
        """The leaves of a target by the names under which they were saved.

        Args:
          step: of the checkpoint, for errors.
          saved: {name: array, or what has its shape}.
          target: as for `restore`.

        Raises:
          UserError: the names or shapes are others.
        """
        names = set(saved)
        wanted = {saved_name(name, names): leaf for name, leaf in leaf_names(target).items()}
        for name in sorted(names ^ set(wanted)):
            how = "is missing" if name in wanted else "is not in this network"
            raise UserError(f"{self.folder}/{step}: of another network: {name} {how}")
        for name, leaf in wanted.items():
            if tuple(saved[name].shape) != tuple(leaf.shape):
                shapes = f"has shape {tuple(saved[name].shape)}, expected {tuple(leaf.shape)}"
                raise UserError(f"{self.folder}/{step}: of another network: {name} {shapes}")
        return wanted


def _folder_of(workdir: str | os.PathLike) -> pathlib.Path:
    """The folder of a workdir's checkpoints; UserError where there is none."""
    folder = expanded(workdir).absolute() / NEWEST
    require_plain(folder.parent, "the workdir")
    if not folder.parent.is_dir():
        raise UserError(f"{workdir}: no such file or folder; expected the workdir of a run")
    if not folder.is_dir():
        raise UserError(f"{workdir}: no folder {NEWEST} in it; expected the workdir of a run")
    return folder


def each(workdir: str | os.PathLike, say: Callable[[str], None] = print) -> Iterator[Saved]:
    """Loads the good checkpoints of a workdir one after the other, the oldest first.

    Args:
      workdir: the workdir of a run.
      say: called with one line for each checkpoint that was skipped, with the reason.

    Yields:
      As `load` returns it.

    Raises:
      UserError: there is no such workdir, or a later version wrote a checkpoint.
    """
    folder = _folder_of(workdir)
    for step in steps_in(folder):
        try:
            with reading(folder, step) as manager:
                found = read_step(manager, step, folder)
        except UserError:
            raise
        except Exception as error:  # as in newest_good
            say(f"skipped {folder}/{step}: {reason_of(error)}")
        else:
            yield found


def load(workdir: str | os.PathLike, say: Callable[[str], None] = print) -> Saved:
    """Loads the newest good checkpoint of a workdir. With several processes each reads by itself.

    Args:
      workdir: the workdir of a run.
      say: called with one line for each checkpoint that was skipped, with the reason.

    Returns:
      The checkpoint; its state is nested dicts of arrays on the first device.

    Raises:
      UserError: there is no such workdir, it has no checkpoint that can be read, or the newest has another version.
    """
    return choose(workdir, LAST, say).saved


class Chosen(NamedTuple):
    """A checkpoint of a workdir.

    Attributes:
      saved: what it holds.
      step: of it.
      best: whether it is the one of the best validation.
      newest: step of the newest checkpoint, good or not; NO_CHECKPOINT where there is none.
    """

    saved: Saved
    step: int
    best: bool
    newest: int


def choose(workdir: str | os.PathLike, which: str | int = "", say: Callable[[str], None] = print) -> Chosen:
    """Loads a checkpoint of a workdir. With several processes each reads by itself.

    Args:
      workdir: the workdir of a run.
      which: "best": that of the best validation; "last": the newest good one; a step; "": the best where there is one,
        else the newest.
      say: called with one line for each checkpoint that was skipped, with the reason.

    Raises:
      UserError: there is no such workdir or checkpoint, it cannot be read, or it has another version.
    """
    folder = _folder_of(workdir)
    place, best = folder.parent, folder.parent / BEST
    there, best_there = steps_in(folder), steps_in(best)
    newest = max(there, default=NO_CHECKPOINT)
    if which not in ("", BEST, LAST):
        return _of_step(place, int(which), there, best_there, newest)
    if which == BEST and not best_there:
        raise UserError(
            f"{workdir}: no best checkpoint in it; expected a fine-tuning with config.keep_best, which validates every "
            f"config.evaluate_every steps; --step {LAST} is the newest (step {newest})"
        )
    if which != LAST and best_there:
        found = newest_good(best, say)
        if found.saved is not None:
            return Chosen(found.saved, found.step, True, newest)
        if which == BEST:
            raise UserError(f"{best}: none of its checkpoints can be read; --step {LAST} is the newest (step {newest})")
    found = newest_good(folder, say)
    if found.step == NO_CHECKPOINT:
        raise UserError(f"{folder}: empty; expected at least one checkpoint")
    if found.saved is None:
        raise UserError(f"{folder}: none of its checkpoints can be read")
    return Chosen(found.saved, found.step, False, newest)


def require_some(workdir: str | os.PathLike) -> None:
    """Checks, before anything is computed, that a workdir has a checkpoint; none is read.

    Args:
      workdir: the workdir of a run.

    Raises:
      UserError: there is no such workdir, or no checkpoint in it.
    """
    if not steps_in(folder := _folder_of(workdir)):
        raise UserError(f"{folder}: empty; expected at least one checkpoint")


def best_step(workdir: str | os.PathLike) -> int | None:
    """The step of the best checkpoint of a workdir; None where there is none.

    Args:
      workdir: the workdir of a run.
    """
    return max(steps_in(expanded(workdir) / BEST), default=None)


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps whose checkpoints are whole.

    Args:
      folder: of checkpoints; it need not be there.

    Returns:
      The steps, ascending. On a disk one that is being written has a folder of another name; in a bucket it lacks the
      object `COMMITTED`, which is written last.
    """
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
    if isinstance(folder, BucketPath):
        whole = buckets.together(lambda step: (folder / str(step) / COMMITTED).is_file(), steps)
        steps = [step for step, there in zip(steps, whole, strict=True) if there]
    return steps


def _of_step(place: pathlib.Path, step: int, newest: list[int], best: list[int], last: int) -> Chosen:
    if step not in newest + best:
        also = f" and the best, {max(best)}" if best else ""
        there = f"{', '.join(map(str, newest))}{also}" if newest else "none"
        raise UserError(
            f"--step {step}: no checkpoint of this step in {place}; expected one of those that were kept ({there}); "
            "config.keep_every keeps more of them"
        )
    folder = place / (NEWEST if step in newest else BEST)
    try:
        with reading(folder, step) as manager:
            return Chosen(read_step(manager, step, folder), step, step in best, last)
    except UserError:
        raise
    except Exception as error:  # as in newest_good
        raise UserError(f"{folder}/{step}: cannot be read ({reason_of(error)}); expected another --step") from error


def newest_meta(workdir: str | os.PathLike, name: str, say: Callable[[str], None] = print) -> dict | None:
    """The JSON values of the newest good checkpoint in a folder of a workdir, and its "step"; verified as a whole.

    Args:
      workdir: the workdir of a run.
      name: of the folder, NEWEST or BEST.
      say: called with one line for each checkpoint that was skipped, with the reason.

    Returns:
      None where there is none.

    Raises:
      UserError: it has another version.
    """
    folder = as_path(workdir).absolute() / name
    if not folder.is_dir():
        return None
    found = newest_good(folder, say)
    return None if found.saved is None else found.saved.meta | {"step": found.step}
