"""The folder of a run: what it says about itself, checked whenever a run goes on in it or starts from it."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import distributed
from mdp_jax.configs import RunConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage.checkpoints import Checkpoints, Saved
from mdp_jax.storage.json_files import PARTIAL, write_json
from mdp_jax.storage.locks import locked
from mdp_jax.storage.paths import make_folder, require_plain

_FIRST = "label_space.json"  # of the files of a run: all that there is where it was killed before config.json
LOCK = "run.lock"


def require_free_or_same(workdir: str | os.PathLike, config: ConfigDict, label_space: LabelSpace) -> None:
    """Checks that a run may use a folder: there is none, it is empty, or the run in it has this config and label space.

    Raises:
      UserError: the folder belongs to another run, or holds other things than a run.
    """
    folder = pathlib.Path(workdir)
    if (folder / "config.json").exists():
        configs.require_same(configs.load_json(folder / "config.json"), config, folder)
        LabelSpace.load(folder / _FIRST).require_same(label_space, str(folder))
    elif folder.is_dir() and any(
        path.name not in (_FIRST, LOCK) and path.suffix != PARTIAL for path in folder.iterdir()
    ):
        raise UserError(
            f"--workdir {folder}: not empty and without config.json; expected a new folder or that of a run"
        )


def require_agreement(config: ConfigDict, label_space: LabelSpace, photos: dict[str, dict]) -> None:
    """Checks that all processes of a run have the same config (its free keys aside), label space and photos.

    Args:
      config: of the run.
      label_space: of its datasets.
      photos: of each of its datasets, as data.sources.photos_of has them.

    Raises:
      UserError: in every process, naming those that differ from process 0, and the value.
    """
    rows = {f"label space {i}": f"{row['dataset']}/{row['class']}" for i, row in enumerate(label_space.rows())}
    found = {f"dataset {name!r}": f"{row['count']} photos, {row['names'][:12]}" for name, row in photos.items()}
    values = {f"config.{key}": value for key, value in configs.identity(config).items()}
    distributed.require_agreement(values | rows | found)


def start(workdir: str | os.PathLike, config: ConfigDict, label_space: LabelSpace) -> pathlib.Path:
    """Makes the folder of a run, with its config and label space; to be called when nothing else can be refused.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    folder = pathlib.Path(workdir)
    if distributed.is_main():
        make_folder(folder, "--workdir")
        label_space.save(folder / _FIRST)
        write_json(folder / "config.json", configs.to_dict(config))
    distributed.barrier("workdir")
    return folder


def has_checkpoints(workdir: str | os.PathLike) -> bool:
    """Whether a run in this workdir would go on instead of beginning."""
    # A step that was being written when its run was killed is a folder of another name.
    return any(path.name.isdecimal() for path in (pathlib.Path(workdir) / "checkpoints").glob("*"))


@contextlib.contextmanager
def held(workdir: str | os.PathLike) -> Iterator[None]:
    """Keeps a workdir for one run at a time; of several processes the main one keeps it.

    Where nothing was written, the folder is left as it was found.

    Raises:
      UserError: a path of which checkpoints could not be read again, or a run is under way in it.
    """
    require_plain(workdir, "--workdir")
    folder = pathlib.Path(workdir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--workdir {folder}: a file; expected a folder")
    if not distributed.is_main():
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    had_lock = (folder / LOCK).exists()
    try:
        with locked(folder, LOCK, "--workdir", "another run of mdp; wait for it, or choose another folder"):
            yield
    finally:
        with contextlib.suppress(OSError):
            if not had_lock and not (folder / "config.json").exists():
                (folder / LOCK).unlink()
                for path in made:
                    path.rmdir()


def checkpoints(workdir: pathlib.Path, config: RunConfig) -> Checkpoints:
    """The checkpoints of a run, of which as many stay as its config says."""
    return Checkpoints(workdir, config.keep_checkpoints, config.keep_every)


def restore(
    checkpoints: Checkpoints, state: Any, shardings: Any, label_space: LabelSpace, photos: dict[str, dict]
) -> Saved:
    """The newest good checkpoint, or `state` and {} where there is none.

    Args:
      checkpoints: of the workdir.
      state: as at the beginning of a run.
      shardings: of the state.
      label_space: what this run was given.
      photos: of each of its datasets, as data.sources.photos_of has them.

    Raises:
      UserError: the checkpoint was made with another label space, other photos or another network.
    """
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    found = checkpoints.restore(target)
    if found is None:
        return Saved(state, {})
    LabelSpace.from_rows(found.meta["label_space"]).require_same(label_space, str(checkpoints.folder))
    _require_same_photos(found.meta["photos"], photos, checkpoints.folder)
    if distributed.is_main():
        print(f"going on after step {int(found.state.step)} ({checkpoints.folder})")
    return found


def _require_same_photos(before: dict[str, dict], now: dict[str, dict], where: pathlib.Path) -> None:
    """A run that goes on with other photos would have another order, other shares and another length."""
    for name, found in now.items():
        if found["count"] != before[name]["count"]:
            counts = f"{found['count']} photos, and had {before[name]['count']} when the run began"
            raise UserError(f"{where}: dataset {name!r} has {counts}; expected those, or a new --workdir")
        for key, what in (("names", "of other names"), ("content", "whose files hold something else")):
            # Checkpoints of earlier versions have no content.
            if found.get(key) != before[name].get(key, found.get(key)):
                other = f"photos {what} than when the run began"
                raise UserError(f"{where}: dataset {name!r} has {other}; expected those, or a new --workdir")
