"""Which photos `mdp predict` labels, and which files it writes for each of them."""

import glob
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mdp_jax.data.kinds.listing import PHOTOS
from mdp_jax.errors import UserError
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.buckets import is_bucket
from mdp_jax.storage.folders import walk
from mdp_jax.storage.paths import as_path

_PATTERN = "*?["


class Photo(NamedTuple):
    """A photo to label.

    Attributes:
      path: of its file.
      stem: its path without the suffix, from the folder or pattern that was named on; under the folder of the outputs
        its files have this path.
    """

    path: str
    stem: pathlib.Path


def find(named: Sequence[str], out: str) -> list[Photo]:
    """Finds the photos that a command names: files, folders with all that is below them, and patterns.

    Args:
      named: paths; a pattern has *, ? or [], and ** stands for folders of any depth. A file of such a name is a file.
      out: folder of the outputs. What is in it is not taken for photos, unless it holds a named folder or pattern.

    Returns:
      The photos, those of a folder or pattern in order of their paths.

    Raises:
      UserError: a folder without photos, or a pattern that nothing has.
    """
    found: list[Photo] = []
    for text in named:
        path = as_path(text)
        if path.is_dir():
            inside = _inside(path, out)
            if not inside:
                raise UserError(f"{text}: no photo in this folder or below it; expected files such as .jpg or .png")
            found += inside
        elif any(sign in text for sign in _PATTERN) and not path.exists() and not os.path.lexists(text):
            found += _of_pattern(text, out)
        else:
            found.append(Photo(text, pathlib.Path(path.stem)))
    return found


def _inside(folder: pathlib.Path, out: str, top: pathlib.Path | None = None) -> list[Photo]:
    """The photos in a folder and below it, by their paths from `top` on; hidden files and folders are left out."""
    outputs, found = as_path(out).resolve(), []
    for place, inside, names in walk(str(folder)) if isinstance(folder, BucketPath) else os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        if outputs == as_path(place).resolve() and outputs != folder.resolve():
            inside.clear()
            continue
        for name in sorted(names):  # a file that is named itself may have any suffix
            if not name.startswith(".") and name.lower().endswith(PHOTOS):
                path = as_path(place) / name
                found.append(Photo(os.fspath(path), path.relative_to(top or folder).with_suffix("")))
    return found


def _of_pattern(pattern: str, out: str) -> list[Photo]:
    if is_bucket(pattern):
        raise UserError(f"{pattern}: a pattern in a bucket; expected a folder of it, or the photos one by one")
    parts = pathlib.Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if any(sign in part for sign in _PATTERN))
    top, outputs = pathlib.Path(*parts[:fixed]), as_path(out).resolve()
    below = outputs not in (top.resolve(), *top.resolve().parents)  # otherwise all photos lie in the folder
    found: list[Photo] = []
    for text in sorted(glob.glob(pattern, recursive=True)):
        path = pathlib.Path(text)
        if below and outputs in path.resolve().parents:
            continue
        if path.is_file():
            found.append(Photo(text, path.relative_to(top).with_suffix("")))
        elif path.is_dir() and "**" not in pattern:  # which names what is in its folders too
            found += _inside(path, out, top)
    if "**" in pattern:
        found = [photo for photo in found if photo.path.lower().endswith(PHOTOS)]
    if not found:
        such = top / "**" / "*.jpg" if fixed else "photos/**/*.jpg"
        raise UserError(f"{pattern}: no photo has such a path; expected a pattern such as '{such}'")
    return found


def plan(photos: Sequence[Photo], out: str, endings: Iterable[str]) -> list[list[pathlib.Path]]:
    """Names the outputs of every photo.

    Args:
      photos: what `find` gives.
      out: folder of the outputs.
      endings: of the names of each photo's outputs, behind its stem.

    Returns:
      For each photo its files, in the order of the endings.

    Raises:
      UserError: two photos have an output of the same name, or an output would replace a photo.
    """
    endings, given = list(endings), {as_path(photo.path).resolve() for photo in photos}
    taken: dict[pathlib.Path, str] = {}
    outputs = []
    for photo in photos:
        files = [as_path(out) / photo.stem.parent / (photo.stem.name + ending) for ending in endings]
        for file in files:
            if file in taken:
                if taken[file] == photo.path:
                    raise UserError(f"{photo.path}: given twice; expected each photo once")
                raise UserError(
                    f"{photo.path}: has the same name as {taken[file]}, so both would be written to {file}; expected "
                    "photos of different names"
                )
            if file.resolve() in given:
                raise UserError(f"--out {out}: {file} would replace a photo; expected another folder")
            taken[file] = photo.path
        outputs.append(files)
    return outputs


def require_own(labels: pathlib.Path, overlay: pathlib.Path, out: str) -> None:
    """Checks that a label map replaces no file of somebody else, as the mask that a set keeps beside its photo.

    Label maps of an earlier command have an overlay beside them. Files of buckets are not looked for.

    Args:
      labels: the label map to write.
      overlay: of the same photo; it is written before the label map.
      out: folder of the outputs.

    Raises:
      UserError: there is such a file, and no overlay.
    """
    if not isinstance(labels, BucketPath) and labels.exists() and not overlay.exists():
        raise UserError(
            f"--out {out}: {labels} would be replaced, and is none of mdp predict, as there is no {overlay.name} "
            "beside it; expected another folder, or remove the file"
        )
