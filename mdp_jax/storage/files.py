"""Reads files that a user names: only regular files of a bounded size, with one clear line where that fails."""

import errno
import os
import pathlib
import stat

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import buckets

_MOST_BYTES = 1 << 30  # of a file that is read as a whole; no photo within the limits of images.py comes near
_FORMS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def require_regular(path: str | os.PathLike, expected: str, where: str | None = None) -> os.stat_result:
    """Checks that a path names a regular file: reading a FIFO or a device may wait for ever.

    Args:
      path: of the file.
      expected: what the file should be, for the error.
      where: the name of the file in the error; its path where it is None.

    Returns:
      The status of the file.

    Raises:
      UserError: there is no such file, its status cannot be read, or it is not a regular file.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise unreadable(where or path, error, expected) from None
    form = next((words for is_form, words in _FORMS if is_form(found.st_mode)), None)
    if form:
        raise UserError(f"{shown(where or path)} is {form}; expected {expected}")
    return found


def read_bytes(path: str | os.PathLike, expected: str) -> bytes:
    """Reads a regular file.

    Args:
      path: of the file.
      expected: what the file should be, for the error.

    Returns:
      All its bytes.

    Raises:
      UserError: the file is missing, unreadable, not a regular file, or larger than 1 GiB.
    """
    if buckets.is_bucket(path):
        return _object(os.fspath(path), expected)
    size = require_regular(path, expected).st_size
    if size > _MOST_BYTES:
        raise UserError(f"{shown(path)} has {size:,} bytes; expected {expected} of at most {_MOST_BYTES:,}")
    try:
        return pathlib.Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(path, error, expected) from None


def _object(url: str, expected: str) -> bytes:
    """`read_bytes` of a bucket."""
    try:
        return buckets.read(url)
    except FileNotFoundError as error:
        raise unreadable(url, error, expected) from None


def to_disk(descriptor: int) -> None:
    """Waits until what was written is on the disk, so that a machine that loses its power keeps it.

    Args:
      descriptor: of an open file or folder.

    Raises:
      OSError: it could not be written. A file system that cannot tell raises nothing.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def unreadable(path: str | os.PathLike, error: Exception, expected: str) -> UserError:
    """Makes the error for a path that the system cannot open.

    Args:
      path: as it was given.
      error: the OSError, or the ValueError of a path with a NUL byte.
      expected: what the file should be.

    Returns:
      The error, which the caller raises.
    """
    reason = getattr(error, "strerror", None) or str(error)
    return of_system(error, f"{shown(path)} cannot be read ({reason}); expected {expected}")


def shown(path: str | os.PathLike) -> str:
    """A path as one line of a message has it: only its end where it is long, with escaped control characters.

    Args:
      path: as it was given.

    Returns:
      Printable text.
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(path))
    return text if len(text) <= 1000 else f"...{text[-200:]}"
