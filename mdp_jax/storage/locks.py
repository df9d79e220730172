"""Folders that one command at a time works in."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from mdp_jax.errors import UserError


@contextlib.contextmanager
def locked(folder: pathlib.Path, file: str, option: str, holders: str) -> Iterator[int]:
    """Makes a folder and holds it; gives the descriptor of its lock, which child processes may hold too.

    Args:
      folder: to be made where it is missing.
      file: name of the lock in it, which stays there.
      option: that named the folder, for errors.
      holders: who else may have it, for errors.

    Raises:
      UserError: the folder cannot be made, or another process has it. On a file system without locks nobody has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{option} {folder}: {error.strerror}; expected a folder that can be written") from None
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
