"""The file metrics.jsonl of a workdir."""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Mapping

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import files
from mdp_jax.storage.json_files import parse_json
from mdp_jax.storage.paths import expanded

FILE = "metrics.jsonl"
_NUMBER = (None, float)  # null: nothing was measured
_ROW = {"step": int, str: (*_NUMBER, [_NUMBER])}


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The rows of a workdir's metrics.jsonl, in order; a half-written last line is left out.

    Args:
      workdir: of a run; there need not be such a file in it.

    Raises:
      UserError: a line before the last one is no row, or one holds something else than numbers.
    """
    file = expanded(workdir) / FILE
    if not os.path.exists(file):
        return []
    lines = files.read_bytes(file, "the metrics of a run").split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line, f"{file} line {number}", "a row of metrics; remove that line", _ROW))
        except UserError:
            if number == len(lines):  # without its line break: the run was killed while it wrote
                break
            raise
    return rows


def append(file: pathlib.Path, row: Mapping) -> None:
    """Adds a row to a file of metrics; the file is as it was where that fails.

    Args:
      file: that exists.
      row: JSON values.

    Raises:
      UserError: the file cannot be written.
    """
    line = (json.dumps(row) + "\n").encode()
    before = None
    try:
        with file.open("ab", buffering=0) as there:
            before = there.tell()
            if there.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            files.to_disk(there.fileno())  # before the checkpoint of its step
    except OSError as error:
        if before is not None:
            with contextlib.suppress(OSError):
                os.truncate(file, before)
        message = f"{file}: {error.strerror}; expected a file that can be written; checkpoints stay"
        raise of_system(error, message) from None
