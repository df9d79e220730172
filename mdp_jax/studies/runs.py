"""The runs of a suite: which `mdp` command each of them is, where it lies, what it needs, whether it is finished."""

import copy
import difflib
import functools
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.errors import UserError
from mdp_jax.evaluation.budgets import BUDGETS, BUDGETS_FORM
from mdp_jax.evaluation.scores import read_scores, step_of
from mdp_jax.python_files import nearest
from mdp_jax.storage.json_files import read_json
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.studies.experiments import Cell, Overrides, Pretraining, Suite, Target
from mdp_jax.words import some

KEPT = (("keep_checkpoints", "1"),)  # of every run: there are many of them
# Scores after a fixed number of steps are compared: the best of several validations would be chosen on the photos that
# it is scored on.
LAST = (("keep_best", "False"), ("pictures", "0"))


@functools.cache
def _loaded(path: str) -> ConfigDict:
    """A config that many runs share."""
    return configs.load(path)


@dataclass(frozen=True)
class Run:
    """One `mdp pretrain`, `mdp finetune` or `mdp adopt`, started in the folder of its suite.

    Attributes:
      name: its workdir, relative to the folder of the suite.
      part: pretrain, finetune or adopt.
      config: file.
      overrides: of the config, the initial weights among them.
      needs: name of the run that it starts from; empty = from scratch.
      cell: pretraining and target, of what is scored.
      seed: of weights, order and chosen photos.
      more: further words, of `mdp adopt`.
      cells: all that it gives a score for; the first is `cell`.
    """

    name: str
    part: str
    config: str
    overrides: Overrides
    needs: str
    cell: Cell | None
    seed: int
    more: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()

    @property
    def words(self) -> list[str]:
        """The arguments of `mdp`."""
        values = [f"--config.{key}={value}" for key, value in self.overrides]
        return [self.part, "--config", self.config, "--workdir", self.name, *self.more, *values]

    def resolved(self) -> ConfigDict:
        """The config that the run will have, which is not to be changed.

        Raises:
          UserError: naming a key or value that cannot be.
        """
        return self._resolved

    @functools.cached_property
    def _resolved(self) -> ConfigDict:
        # A command asks about five times for each of hundreds of runs, and a copy takes a millisecond.
        try:
            return configs.apply_overrides(copy.deepcopy(_loaded(configs.shipped(self.config))), list(self.overrides))
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None


def _pretraining(suite: Suite, row: Pretraining, seed: int, data: Overrides) -> Run:
    first = any(row.init == other.name for other in suite.pretrainings)
    needs = f"{row.init}/seed{seed}/pretrain" if first else ""
    overrides = (*row.overrides, *KEPT, *data, ("seed", str(seed)), ("init", needs or row.init or "scratch"))
    return Run(f"{row.name}/seed{seed}/pretrain", "pretrain", row.config, overrides, needs, None, seed)


def _finetuning(row: Pretraining, target: Target, seed: int, data: Overrides) -> Run:
    needs = f"{row.name}/seed{seed}/pretrain" if row.config else ""
    rate = (("optim.lr", target.rates[row.name]),) if row.name in target.rates else ()
    overrides = (*target.overrides, *rate, *KEPT, *LAST, *data, ("seed", str(seed)), ("init", needs or "scratch"))
    name, cells = f"{row.name}/seed{seed}/{target.name}", tuple((row.name, score) for score in target.scores)
    if not target.photos:
        return Run(name, "finetune", target.config, overrides, needs, cells[0], seed, cells=cells)
    photos = (str(number) if number else "all" for number in target.photos)
    more = ("--layer", *target.layers, "--photos", *photos, "--draws", str(target.draws))
    more = ("--checkpoint", needs or "scratch", *more)
    return Run(name, "adopt", target.config, overrides, needs, cells[0], seed, more, cells)


