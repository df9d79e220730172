"""Paths as users write them."""

import os
import pathlib

from mdp_jax.errors import UserError

_PATTERN = "*?[]{}\\"  # which the writer of checkpoints takes for a pattern


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """A path with ~ as the home folder."""
    return pathlib.Path(os.path.expanduser(path))


def require_plain(path: str | os.PathLike, option: str) -> None:
    """Checks that checkpoints in a folder can be read again.

    Args:
      path: the folder.
      option: the option that named it, for the error.

    Raises:
      UserError: the absolute path of the folder has a character that stands for others in a pattern.
    """
    whole = str(pathlib.Path(path).absolute())
    found = [character for character in whole if character in _PATTERN]
    if found:
        raise UserError(
            f"{option} {whole}: has the character {found[0]!r}, with which checkpoints cannot be read again; "
            "expected a path without any of " + " ".join(_PATTERN)
        )
