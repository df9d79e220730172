"""manifest.json of a folder of ArrayRecords: what `mdp data prepare` wrote there, and whether it is complete.

{"version", "name", "kind", "complete", "classes": [...], "palette": [[r, g, b], ...] or null, "splits": {SPLIT:
{"records", "bytes", "shards": [{"file", "records", "bytes", "sha256", "source"}, ...]}}}. "bytes" and "sha256" are of
the files; "source" is a digest of the names, sizes and times of the files that a shard was made from. Where photos of
the training were made smaller, "short_side" says to how many pixels.
"""

import pathlib
from collections.abc import Callable

from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json
from mdp_jax.storage.paths import is_there

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
    if not is_there(path):
        raise UserError(f"{path} is missing; expected a folder made by mdp data prepare")
    found = read_json(path, "a manifest; run mdp data prepare again", _FORM)
    wrong = next((key for key, is_good in _VALUES.items() if not is_good(found)), None)
    if wrong:
        raise UserError(f"{path}: {wrong} is {found[wrong]!r:.100}; run mdp data prepare again")
    return found


def _is_palette(found: dict) -> bool:
    palette, classes = found["palette"], found["classes"]
    colours = all(len(row) == 3 and all(0 <= x <= 255 for x in row) for row in palette or ())
    return palette is None or (colours and len(palette) == len(classes))


_SHARD = {"file": str, "records": int, "bytes": int, "sha256": str, "source": str}
_FORM = {
    "version": str,
    "name": str,
    "kind": str,
    "complete": bool,
    "classes": [str],
    "palette": (None, [[int]]),
    "splits": {str: {"records": int, "bytes": int, "shards": [_SHARD]}},
}
_VALUES: dict[str, Callable[[dict], bool]] = {
    "classes": lambda found: 0 < len(found["classes"]) <= 255 and len(set(found["classes"])) == len(found["classes"]),
    "palette": _is_palette,
    "short_side": lambda found: type(found.get("short_side", 0)) is int and found.get("short_side", 0) >= 0,
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
