"""Checkpoints in a bucket: written on this machine, uploaded file by file, the file that commits them last.

The bytes are those of a checkpoint on a disk, so that a workdir may be copied either way. Process 0 gathers the state
and writes it alone: the library's own way needs a folder that all processes share, and a rename.
"""

import concurrent.futures
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mdp_jax import distributed
from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import buckets, leases
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.checkpoints import (
    COMMITTED,
    NEWEST,
    NO_CHECKPOINT,
    NONE_GOOD,
    Checkpoints,
    Saved,
    alone,
    items_of,
    manager_of,
    newest_good,
    read_step,
    reading,
    reason_of,
    saved_name,
    sealed,
    steps_in,
)
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import as_path


def open_checkpoints(workdir: str | os.PathLike, keep: int = 1, keep_every: int = 0, name: str = NEWEST) -> Checkpoints:
    """Opens the checkpoints of a workdir on a disk or in a bucket.

    Args:
      workdir: as for `Checkpoints`.
      keep: likewise.
      keep_every: likewise.
      name: likewise.
    """
    folder = as_path(workdir)
    if isinstance(folder, BucketPath):
        return BucketCheckpoints(folder, keep, keep_every, name)
    return Checkpoints(folder, keep, keep_every, name)


def _on_host(leaf: Any) -> np.ndarray:
    """The whole of an array in this process, with a memory of its own: the step after the save reuses the array's."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        if not leaf.is_fully_replicated:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        leaf = leaf.addressable_data(0)
    return np.array(leaf)


class BucketCheckpoints(Checkpoints):
    """A folder of checkpoints in a bucket; the methods are those of `Checkpoints`."""

    def __init__(self, workdir: BucketPath, keep: int = 1, keep_every: int = 0, name: str = NEWEST) -> None:
        """Opens the folder.

        Args:
          workdir: of the run, in a bucket.
          keep: how many of the newest checkpoints stay.
          keep_every: checkpoints of steps that are divisible by it stay too; 0 = no others.
          name: of the folder.
        """
        self.folder = workdir / name
        self._workdir = workdir
        self._keep, self._keep_every = keep, keep_every
        self._damaged: list[int] = []
        self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mdp-upload")
        self._under_way: concurrent.futures.Future | None = None

    def save(self, step: int, state: Any, meta: dict, prove: bool = True) -> None:
        """Copies the state to the host of process 0, which writes, uploads and reads it back in the background."""
        self._prove(prove)
        meta, whole = sealed(meta, state), jax.tree.map(_on_host, state)
        damaged, self._damaged = self._damaged, []
        if distributed.is_main():
            leases.require_held(str(self._workdir))
            self._under_way = self._writer.submit(self._write, step, whole, meta, damaged, prove)

    def _write(self, step: int, state: Any, meta: dict, damaged: list[int], prove: bool) -> None:
        there = str(self.folder / str(step))
        with self._writing():
            for of_before in damaged:  # these steps will come again
                buckets.delete_folder(str(self.folder / str(of_before)), first=COMMITTED)
        place = pathlib.Path(tempfile.mkdtemp(prefix="mdp-checkpoint-"))
        try:
            with (
                self._writing(),
                manager_of(
                    place, multiprocessing_options=alone(), create=False, enable_async_checkpointing=False
                ) as manager,
            ):
                manager.save(step, args=items_of(state, meta))
            with self._writing():
                buckets.delete_folder(there, first=COMMITTED)  # of a run that was killed as it wrote this step
                buckets.upload_folder(place / str(step), there, last=COMMITTED)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if prove:
            self._read_back(step)
            self._delete_old(step)

    def _read_back(self, step: int) -> None:
        try:
            with reading(self.folder, step) as manager:
                read_step(manager, step, self.folder)
        except Exception as error:  # as in checkpoints.newest_good
            raise of_system(
                error,
                f"{self.folder}/{step}: was written and cannot be read back ({reason_of(error)}); earlier checkpoints "
                "stay",
            ) from error

    def _delete_old(self, step: int) -> None:
        """Deletes what need not stay, now that the newest checkpoint is proven to be readable."""
        with self._writing():
            whole = steps_in(self.folder)
            for old in [old for old in whole if old <= step][: -max(self._keep, 1)]:
                if not self._keep_every or old % self._keep_every:
                    buckets.delete_folder(str(self.folder / str(old)), first=COMMITTED)
            # What a run left that was killed as it wrote or deleted a checkpoint; no other run is at work here.
            for name in buckets.entries(str(self.folder)):
                if name.isdecimal() and int(name) not in whole:
                    buckets.delete_folder(str(self.folder / name))

    def _prove(self, read: bool) -> None:
        """Waits for the save under way, which reads itself back."""
        del read
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self, prove: bool = True) -> None:
        """Waits until everything is in the bucket, and was read back."""
        try:
            self._prove(prove)
        finally:
            self._writer.shutdown()

    def replace_from(self, step: int) -> None:
        """Lets the next save replace the checkpoints of this step and of later ones."""
        self._damaged = [later for later in steps_in(self.folder) if later >= step]

    def restore(self, target: Any, say: Callable[[str], None] = print) -> Saved | None:
        """Restores the newest checkpoint that can be read; each process reads it by itself."""
        found = newest_good(self.folder, say) if distributed.is_main() else None
        step = distributed.from_main(found.step if found else 0)
        steps = steps_in(self.folder)
        if step == NONE_GOOD:
            raise UserError(f"{self.folder}: none of the checkpoints of steps {steps} can be read")
        if step == NO_CHECKPOINT:
            return None
        self._damaged = [newer for newer in steps if newer > step]
        if found is None or found.saved is None:
            with reading(self.folder, step) as manager:
                saved = read_step(manager, step, self.folder)
        else:
            saved = found.saved
        arrays = leaf_names(saved.state)
        self.by_saved_name(step, arrays, target)
        leaves = [_laid_out(arrays[saved_name(name, set(arrays))], leaf) for name, leaf in leaf_names(target).items()]
        return Saved(jax.tree.unflatten(jax.tree.structure(target), leaves), saved.meta)


def _laid_out(array: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
    """An array over the devices of a sharding, of which each process gives those of its own."""
    whole = np.asarray(array, like.dtype)
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: whole[index])
