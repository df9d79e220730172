"""The folder of a run: its config, label space and checkpoints, checked when a run begins or goes on in it."""

import contextlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import distributed
from mdp_jax.configs import RunConfig
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage import buckets
from mdp_jax.storage.bucket_checkpoints import open_checkpoints
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.checkpoints import NEWEST, Checkpoints, Saved, steps_in
from mdp_jax.storage.json_files import PARTIAL, write_json
from mdp_jax.storage.locks import locked
from mdp_jax.storage.paths import as_path, make_folder, require_plain, require_possible
from mdp_jax.words import counted

_FIRST = "label_space.json"  # of the files of a run: all that there is where it was killed before config.json
LOCK = "run.lock"


def require_free_or_same(workdir: str | os.PathLike, config: ConfigDict, label_space: LabelSpace) -> None:
    """Checks that a run may use a folder: it is new, empty, or has a run with this config and label space.

    Args:
      workdir: the folder.
      config: of the run.
      label_space: of its datasets.

    Raises:
      UserError: the folder has another run, or other things than a run.
    """
    folder = as_path(workdir)
    if (folder / "config.json").exists():
        configs.require_same(configs.load_json(folder / "config.json"), config, folder)
        LabelSpace.load(folder / _FIRST).require_same(label_space, str(folder))
    elif folder.is_dir() and not all(_is_of_a_start(path) for path in folder.iterdir()):
        raise UserError(
            f"--workdir {folder}: not empty and without config.json; expected a new folder or that of a run"
        )


def _is_of_a_start(path: pathlib.Path) -> bool:
    """Whether a file is one that a run leaves which was killed while it began."""
    in_bucket = isinstance(path, BucketPath) and path.name.startswith((f"{LOCK}.", buckets.PROBE))
    return path.name in (_FIRST, LOCK) or path.suffix == PARTIAL or in_bucket


def require_agreement(
    config: ConfigDict, label_space: LabelSpace, photos: dict[str, dict], names: dict | None = None
) -> None:
    """Checks that all processes of a run have the same config (except its free keys), label space and photos.

    Args:
      config: of the run.
      label_space: of its datasets.
      photos: of each of its datasets, as data.sources.photos_of gives them.
      names: the identity of data.class_names.Named; None where names are not used.

    Raises:
      UserError: a process differs from process 0; every process raises it.
    """
    rows = {f"label space {i}": f"{row['dataset']}/{row['class']}" for i, row in enumerate(label_space.rows())}
    found = {f"dataset {name!r}": f"{row['count']} photos, {row['names'][:12]}" for name, row in photos.items()}
    values = {f"config.{key}": value for key, value in configs.identity(config).items()}
    distributed.require_agreement(values | rows | found | ({} if names is None else {"relations": names}))


