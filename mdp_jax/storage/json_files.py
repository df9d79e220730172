"""Files that the commands write in one piece."""

import contextlib
import json
import pathlib
from typing import Any

from mdp_jax.errors import UserError

PARTIAL = ".partial"  # suffix of a file that is being written


def write_json(path: pathlib.Path, values: Any) -> None:
    """Writes values as JSON, by `write_text`.

    Args:
      path: the file.
      values: JSON values.

    Raises:
      UserError: the file cannot be written.
    """
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that it is either complete or as it was before, whatever happens in between.

    Args:
      path: the file.
      text: what it holds then, in UTF-8.

    Raises:
      UserError: the file cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        # A path with bytes that are no UTF-8 holds what UTF-8 has no form for; as an escape JSON reads it back.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UserError(f"{path}: {error.strerror}; expected a file that can be written") from None
