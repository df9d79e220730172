"""Files of JSON that the commands write."""

import json
import pathlib

from mdp_jax.errors import UserError


def write_json(path: pathlib.Path, values) -> None:
    """Writes JSON so that the file is whole or absent, whatever happens in between.

    Raises:
      UserError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(values, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a file that can be written") from None
