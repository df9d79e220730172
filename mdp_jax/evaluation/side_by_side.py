"""Several runs side by side, from the files in their workdirs: scores of all sets, what differs, curves, classes."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from mdp_jax import config as config_files
from mdp_jax import configs, schema
from mdp_jax.configs import FinetuneConfig, PretrainConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation.chosen_weights import EMA
from mdp_jax.evaluation.scores import read_scores, step_of
from mdp_jax.reporting import figures, runs
from mdp_jax.reporting.figures import Panel
from mdp_jax.reporting.report import Figure, Section
from mdp_jax.reporting.tables import Table
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.storage.paths import expanded

SCORES = "evaluation.json"
_MEANS = ("mIoU", "mAcc", "aAcc", "mDice")
_LOOPS: dict[type, str] = {PretrainConfig: "pretraining", FinetuneConfig: "fine-tuning"}

Cells = list[str | int | float | None]


class Run(NamedTuple):
    """The files of a workdir.

    Attributes:
      name: by which a page calls it.
      config: of the run.
      rows: of metrics.jsonl.
      scores: {dataset: scores} of evaluation.json; {} where there is none.
      checkpoint: which one the scores are of, in words.
      edited: what mdp edit-bank noted of the workdir (runs.read_edited); None where it did not make it.
    """

    name: str
    config: PretrainConfig | FinetuneConfig
    rows: list[dict]
    scores: dict[str, dict]
    checkpoint: str
    edited: dict | None = None

    @property
    def steps(self) -> int:
        """The steps that it has taken."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def loop(self) -> str:
        """What it is."""
        return _LOOPS[type(self.config)]


def read(workdirs: Sequence[str | os.PathLike]) -> list[Run]:
    """Reads the files of some workdirs; no checkpoint, and no photo.

    Args:
      workdirs: of either loop.

    Raises:
      UserError: one is no workdir, is named twice, or has a file that cannot be read.
    """
    folders = [expanded(workdir) for workdir in workdirs]
    real = [folder.resolve() for folder in folders]
    for number, folder in enumerate(folders):
        if real[number] in real[:number]:
            raise UserError(f"{folder}: named twice; expected different workdirs")
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected the workdir of a run")
    return [_read(folder, name) for folder, name in zip(folders, _names(real), strict=True)]


