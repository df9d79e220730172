"""Arguments that several commands have."""

import argparse
import pathlib

from mdp_jax.errors import UserError


def whole_number(text: str) -> int:
    """A `type` for argparse: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(text)


def json_file(text: str | None) -> pathlib.Path | None:
    """Checks the file that --json names, before anything is measured.

    Args:
      text: value of --json; None where it was not given.

    Returns:
      The file; None where --json was not given.

    Raises:
      UserError: it is a folder, or its folder does not exist.
    """
    if not text:
        return None
    path = pathlib.Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--json {path}: expected a file in a folder that exists")
    return path