def start(workdir: str | os.PathLike, config: ConfigDict, label_space: LabelSpace) -> pathlib.Path:
    """Makes the folder of a run, with its config and label space. Call it after all checks.

    Args:
      workdir: the folder.
      config: of the run.
      label_space: of its datasets.

    Returns:
      The folder.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    folder = as_path(workdir)
    if distributed.is_main():
        make_folder(folder, "--workdir")
        label_space.save(folder / _FIRST)
        write_json(folder / "config.json", configs.to_dict(config))
    distributed.barrier("workdir")
    return folder


def has_checkpoints(workdir: str | os.PathLike) -> bool:
    """Whether a run in this workdir would go on, since there are checkpoints.

    Args:
      workdir: of the run.
    """
    return bool(steps_in(as_path(workdir) / NEWEST))


class Held:
    """Keeps a workdir for one run at a time, while it is entered; of several processes the main one keeps it.

    A folder that is there is kept at once, another one from `keep` on. Where nothing was written, the folder is left
    as it was found.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Looks at the path.

        Args:
          workdir: of the run.

        Raises:
          UserError: a file, a folder that cannot be made, or a path of which checkpoints could not be read again.
        """
        require_plain(workdir, "--workdir")
        self._folder = as_path(workdir)
        if distributed.is_main() or not isinstance(self._folder, BucketPath):  # of a bucket one process alone writes
            require_possible(workdir, "--workdir")
        self._had_lock = isinstance(self._folder, BucketPath) or (self._folder / LOCK).exists()
        self._kept = contextlib.ExitStack()
        self._keeps = False

    def __enter__(self) -> "Held":
        if self._folder.is_dir():
            self.keep()
        return self

    def keep(self) -> None:
        """Keeps the folder, and makes it where it is missing.

        Raises:
          UserError: a run is under way in it, or it cannot be made.
        """
        if self._keeps or not distributed.is_main():
            return
        holders = "another run of mdp; wait for it, or choose another folder"
        self._kept.enter_context(locked(self._folder, LOCK, "--workdir", holders))
        self._keeps = True

    def __exit__(self, *exception: object) -> None:
        self._kept.close()
        with contextlib.suppress(OSError):
            if self._keeps and not self._had_lock and not (self._folder / "config.json").exists():
                (self._folder / LOCK).unlink()


def checkpoints(workdir: pathlib.Path, config: RunConfig) -> Checkpoints:
    """Opens the checkpoints of a run.

    Args:
      workdir: of the run.
      config: `keep_checkpoints` and `keep_every` are read.
    """
    return open_checkpoints(workdir, config.keep_checkpoints, config.keep_every)


def restore(
    checkpoints: Checkpoints,
    state: Any,
    shardings: Any,
    label_space: LabelSpace,
    photos: dict[str, dict],
    scored: dict[str, dict] | None = None,
) -> Saved:
    """Restores the newest good checkpoint.

    Args:
      checkpoints: of the workdir.
      state: of step 0.
      shardings: of the state.
      label_space: of this run.
      photos: of each of its datasets, as data.sources.photos_of gives them.
      scored: the same of the photos that it is validated on; None where it is not.

    Returns:
      The checkpoint; `state` and {} where there is none.

    Raises:
      UserError: the checkpoint was made with another label space, other photos or another network.
    """
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    found = checkpoints.restore(target)
    if found is None:
        return Saved(state, {})
    LabelSpace.from_rows(found.meta["label_space"]).require_same(label_space, str(checkpoints.folder))
    require_same_photos(found.meta, photos, scored or {}, checkpoints.folder)
    if distributed.is_main():
        print(f"going on after step {int(found.state.step)} ({checkpoints.folder})")
    return found


def require_same_photos(
    meta: Mapping[str, Any], photos: Mapping[str, dict], scored: Mapping[str, dict], where: pathlib.Path
) -> None:
    """Checks that a run has the photos that a checkpoint of it was made with.

    With others it would have another order, other shares and another length, and its validations would be compared
    with those of other photos.

    Args:
      meta: what the checkpoint has beside the state: "photos", and "scored" where the run was validated, which those
        of earlier versions do not have; {} = there is none.
      photos: of each dataset of the run, as data.sources.photos_of gives them.
      scored: the same of its validation photos.
      where: the folder of the checkpoint, for the error.

    Raises:
      UserError: a dataset has other photos now.
    """
    for kind, now, before in (("", photos, meta.get("photos", {})), (" validation", scored, meta.get("scored", {}))):
        for name in now.keys() & before.keys():
            _require_alike(name, kind, before[name], now[name], where)


def _require_alike(name: str, kind: str, before: Mapping, now: Mapping, where: pathlib.Path) -> None:
    if now["count"] != before["count"]:
        photos = counted(now["count"], f"{kind} photo".strip())
        has = f"{photos}, and had {before['count']} when the run began"
        raise UserError(f"{where}: dataset {name!r} has {has}; expected those, or a new --workdir")
    for key, what in (("names", "of other names"), ("content", "whose files hold something else")):
        # Checkpoints of earlier versions have no content, or not that of every kind.
        if before.get(key, sources.NO_CONTENT) not in (now.get(key), sources.NO_CONTENT):
            other = f"{kind} photos".strip() + f" {what} than when the run began"
            raise UserError(f"{where}: dataset {name!r} has {other}; expected those, or a new --workdir")