def _names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The ends of some paths, as short as they tell them apart."""
    parts = [folder.parts for folder in folders]
    length = 1
    while length < max(map(len, parts)) and len({path[-length:] for path in parts}) < len(parts):
        length += 1
    return ["/".join(path[-length:]) for path in parts]


def _read(folder: pathlib.Path, name: str) -> Run:
    file = folder / "config.json"
    config = configs.typed(configs.complete(config_files.load_json(file), str(file)), f"{file}: ")
    rows, scores = read_metrics(folder), folder / SCORES
    found = read_scores(scores) if scores.exists() else {}
    words = _checkpoint(found, max((row["step"] for row in rows), default=None))
    words += ", moving average" if found.get("weights") == EMA else ""
    return Run(name, config, rows, found.get("datasets", {}), words, runs.read_edited(folder))


def _checkpoint(scores: dict, taken: int | None) -> str:
    """Which checkpoint some scores are of, in words; `taken`: the steps of its run."""
    if taken is None:  # as after mdp adopt and mdp edit-bank, whatever the steps of their checkpoints
        return "last"
    chosen, step = scores.get("checkpoint"), step_of(scores)
    if isinstance(chosen, dict) and step is not None:  # of another step than the last
        return f"{'best, ' if chosen.get('best') else ''}step {step}"
    # The scores may be older than the last steps. Those of earlier versions say no step.
    return f"step {step}" if step is not None and step < taken else f"last, step {taken if step is None else step}"


def scores_table(found: Sequence[Run]) -> Table:
    """One table over all sets: a row for each set and run, the best run of a set first, and the mean over the sets.

    A measure that a set lacks has no mean: over fewer sets it would be another number.

    Args:
      found: the runs.

    Returns:
      Set, run, what it starts from, photos, percentages, and its worst class.
    """
    rows: list[Cells] = []
    for run in found:
        for dataset, scores in run.scores.items():
            classes = {name: value for name, value in scores.get("per_class", {}).items() if value is not None}
            worst = min(classes, key=lambda name: classes[name]) if classes else None
            words = None if worst is None else f"{worst} ({classes[worst]:.1f})"
            means: Cells = [_number(scores.get(name)) for name in _MEANS]
            rows.append([dataset, run.name, run.checkpoint, scores.get("images"), *means, words])
    order = {dataset: number for number, dataset in enumerate(dict.fromkeys(str(row[0]) for row in rows))}
    rows.sort(key=lambda row: (order[str(row[0])], -(row[4] if isinstance(row[4], float) else -1)))
    if len(order) == len(rows) > 1:  # a mean over the sets means something where each has one run
        rows.append(
            [f"mean of {len(order)} sets", "", "", None, *(_mean([row[4 + i] for row in rows]) for i in range(4)), ""]
        )
    columns = ["set", "run", "checkpoint", "photos", *(f"{name} (%)" for name in _MEANS), "worst class (IoU)"]
    return Table(columns, rows, "Scores of all sets")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mean(values: Sequence[object]) -> float | None:
    numbers = [value for value in values if isinstance(value, float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def runs_table(found: Sequence[Run]) -> Table:
    """What each run is: its loop, sets, start and steps.

    Sets that the weights were trained on before mdp edit-bank took them out stand there too.

    Args:
      found: the runs.
    """
    rows: list[Cells] = []
    for run in found:
        config = run.config
        sets = [one.name for one in (config.sources if isinstance(config, PretrainConfig) else [config.dataset]) if one]
        gone = [row["name"] for row in runs.gone_sets(run.edited, sets)]
        before = f"; before mdp edit-bank also {', '.join(gone)}" if gone else ""
        planned = f"{run.steps} of {config.steps}" if config.steps else str(run.steps)
        start = runs.start_of(config, run.edited)
        rows.append([run.name, run.loop, f"{', '.join(sets)}{before}", start, planned])
    return Table(["run", "", "sets", "starts from", "steps"], rows)


def differences_table(found: Sequence[Run]) -> Table:
    """The config values that differ, those that change nothing of what is computed left out.

    Args:
      found: the runs; those of one loop are compared.

    Returns:
      A row for each key, a column for each run.
    """
    values = [config_files.identity(run.config) for run in found]
    rows: list[Cells] = []
    for key in sorted({key for one in values for key in one}):
        shown = [_shown(run.config, key, one) for run, one in zip(found, values, strict=True)]
        if len(set(shown)) > 1:
            rows.append([key, *shown])
    return Table(["config", *(run.name for run in found)], rows, "What differs")


def _shown(config: PretrainConfig | FinetuneConfig, key: str, values: dict) -> str:
    """A value as text; one that is as it was before its key came is not among the `values`."""
    if key in values:
        return schema.shown(values[key])
    found = schema.flat(type(config), config_files.to_dict(config))
    return schema.shown(found[key]) if key in found else "–"


def curves(found: Sequence[Run]) -> list[Figure]:
    """Training loss, learning rate and validation scores over the steps, a line for each run.

    Args:
      found: the runs.
    """
    pictures = []
    for loop in dict.fromkeys(run.loop for run in found):
        of_loop = [run for run in found if run.loop == loop and run.rows]
        panels = []
        for name, label in (("loss", "training loss"), ("val_mIoU", "validation mIoU (%)"), ("lr", "learning rate")):
            lines = {run.name: runs.series(run.rows, name)[name] for run in of_loop}
            lines = {run: points for run, points in lines.items() if points}
            if lines:
                numbers = [number for number, run in enumerate(of_loop) if run.name in lines]
                colours = figures.set_colours(len(of_loop))[numbers]
                panels.append(Panel(lines, label, colours))
        if panels:
            pictures.append(Figure(figures.curves(*panels), f"The {loop} runs over their steps."))
    return pictures


def classes_tables(found: Sequence[Run]) -> list[Table]:
    """IoU of every class of each set that has several runs, a column for each; of two runs also their difference.

    Args:
      found: the runs.
    """
    tables = []
    for dataset in dict.fromkeys(name for run in found for name in run.scores):
        of_set = [run for run in found if dataset in run.scores]
        if len(of_set) < 2:
            continue
        values = [run.scores[dataset].get("per_class", {}) for run in of_set]
        names = dict.fromkeys(name for one in values for name in one)
        rows: list[Cells] = [[name, *(_number(one.get(name)) for one in values)] for name in names]
        rows += [[mean, *(_number(run.scores[dataset].get(mean)) for run in of_set)] for mean in _MEANS]
        columns = ["class", *(run.name for run in of_set)]
        if len(of_set) == 2:
            columns.append("second − first")
            for row in rows:
                first, second = row[1], row[2]
                both = isinstance(first, float) and isinstance(second, float)
                row.append(second - first if both else None)  # type: ignore[operator]
        tables.append(Table(columns, rows, f"{dataset}: IoU of every class, and means (%)"))
    return tables


def sections(found: Sequence[Run]) -> list[Section]:
    """The page of several runs.

    Args:
      found: the runs.
    """
    missing = [run.name for run in found if not run.scores]
    text = f"Not scored yet: {', '.join(missing)}; mdp evaluate scores them." if missing else ""
    scores = scores_table(found)
    parts = [Section("Scores", text, [scores] if scores.rows else [])]
    loops = list(dict.fromkeys(run.loop for run in found))
    of_loops = [[run for run in found if run.loop == loop] for loop in loops]
    different = [differences_table(runs) for runs in of_loops if len(runs) > 1]
    parts.append(Section("Runs", tables=[runs_table(found), *(table for table in different if table.rows)]))
    if pictures := curves(found):
        parts.append(Section("Curves", figures=pictures))
    if tables := classes_tables(found):
        parts.append(Section("Classes", tables=tables))
    return parts
