"""Folders that one command at a time works in."""

import contextlib
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.leases import Lease


@contextlib.contextmanager
def locked(folder: pathlib.Path, file: str, option: str, holders: str) -> Iterator[int]:
    """Locks a folder while the context lasts, and makes it where it is missing.

    On a file system without locks the folder counts as free. In a bucket the lock is an object (leases.py).

    Args:
      folder: the folder.
      file: name of the lock file in it, which stays there.
      option: the option that named the folder, for errors.
      holders: the commands that may hold the lock, for errors.

    Yields:
      The descriptor of the lock, which child processes may hold too; -1 of a bucket.

    Raises:
      UserError: the folder cannot be made, or another process holds its lock.
    """
    if isinstance(folder, BucketPath):
        with _leased(folder, file, option, holders):
            yield -1
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        line = f"{option} {folder}: {error.strerror}; expected a folder that can be written"
        raise of_system(error, line) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(f"{option} {folder}: in use by {holders}") from None
    except OSError:  # as on network file systems that are mounted so
        pass
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def _leased(folder: BucketPath, file: str, option: str, holders: str) -> Iterator[None]:
    lease = Lease(str(folder / file))
    if not lease.take(lambda line: print(f"mdp: {line}", file=sys.stderr, flush=True)):
        raise UserError(f"{option} {folder}: in use by {holders}")
    try:
        yield
    finally:
        with contextlib.suppress(UserError):  # what ended the command is what is said
            lease.give_back()
