"""manifest.json of a folder of ArrayRecords: what `mdp data prepare` wrote there, and how far it came.

{"version", "name", "kind", "complete", "classes": [...], "palette": [[r, g, b], ...] or null, "splits": {SPLIT:
{"records", "bytes", "shards": [{"file", "records", "bytes", "sha256", "source"}, ...]}}}. "bytes" and "sha256" are of
the files; "source" is a digest of the names, sizes and times of the files that a shard was made of.
"""

import json
import pathlib

from mdp_jax.errors import UserError

FILE = "manifest.json"
VERSION = "1.0.0"  # of what the records hold; records of another version are made anew
_KEYS = {"version", "name", "kind", "complete", "classes", "palette", "splits"}


def read(folder: pathlib.Path) -> dict:
    """The manifest of a folder.

    Raises:
      UserError: there is none, or it is not one.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; expected a folder made by mdp data prepare") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run mdp data prepare again") from None
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        raise UserError(f"{path} is not a manifest; expected the keys {', '.join(sorted(_KEYS))}")
    return found


def read_complete(folder: pathlib.Path) -> dict:
    """The manifest of a folder whose preparation came to its end.

    Raises:
      UserError: there is none, it is not one or of another version, or the preparation was broken off.
    """
    found = read(folder)
    if found["version"] != VERSION:
        has = f"has records of version {found['version']}"
        raise UserError(f"{folder} {has}, expected {VERSION}; start mdp data prepare again, it makes them anew")
    if not found["complete"]:
        raise UserError(f"{folder} was not prepared to the end; start mdp data prepare again, it goes on")
    return found
