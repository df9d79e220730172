"""Scores of a suite in a file, so that a study can be spread over machines and outlives its workdirs."""

import hashlib
import json
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from mdp_jax import config as configs
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.studies.experiments import Cell
from mdp_jax.studies.runs import Run

Scores = Mapping[tuple[Cell, int], float]  # (pretraining and target, seed) -> mIoU in percent

_KEYS = {"pretraining": str, "target": str, "seed": int, "mIoU": float, "settings": str}


def settings_of(runs: Iterable[Run]) -> dict[str, str]:
    """{name of a run: digest of its config and of those of the runs before it}; the same on every machine.

    What it starts from counts by what it is, not by where it lies: the digest of the run before it, or of the content
    of a file of weights. A workdir outside the suite is known by its path alone.

    Args:
      runs: all of the suite, each after the one that it starts from.
    """
    found: dict[str, str] = {}
    weights: dict[str, str] = {}
    for run in runs:
        config = run.resolved()
        init = found[run.needs] if run.needs else config.init
        if not run.needs and init != "scratch" and pathlib.Path(init).is_file():
            if init not in weights:
                with pathlib.Path(init).open("rb") as file:
                    weights[init] = hashlib.file_digest(file, "sha256").hexdigest()
            init = weights[init]
        values = configs.identity(config, places=True) | {"init": init}
        # What it starts from is told by `init`; the other words of `mdp adopt` follow it.
        values |= {"words": run.more[2:]} if run.more else {}
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
    settings = settings_of(runs)
    there = [(cell, run) for run in runs for cell in run.cells if (cell, run.seed) in scores]
    rows = [(*cell, run.seed, float(scores[cell, run.seed]), settings[run.name]) for cell, run in there]
    write_json(file, [dict(zip(_KEYS, row, strict=True)) for row in rows])


def read(files: Iterable[str], runs: Sequence[Run]) -> Scores:
    """Reads the scores in files that `write` wrote.

    Args:
      files: paths.
      runs: all of the suite; rows of other runs are ignored.

    Raises:
      UserError: a file is missing, holds something else, or has no row of the suite; a score was made with other
        settings; two rows of the same run differ.
    """
    by_key = {(cell, run.seed): run for run in runs for cell in run.cells}
    settings = settings_of(runs)
    found: dict[tuple[Cell, int], float] = {}
    for name in files:
        file = expanded(name)
        rows = [(_key(row), row) for row in _rows(file) if _key(row) in by_key]
        if not rows:
            raise UserError(f"--scores {file}: no row of a fine-tuning of the suite; expected scores of this suite")
        other = [key for key, row in rows if row["settings"] != settings[by_key[key].name]]
        if other:
            raise UserError(
                f"--scores {file}: {len(other)} of {len(rows)} rows are of other settings than the suite has now, or "
                f"of another version, first {by_key[other[0]].name}; expected none: remove them, and they are run again"
            )
        for key, row in rows:
            if found.setdefault(key, row["mIoU"]) != row["mIoU"]:
                raise UserError(
                    f"--scores {file}: {by_key[key].name} has mIoU {row['mIoU']} and, before, {found[key]}; expected "
                    "one score of each run"
                )
    return found


def require_kept(file: pathlib.Path, scores: Collection[tuple[Cell, int]]) -> None:
    """Checks that a file of scores loses none when it is written again.

    Args:
      file: it may be missing.
      scores: (pretraining and target, seed) of those that it will hold.

    Raises:
      UserError: it would lose a score (the message names the first), or it is not a file of scores.
    """
    lost = [_key(row) for row in _rows(file) if _key(row) not in scores] if file.exists() else []
    if lost:
        (pretraining, target), seed = lost[0]
        raise UserError(
            f"{file}: {len(lost)} of its scores would be lost, first {pretraining}/seed{seed}/{target}; expected the "
            f"file under --scores too, or another folder for --docs"
        )


def _key(row: dict) -> tuple[Cell, int]:
    return (row["pretraining"], row["target"]), row["seed"]


def _rows(file: pathlib.Path) -> list[dict]:
    rows = read_json(file, "the scores.json of a workdir of mdp reproduce", [_KEYS])
    for number, row in enumerate(rows):
        if not 0 <= row["mIoU"] <= 100:
            raise UserError(f"{file}: [{number}].mIoU is {row['mIoU']}; expected a percentage")
    return rows


def still_needed(runs: Sequence[Run], known: Scores) -> list[Run]:
    """The runs without the fine-tunings whose score is known, and without the pretrainings that only these need.

    Args:
      runs: in the order in which they come, each after the one that it starts from.
      known: scores.
    """
    kept, used = [], set()
    starts = {run.needs for run in runs}
    for run in reversed(runs):
        if run.cell:
            wanted = any((cell, run.seed) not in known for cell in run.cells)
        else:
            wanted = run.name in used or run.name not in starts
        if wanted:
            kept.append(run)
            used.add(run.needs)
    return kept[::-1]
