"""Photos of buckets in a folder of this machine, of a bounded size, so that an epoch reads the network once.

A file is named by the object's path and version: an object that was written again is read again. The files that were
not used for the longest time are deleted when the folder is full. Several processes may share a folder.
"""

import contextlib
import errno
import hashlib
import os
import pathlib
import threading
import time
import uuid
from collections.abc import Iterator

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import buckets, files
from mdp_jax.storage.json_files import PARTIAL
from mdp_jax.storage.paths import as_path
from mdp_jax.storage.paths import local as local_path

_GIB = 2**30
_KEPT = 0.9  # share of the limit that stays when files are deleted
_USED = 600.0  # seconds after which a use of a file is noted again
_SEEN = 120.0  # seconds for which a listing of a folder of photos holds
_ABANDONED = 3600.0  # seconds after which a file that is being written counts as left by a process that was killed


class Cache:
    """A folder of copies."""

    def __init__(self, folder: pathlib.Path, limit: int):
        """Makes the folder.

        Args:
          folder: of this machine.
          limit: bytes that it may hold; 0 = nothing is kept.

        Raises:
          UserError: it cannot be made or written to.
        """
        self._folder, self._limit = folder, limit
        self._lock = threading.Lock()
        self._pinned: set[str] = set()
        self._held = 0  # bytes, as far as this process knows; others may add to them
        if limit:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                trial = folder / f"{uuid.uuid4().hex}{PARTIAL}"
                trial.write_bytes(b"")
                trial.unlink()
            except OSError as error:
                line = f"config.data.cache_dir={str(folder)!r}: {error.strerror}; expected a folder to write to"
                raise of_system(error, line) from None
            self._held = self._make_room(limit)

    def local(self, url: str, entry: buckets.Entry) -> pathlib.Path | None:
        """The copy of an object, which is downloaded where there is none; None where the object is too large for it.

        Args:
          url: of the object.
          entry: what a listing says of it.

        Raises:
          FileNotFoundError: the object was deleted.
          UserError: it cannot be read, or its copy cannot be written.
        """
        if entry.size > self._limit * _KEPT:
            return None
        name = hashlib.sha256(f"{url}\n{entry.version}\n{entry.size}".encode()).hexdigest()
        file = self._folder / name[:2] / f"{name[2:]}{pathlib.PurePosixPath(url).suffix}"
        with contextlib.suppress(OSError):
            found = file.stat()
            if found.st_size == entry.size:  # other than after a loss of power
                if time.time() - found.st_mtime > _USED:
                    os.utime(file)
                return file
        partial = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            buckets.download(url, partial, entry.size)
            size = partial.stat().st_size
            os.replace(partial, file)
        except FileNotFoundError:
            raise
        except OSError as error:
            line = f"config.data.cache_dir={str(self._folder)!r}: {error.strerror}; expected a folder to write to"
            raise of_system(error, line) from None
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        with self._lock:
            self._held += size
            if self._held > self._limit:
                self._held = self._make_room(int(_KEPT * self._limit))
        return file

    def pin(self, file: pathlib.Path) -> None:
        """Keeps this process from deleting a copy that it reads from time to time.

        Args:
          file: as `local` gave it.
        """
        self._pinned.add(str(file))

    def require_room(self, size: int, what: str) -> None:
        """Checks that files which are used together fit.

        Args:
          size: of all of them, in bytes.
          what: they are, for the error.

        Raises:
          UserError: they do not.
        """
        if size > _KEPT * self._limit:
            raise UserError(
                f"{what}: {size / _GIB:.3g} GiB, of which a copy must lie on this machine; expected "
                f"config.data.cache_gb of at least {1.2 * size / _GIB:.3g}, and it is {self._limit / _GIB:.3g}"
            )

    def _make_room(self, most: int) -> int:
        """Deletes the files that were not used for the longest time until so many bytes are left; says how many are."""
        now, found = time.time(), []
        for place, _, names in os.walk(self._folder):
            for name in names:
                with contextlib.suppress(OSError):  # another process has deleted it
                    path = os.path.join(place, name)
                    status = os.stat(path)
                    if path in self._pinned:
                        continue
                    if not name.endswith(PARTIAL):
                        found.append((status.st_mtime, status.st_size, path))
                    elif now - status.st_mtime > _ABANDONED:
                        os.unlink(path)
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= most:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
        return total


