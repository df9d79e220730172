"""Files that the commands write in one piece."""

import json
import pathlib

from mdp_jax.errors import UserError

PARTIAL = ".partial"  # suffix of a file that is being written


def write_json(path: pathlib.Path, values) -> None:
    """`write_text` of values as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that it is whole, or what it was before, whatever happens in between.

    Raises:
      UserError: the file cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a file that can be written") from None
