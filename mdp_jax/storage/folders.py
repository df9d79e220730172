"""Folders of data, on this machine or in a bucket; those of a bucket are listed once while a run begins."""

import os
from collections.abc import Iterator

from mdp_jax.storage import buckets, photo_cache


def is_dir(path: str | os.PathLike) -> bool:
    """Whether a path is a folder.

    Args:
      path: of this machine or of a bucket.
    """
    return bool(_listed(path)) if buckets.is_bucket(path) else os.path.isdir(path)


def exists(path: str | os.PathLike) -> bool:
    """Whether there is a file or a folder.

    Args:
      path: of this machine or of a bucket.
    """
    if not buckets.is_bucket(path):
        return os.path.exists(path)
    folder, _, name = os.fspath(path).rstrip("/").rpartition("/")
    return name in _listed(folder)


def names(folder: str | os.PathLike) -> list[str]:
    """What is in a folder, sorted.

    Args:
      folder: of this machine or of a bucket.

    Raises:
      OSError: it cannot be listed.
      UserError: likewise, in a bucket.
    """
    return sorted(_listed(folder)) if buckets.is_bucket(folder) else sorted(os.listdir(folder))


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, of a folder in a bucket.

    Args:
      folder: of a bucket.

    Yields:
      A folder, the names of those in it, which the caller may take away from, and the names of its objects.
    """
    found = _listed(folder)
    inside = sorted(name for name, entry in found.items() if entry.folder)
    yield folder, inside, sorted(name for name, entry in found.items() if not entry.folder)
    for name in inside:
        yield from walk(f"{folder}/{name}")


def _listed(folder: str | os.PathLike) -> dict[str, buckets.Entry]:
    return photo_cache.listing(os.fspath(folder).rstrip("/"))
