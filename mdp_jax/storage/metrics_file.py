"""The metrics of a run: metrics.jsonl of a workdir, and in a bucket a folder of parts, each of them whole.

An object cannot be added to. So a bucket has metrics/GGGG-PPPPP.jsonl: part P is written again with each row until it
is long enough, then the next one begins. Each start of a run begins another generation G with the rows that are kept
from before. The newest generation counts, from the moment at which its first part is there.
"""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from mdp_jax.errors import UserError, of_system
from mdp_jax.storage import buckets, files
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.json_files import parse_json, write_text
from mdp_jax.storage.paths import as_path, expanded, is_there

FILE, FOLDER = "metrics.jsonl", "metrics"
_NUMBER = (None, float)  # null: nothing was measured
_ROW = {"step": int, str: (*_NUMBER, [_NUMBER])}
_TRIES = 5  # where a run begins another generation, and deletes the one that was listed
_LONG = 2**16  # bytes of a part from which on the next one begins


def read_metrics(workdir: str | os.PathLike) -> list[dict]:
    """The rows of a workdir's metrics, in order; a half-written last line is left out.

    Args:
      workdir: of a run; there need not be such a file in it.

    Raises:
      UserError: a line before the last one is no row, or one holds something else than numbers.
    """
    folder = expanded(workdir)
    if not isinstance(folder, BucketPath):
        file = folder / FILE
        return _rows(file, files.read_bytes(file, "the metrics of a run")) if is_there(file) else []
    for _ in range(_TRIES):
        found = _newest(folder) or [folder / FILE]
        try:
            return [row for file in found for row in _rows(file, file.read_bytes())]
        except FileNotFoundError:
            if found == [folder / FILE] and not _newest(folder):
                return []
    raise UserError(f"{folder / FOLDER}: changes while it is read; expected one run in it")


def _rows(file: pathlib.Path, content: bytes) -> list[dict]:
    lines = content.split(b"\n")
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


def _generations(folder: BucketPath) -> dict[int, list[BucketPath]]:
    """The parts of each generation, in order."""
    found: dict[int, list[BucketPath]] = {}
    for name in sorted(buckets.entries(str(folder / FOLDER))):
        generation, dash, part = name.removesuffix(".jsonl").partition("-")
        if dash and generation.isdecimal() and part.isdecimal():
            found.setdefault(int(generation), []).append(folder / FOLDER / name)
    return found


def _newest(folder: BucketPath) -> list[BucketPath]:
    return max(_generations(folder).items(), default=(0, []))[1]


def _lines(rows: Sequence[Mapping]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class Rows:
    """The metrics of a run that is under way."""

    def __init__(self, workdir: str | os.PathLike, kept: Sequence[Mapping]):
        """Begins with rows that are kept from before, in place of all that is there.

        Args:
          workdir: of the run.
          kept: JSON values.

        Raises:
          UserError: they cannot be written.
        """
        folder = as_path(workdir)
        self._file = folder / FILE
        self._in_bucket: tuple[BucketPath, int] | None = None
        if not isinstance(folder, BucketPath):
            write_text(self._file, _lines(kept))
            return
        before = _generations(folder)
        self._in_bucket = folder, max(before, default=0) + 1
        self._part, self._text = 0, ""
        self._write(_lines(kept))
        # Only now: from here on the rows are there in the new generation.
        buckets.delete([*(str(file) for parts in before.values() for file in parts), str(self._file)])

    def append(self, row: Mapping) -> None:
        """Adds a row; what is there stays as it was where that fails.

        Args:
          row: JSON values.

        Raises:
          UserError: it cannot be written.
        """
        if self._in_bucket is None:
            append(self._file, row)
        else:
            self._write(_lines([row]))

    def _write(self, text: str) -> None:
        """Writes the part that is under way with more text, whole."""
        assert self._in_bucket is not None
        folder, generation = self._in_bucket
        file = folder / FOLDER / f"{generation:04d}-{self._part:05d}.jsonl"
        file.write_bytes((self._text + text).encode())
        self._text += text
        if len(self._text) > _LONG:
            self._part, self._text = self._part + 1, ""


def append(file: pathlib.Path, row: Mapping) -> None:
    """Adds a row to a file of metrics on this machine; the file is as it was where that fails.

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