def _of_row(suite: Suite, row: Pretraining, seed: int, data: Overrides, finetuned: bool) -> list[Run]:
    """The pretraining of a row and a seed, where it has one, and its fine-tunings."""
    targets = [suite.target(name) for name in row.targets] if finetuned else []
    scored = [_finetuning(row, of, seed, data) for of in targets if not of.seeds or seed in of.seeds]
    return ([_pretraining(suite, row, seed, data)] if row.config else []) + scored


def _without_idle(found: Sequence[Run], ends: Collection[str]) -> list[Run]:
    """The runs without the pretrainings that no other run starts from, but for those that are wanted alone."""
    kept, used = [], set(ends)
    for run in reversed(found):
        if run.cell or run.name in used:
            kept.append(run)
            used.add(run.needs)
    return kept[::-1]


def _with_first_stages(names: Iterable[str], known: Mapping[str, Pretraining]) -> set[str]:
    """The names, and those of the pretrainings that these start from, and so on."""
    found = set(names)
    while more := {known[name].init for name in found if known[name].init in known} - found:
        found |= more
    return found


def _with_seeds_of_later_stages(
    name: str, wanted: Mapping[str, Collection[int]], known: Mapping[str, Pretraining]
) -> set[int]:
    """The seeds of a pretraining that are wanted, and those of all that start from it."""
    return {seed for other, seeds in wanted.items() if name in _with_first_stages([other], known) for seed in seeds}


def _chosen(suite: Suite, only: Iterable[str], most: int | None) -> dict[str, set[int]]:
    """The seeds of each pretraining that `--only` names."""
    known = {row.name: row for row in suite.pretrainings}
    found: dict[str, set[int]] = {}
    for text in only:
        name, _, seed = text.partition("/seed")
        if name not in known:
            near = nearest(difflib.get_close_matches(name, known, n=1))
            raise UserError(f"--only {text}: not in {suite.name}; expected one of {some(known)}{near}")
        count = known[name].seeds if most is None else min(known[name].seeds, most)
        if name != text and seed not in map(str, range(count)):
            fewer = f" with --seeds {most}" if count < known[name].seeds else ""
            raise UserError(f"--only {text}: expected {name}, or one of {name}/seed0 to {name}/seed{count - 1}{fewer}")
        found.setdefault(name, set()).update(range(count) if name == text else [int(seed)])
    return found


def of_suite(suite: Suite, data_dir: str = "", most: int | None = None, only: Iterable[str] = ()) -> list[Run]:
    """All runs of a suite in the order in which they come: for the claims first, and of these seed 0 of everything.

    Args:
      suite: what to run.
      data_dir: absolute folder of the datasets; empty where the suite draws them.
      most: seeds of each pretraining, at most; None = as many as the suite says.
      only: names of pretrainings, or NAME/seedS for one seed of it; others come only as the first stage of one of
        them. Empty = all.

    Raises:
      UserError: a name that the suite does not have, or a seed that is not among those of `most`.
    """
    known = {row.name: row for row in suite.pretrainings}
    wanted = _chosen(suite, only, most) or {name: set(range(row.seeds)) for name, row in known.items()}
    stages = _with_first_stages(wanted, known)
    seeds = {name: _with_seeds_of_later_stages(name, wanted, known) for name in stages}
    claimed = _with_first_stages({name for claim in suite.claims for name, _ in claim.cells}, known)
    data = (("data_dir", data_dir),) if data_dir else ()
    found = []
    for first in (True, False):
        rows = [row for row in known.values() if (row.name in claimed) == first and row.name in stages]
        for seed in range(max((row.seeds for row in rows), default=0) if most is None else most):
            for row in rows:
                if seed < row.seeds and seed in seeds[row.name]:
                    found += _of_row(suite, row, seed, data, seed in wanted.get(row.name, ()))
    # Of a target that is run for some seeds alone, the pretrainings of the others are not needed, unless by a stage.
    alone = {f"{name}/seed{seed}/pretrain" for name in wanted if not known[name].targets for seed in wanted[name]}
    return _without_idle(found, alone)


