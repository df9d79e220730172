"""Scores of a suite in a file, so that a study can be spread over machines and outlives its workdirs."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from mdp_jax import config as configs
from mdp_jax.errors import UserError
from mdp_jax.json_files import write_json
from mdp_jax.reproduction.experiments import Cell
from mdp_jax.reproduction.runs import Run

Scores = Mapping[tuple[Cell, int], float]  # (pretraining and target, seed) -> mIoU in percent

_KEYS = {"pretraining": str, "target": str, "seed": int, "mIoU": float, "settings": str}


def _settings(runs: Iterable[Run]) -> dict[str, str]:
    """{name of a run: digest of its config and of those of the runs before it}; the same on every machine."""
    found: dict[str, str] = {}
    for run in runs:
        config = run.resolved()
        # A run before it stands for the folder that it lies in, which has another name on another machine.
        values = configs.identity(config) | {"init": found[run.needs] if run.needs else config.init}
        text = json.dumps([run.part, values], sort_keys=True)
        found[run.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def write(file: pathlib.Path, runs: Sequence[Run], scores: Scores) -> None:
    """Writes scores as a JSON list of rows `pretraining`, `target`, `seed`, `mIoU` (percent) and `settings`.

    Args:
      file: to write.
      runs: all of the suite (runs.of_suite).
      scores: of its fine-tunings.
    """
    settings = _settings(runs)
    there = [run for run in runs if (run.cell, run.seed) in scores]
    rows = [(*run.cell, run.seed, float(scores[run.cell, run.seed]), settings[run.name]) for run in there]
    write_json(file, [dict(zip(_KEYS, row, strict=True)) for row in rows])


def read(files: Iterable[str], runs: Sequence[Run]) -> Scores:
    """The scores in files that `write` wrote; of a run in several of them the last one counts.

    Args:
      files: paths.
      runs: all of the suite; what else stands in a file is passed over.

    Raises:
      UserError: a file is missing or holds something else, or a score that was made with other settings.
    """
    by_key = {(run.cell, run.seed): run for run in runs if run.cell}
    settings = _settings(runs)
    found = {}
    for name in files:
        file = pathlib.Path(os.path.expanduser(name))
        for row in _rows(file):
            key = ((row["pretraining"], row["target"]), row["seed"])
            if key not in by_key:
                continue
            run = by_key[key]
            if row["settings"] != settings[run.name]:
                raise UserError(
                    f"{file}: {run.name} was run with other settings (or another version) than the suite has now, "
                    f"{row['settings']}; expected {settings[run.name]}: remove its row"
                )
            found[key] = row["mIoU"]
    return found


def _rows(file: pathlib.Path) -> list[dict]:
    expected = "expected the scores.json of a workdir of mdp reproduce"
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--scores {file}: {error.strerror}; {expected}") from None
    except ValueError as error:  # of the JSON, or of its encoding
        raise UserError(f"--scores {file}: not valid JSON ({error}); {expected}") from None
    if not isinstance(rows, list):
        raise UserError(f"--scores {file}: no list of rows; {expected}")
    for number, row in enumerate(rows, 1):
        if not _is_row(row):
            raise UserError(f"--scores {file}: row {number} is not {', '.join(_KEYS)}; {expected}")
    return rows


def _is_row(row) -> bool:
    if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in _KEYS.items()):
        return False
    return 0 <= row["mIoU"] <= 100  # which NaN is not


def still_needed(runs: Sequence[Run], known: Scores) -> list[Run]:
    """The runs without the fine-tunings whose score is known, and without the pretrainings that only these need.

    Args:
      runs: in the order in which they come, each after the one that it starts from.
      known: scores.
    """
    kept, used = [], set()
    starts = {run.needs for run in runs}
    for run in reversed(runs):
        wanted = (run.cell, run.seed) not in known if run.cell else run.name in used or run.name not in starts
        if wanted:
            kept.append(run)
            used.add(run.needs)
    return kept[::-1]
