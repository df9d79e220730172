"""Paths as users write them."""

import errno
import os
import pathlib

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import buckets
from mdp_jax.storage.bucket_path import BucketPath

_PATTERN = "*?[]{}\\"  # which the writer of checkpoints takes for a pattern


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """A path with ~ or ~name at its beginning as that home folder; one of gs:// or s3:// as a BucketPath.

    Args:
      path: as a user wrote it.

    Raises:
      UserError: the home folder is not known, no system has such a path, or it is a URL of another scheme.
    """
    if isinstance(path, BucketPath):
        return path
    text = os.fspath(path)
    buckets.require_known(text)
    if buckets.is_bucket(text):
        return BucketPath(text)
    found = os.path.expanduser(text)
    if "\0" in found:
        raise UserError(f"{found!r}: expected a path without NUL")
    if found.startswith("~") and not os.path.lexists(found):
        home = found.split(os.sep)[0]
        raise UserError(
            f"{text}: no home folder is known for {home}; expected a path (./{home} is a folder of that name)"
        )
    return pathlib.Path(found)


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """A path that `expanded` has given before, or a part of it, as an object; ~ is a letter like the others.

    Args:
      path: of this machine, or of a bucket.
    """
    if isinstance(path, BucketPath):
        return path
    return BucketPath(path) if buckets.is_bucket(path) else pathlib.Path(path)


def is_there(path: str | os.PathLike) -> bool:
    """Whether there is a file or folder; False where no system has such a path.

    Args:
      path: of this machine, or of a bucket.
    """
    return as_path(path).exists() if buckets.is_bucket(path) else os.path.exists(path)


def local(path: str | os.PathLike, option: str) -> pathlib.Path:
    """As `expanded`, of what is read or written on this machine alone.

    Args:
      path: as a user wrote it.
      option: what names it, for the error.

    Raises:
      UserError: it is a path of a bucket, or as for `expanded`.
    """
    found = expanded(path)
    if isinstance(found, BucketPath):
        raise UserError(
            f"{option} {found}: in a bucket; expected a path of this machine, from or to which it is copied"
        )
    return found


def joined(folder: str | os.PathLike, path: str | os.PathLike) -> pathlib.Path:
    """A path below a folder, or the path alone where it is absolute or of a bucket.

    Args:
      folder: as a user wrote it, of this machine or a bucket.
      path: likewise.

    Raises:
      UserError: as for `expanded`.
    """
    own = expanded(path)
    return own if own.is_absolute() else expanded(folder) / own


def make_folder(path: str | os.PathLike, option: str) -> pathlib.Path:
    """Makes a folder, with those that it lies in, where it is not there.

    Args:
      path: the folder.
      option: what names it, for the error.

    Raises:
      UserError: it cannot be made.
    """
    folder = as_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        if isinstance(error, FileExistsError):
            raise UserError(f"{option} {folder}: a file; expected a folder") from None
        reason = getattr(error, "strerror", None) or error
        raise of_system(error, f"{option} {folder}: {reason}; expected a folder that can be made") from None
    return folder


def require_possible(path: str | os.PathLike, option: str) -> None:
    """Checks, before anything is computed, that a folder is there or could be made.

    Args:
      path: the folder.
      option: what names it, for the error.

    Raises:
      UserError: it lies in a file, or in a folder in which this user makes no others; of a bucket, there are no
        credentials, no such bucket, or no right to write.
    """
    folder = as_path(path).absolute()
    if isinstance(folder, BucketPath):
        buckets.require_usable(str(folder), option)
        return
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise of_system(error, f"{option} {folder}: {error.strerror}; expected a folder that can be made") from None
    if not there.is_dir():
        where = "a file" if there == folder else f"{there} is a file"
        raise UserError(f"{option} {folder}: {where}; expected a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{option} {folder}: {os.strerror(errno.EACCES)} in {there}; expected a folder to write to")


def require_plain(path: str | os.PathLike, option: str) -> None:
    """Checks that checkpoints in a folder can be written and read again.

    Args:
      path: the folder.
      option: the option that named it, for the error.

    Raises:
      UserError: the absolute path of the folder has a character that stands for others in a pattern, or is no text.
    """
    whole = str(as_path(path).absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{option} {os.fsencode(whole)!r}: has bytes that are no UTF-8, with which checkpoints cannot be written; "
            "expected a path without them"
        ) from None
    found = [character for character in whole if character in _PATTERN]
    if found:
        raise UserError(
            f"{option} {whole}: has the character {found[0]!r}, with which checkpoints cannot be read again; "
            "expected a path without any of " + " ".join(_PATTERN)
        )