def scores(run: Run, folder: pathlib.Path) -> dict[Cell, float]:
    """The mIoU in percent of all that a run gives a score for; {} where it has not come to its end.

    Args:
      run: a fine-tuning, or heads in closed form.
      folder: of the suite.

    Raises:
      UserError: its file of scores is not what the run writes.
    """
    if run.part == "adopt":
        return _of_closed_form(run, folder)
    value = score(run, folder)
    return {} if value is None or run.cell is None else {run.cell: value}


def _of_closed_form(run: Run, folder: pathlib.Path) -> dict[Cell, float]:
    file = folder / run.name / BUDGETS
    if not file.exists():
        return {}
    found = read_json(file, "scores of mdp adopt; remove the file, and the run writes it again", BUDGETS_FORM)
    values = [found["mIoU"], *(cell["mIoU"] for cell in found["cells"].values())]
    names = [run.cells[0][1], *(f"{run.cells[0][1]}/{name}" for name in found["cells"])]
    if names != [name for _, name in run.cells]:
        raise UserError(f"{file}: scores of other layers or photos; remove the file, and the run writes it again")
    return dict(zip(run.cells, values, strict=True))


def score(run: Run, folder: pathlib.Path) -> float | None:
    """The mIoU in percent of a fine-tuning that has come to its last step; None if it has not, or is not scored yet.

    Args:
      run: a fine-tuning.
      folder: of the suite.

    Raises:
      UserError: evaluation.json is not what `mdp finetune` writes.
    """
    file = folder / run.name / "evaluation.json"
    last = _last_step(run, folder)
    if not file.exists() or last is None:
        return None
    evaluation = read_scores(file)
    if step_of(evaluation) not in (None, last):  # by hand on the way, and the run was killed before its own
        return None
    # Of other views, changed values or another checkpoint. Of other weights than the usual ones there is another file.
    others = evaluation.keys() - {"datasets", "photos", "step", "weights"}
    if len(evaluation["datasets"]) != 1 or others:
        raise UserError(
            f"{file}: not the scores of one dataset, seen whole and as in the training; expected those that the run "
            "itself writes: remove the file, and the run writes them again"
        )
    (scores,) = evaluation["datasets"].values()
    if scores["mIoU"] is None:
        raise UserError(f"{file}: no mIoU; expected validation photos with labelled pixels")
    return float(scores["mIoU"])


def _last_step(run: Run, folder: pathlib.Path) -> int | None:
    """The last step of a run that has come to it; None of one that has not."""
    rows, steps = read_metrics(folder / run.name), run.resolved().steps
    if not rows:
        return None
    if not steps:  # but epochs: the run alone counts their steps, and its report is the last that it writes
        steps = rows[-1]["step"] if (folder / run.name / "report.html").exists() else None
    return steps if rows[-1]["step"] == steps else None


def finished(run: Run, folder: pathlib.Path) -> bool:
    """Whether a run has its scores, or, in pretraining, the checkpoint of its last step.

    Args:
      run: of the suite.
      folder: of the suite.

    Raises:
      UserError: its evaluation.json is not what `mdp finetune` writes.
    """
    if run.cell:
        return bool(scores(run, folder))
    last = _last_step(run, folder)
    return last is not None and (folder / run.name / "checkpoints" / str(last)).is_dir()


def state(run: Run, folder: pathlib.Path) -> str:
    """The state of a run: "finished", "begun" or "missing".

    Args:
      run: of the suite.
      folder: of the suite.
    """
    if finished(run, folder):
        return "finished"
    return "begun" if (folder / run.name / "config.json").exists() else "missing"


def require_same(runs: Iterable[Run], folder: pathlib.Path) -> None:
    """Checks that the runs in the folder of a suite were made with the configs that the suite has now.

    Args:
      runs: of the suite.
      folder: of the suite.

    Raises:
      UserError: a value differs, or is impossible. The message names the workdir and the first.
    """
    for run in runs:
        config, file = run.resolved(), folder / run.name / "config.json"
        if file.exists():
            configs.require_same(configs.load_json(file), config, folder / run.name)
