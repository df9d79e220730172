"""manifest.json of a folder of ArrayRecords: what `mdp data prepare` wrote there, and whether it is complete.

{"version", "name", "kind", "complete", "classes": [...], "palette": [[r, g, b], ...] or null, "splits": {SPLIT:
{"records", "bytes", "shards": [{"file", "records", "bytes", "sha256", "source"}, ...]}}}. "bytes" and "sha256" are of
the files; "source" is a digest of the names, sizes and times of the files that a shard was made from.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping

from mdp_jax.data.files import read_bytes
from mdp_jax.errors import UserError

FILE = "manifest.json"
VERSION = "1.0.0"  # of what the records hold; records of another version are made anew


def read(folder: pathlib.Path) -> dict:
    """Reads the manifest of a folder.

    Args:
      folder: of the records.

    Returns:
      What the file holds.

    Raises:
      UserError: the file is missing or is not a manifest.
    """
    path = folder / FILE
    if not os.path.exists(path):
        raise UserError(f"{path} is missing; expected a folder made by mdp data prepare")
    try:
        found = json.loads(read_bytes(path, "a manifest"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); run mdp data prepare again") from None
    if not isinstance(found, dict) or not found.keys() >= _KEYS.keys():
        raise UserError(f"{path} is not a manifest; expected the keys {', '.join(sorted(_KEYS))}")
    wrong = next((key for key, is_good in _KEYS.items() if not is_good(found[key])), None)
    if not wrong and found["palette"] is not None and len(found["palette"]) != len(found["classes"]):
        wrong = "palette"
    if wrong:
        raise UserError(f"{path}: {wrong} is {found[wrong]!r:.100}; run mdp data prepare again")
    return found


def _is_classes(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(item, str) for item in value)
        and 0 < len(value) <= 255
        and len(set(value)) == len(value)
    )


def _is_palette(value: object) -> bool:
    def is_colour(row: object) -> bool:
        return isinstance(row, list) and len(row) == 3 and all(type(x) is int and 0 <= x <= 255 for x in row)

    return value is None or (isinstance(value, list) and all(map(is_colour, value)))


def _is_splits(value: object) -> bool:
    return isinstance(value, dict) and all(
        _has(split, _SPLIT) and all(_has(shard, _SHARD) for shard in split["shards"]) for split in value.values()
    )


def _has(value: object, types: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(type(value.get(key)) is kind for key, kind in types.items())


_SHARD = {"file": str, "records": int, "bytes": int, "sha256": str, "source": str}
_SPLIT = {"records": int, "bytes": int, "shards": list}
_KEYS: dict[str, Callable[[object], bool]] = {
    "version": lambda value: isinstance(value, str),
    "name": lambda value: isinstance(value, str),
    "kind": lambda value: isinstance(value, str),
    "complete": lambda value: isinstance(value, bool),
    "classes": _is_classes,
    "palette": _is_palette,
    "splits": _is_splits,
}


def read_complete(folder: pathlib.Path) -> dict:
    """Reads the manifest of a folder whose preparation is complete.

    Args:
      folder: of the records.

    Returns:
      What the file holds.

    Raises:
      UserError: the file is missing, is not a manifest or has another version, or the preparation is not complete.
    """
    found = read(folder)
    if found["version"] != VERSION:
        has = f"has records of version {found['version']}"
        raise UserError(f"{folder} {has}, expected {VERSION}; start mdp data prepare again, it makes them anew")
    if not found["complete"]:
        raise UserError(f"{folder} was not prepared to the end; start mdp data prepare again, it goes on")
    return found
