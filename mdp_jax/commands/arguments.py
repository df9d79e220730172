"""Arguments that several commands take."""

import argparse
import pathlib

from mdp_jax.errors import UserError


def whole_number(text: str) -> int:
    """A `type` for argparse: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(text)


def json_file(text: str | None) -> pathlib.Path | None:
    """The file that --json names, before anything is measured for it; None where it was not given.

    Raises:
      UserError: a folder, or a file in a folder that does not exist.
    """
    if not text:
        return None
    path = pathlib.Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--json {path}: expected a file in a folder that exists")
    return path
