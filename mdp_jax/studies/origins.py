"""What the runs of a study began with: their settings, those of the runs before them, and the files that they name.

The config of a fine-tuning names the folder that it starts from. Where the pretraining in this folder was removed and
made again with other settings, the config is the same, and the scores are those of the earlier pretraining. Nor does a
config tell that a file which it names was written again.
"""

import functools
import hashlib
import pathlib
from collections.abc import Sequence

from mdp_jax import python_files
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.studies.runs import Run
from mdp_jax.studies.score_files import settings_of
from mdp_jax.words import counted, some

_FILE = "began_with.json"


def _now(runs: Sequence[Run]) -> dict[str, str]:
    """{name of a run: digest of all that decides its result}, as far as the config does not tell it."""
    settings, found = settings_of(runs), dict[str, str]()
    for run in runs:
        config = run.resolved()
        parts = [settings[run.name]]
        if "method" in config and config.method.names_file:
            parts.append(_content(config.method.names_file))
        if run.needs:
            parts.append(found[run.needs])
        found[run.name] = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    return found


@functools.cache
def _content(path: str) -> str:
    """A digest of a file of names, found as a run finds it."""
    places = (expanded(path), python_files.configs_parent() / path)
    file = next((place for place in places if place.is_file()), None)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else ""


def _noted(folder: pathlib.Path) -> dict[str, str]:
    """{name of a run: `_now` when it began}, of the runs that are there."""
    file = folder / _FILE
    found = read_json(file, "what the runs of a study began with; remove it", {str: str}) if file.exists() else {}
    return {name: settings for name, settings in found.items() if (folder / name).is_dir()}


def require_same(runs: Sequence[Run], folder: pathlib.Path) -> None:
    """Checks that the runs in the folder of a suite began with what the suite has now.

    Args:
      runs: all of the suite.
      folder: of the suite.

    Raises:
      UserError: a run began with something else. The message names the folders that are to be removed.
    """
    noted, now = _noted(folder), _now(runs)
    others = [run.name for run in runs if noted.get(run.name, now[run.name]) != now[run.name]]
    if others:
        raise UserError(
            f"{folder}: {counted(len(others), 'run')} began with a pretraining of other settings, or with a file of "
            f"weights or names that holds something else now; expected none: remove {some(others)} there, and the same "
            "command makes them again, or use another --workdir"
        )


def note(runs: Sequence[Run], folder: pathlib.Path) -> None:
    """Stores what the runs that are not there yet will begin with; of runs of an earlier version, what there is now.

    Args:
      runs: all of the suite, as `require_same` has accepted them.
      folder: of the suite, locked.

    Raises:
      UserError: the file cannot be written.
    """
    write_json(folder / _FILE, _now(runs) | _noted(folder))