_CACHES: dict[tuple[str, float], Cache] = {}
_MAKING = threading.Lock()
_VERSIONS: dict[str, buckets.Entry] = {}  # of photos that a listing named
_LISTINGS: dict[str, tuple[float, dict[str, buckets.Entry]]] = {}
_CHOSEN: list[tuple[str, float]] = [("", 20.0)]


def choose(folder: str, gigabytes: float) -> None:
    """Chooses the cache for what is read from now on; the folder is made when the first photo of a bucket is read.

    Args:
      folder: config.data.cache_dir; "" = mdp_jax/photos in the user's folder of caches.
      gigabytes: config.data.cache_gb, of 2^30 bytes; 0 = nothing is kept.
    """
    _CHOSEN[:] = [(folder, gigabytes)]


def in_use() -> Cache:
    """The cache that was chosen.

    Raises:
      UserError: its folder cannot be used.
    """
    folder, gigabytes = _CHOSEN[0]
    with _MAKING:
        if (folder, gigabytes) not in _CACHES:
            place = local_path(folder, "config.data.cache_dir") if folder else _usual()
            _CACHES[folder, gigabytes] = Cache(place, int(gigabytes * _GIB))
        return _CACHES[folder, gigabytes]


def _usual() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "mdp_jax" / "photos"


def listing(folder: str) -> dict[str, buckets.Entry]:
    """As `buckets.entries`, of a folder of data, which does not change while a run begins: asked for once.

    Args:
      folder: of a bucket.
    """
    known = _LISTINGS.get(folder)
    if known is None or time.monotonic() - known[0] > _SEEN:
        found = buckets.entries(folder)
        _VERSIONS.update((f"{folder}/{name}", entry) for name, entry in found.items() if not entry.folder)
        known = _LISTINGS[folder] = (time.monotonic(), found)
    return known[1]


def known(path: str | os.PathLike) -> buckets.Entry:
    """Size and version of an object of data; those of a folder that was listed are not asked for again.

    Args:
      path: of a bucket.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: it cannot be asked for.
    """
    url = os.fspath(path)
    entry = _VERSIONS.get(url) or buckets.entry(url)
    if entry is None or entry.folder:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    _VERSIONS[url] = entry
    return entry


def local(path: str | os.PathLike) -> pathlib.Path | None:
    """The copy of an object on this machine; None where it is kept nowhere.

    Args:
      path: of a bucket.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: it cannot be read.
    """
    return in_use().local(os.fspath(path), known(path))


def read_bytes(path: str | os.PathLike, expected: str) -> bytes:
    """As `files.read_bytes`; of a bucket through the cache.

    Args:
      path: of the file.
      expected: what the file should be, for the error.

    Raises:
      UserError: as there.
    """
    if not buckets.is_bucket(path):
        return files.read_bytes(path, expected)
    for _ in range(2):
        try:
            copy = local(path)
            return copy.read_bytes() if copy else files.read_bytes(path, expected)
        except FileNotFoundError:  # of the copy: deleted just now, since another process needed the room
            continue
    return files.read_bytes(path, expected)


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator:
    """A file of this machine or of a bucket, as bytes that can be sought in, without a buffer.

    Args:
      path: of it.

    Raises:
      OSError: it cannot be opened.
      UserError: likewise, in a bucket.
    """
    place = as_path(path)
    with contextlib.ExitStack() as stack:
        copy = local(place) if buckets.is_bucket(place) else place
        yield stack.enter_context((copy or place).open("rb", buffering=0))
