"""The results of a suite: scores by run, an outcome for each contrast, and their JSON rows."""

import pathlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mdp_jax.errors import UserError
from mdp_jax.studies.experiments import MEASURED, Cell, Contrast, Suite
from mdp_jax.studies.runs import Run, scores
from mdp_jax.studies.score_files import Scores
from mdp_jax.studies.statistics import UNDECIDED, Interval, interval, verdict


@dataclass(frozen=True)
class Outcome:
    """What the runs so far say about a contrast.

    Attributes:
      contrast: what is compared.
      seeds: those for which both sides have a score.
      left: value of the left side for each of `seeds`, mIoU.
      right: the same of the right side.
      found: interval of left - right.
      verdict: see statistics.verdict; UNDECIDED while runs are missing.
      missing: (cell, seed) without a score.
    """

    contrast: Contrast
    seeds: tuple[int, ...]
    left: tuple[float, ...]
    right: tuple[float, ...]
    found: Interval
    verdict: str | None
    missing: tuple[tuple[Cell, int], ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """left - right for each seed."""
        return tuple(left - right for left, right in zip(self.left, self.right, strict=True))


def scores_of(runs: Sequence[Run], folder: pathlib.Path, unusable: dict[str, str] | None = None) -> Scores:
    """Reads the mIoU of every fine-tuning that has one.

    Args:
      runs: of the suite.
      folder: of the suite.
      unusable: gets {name of a run: what is wrong with its scores}; such scores then count as missing. None = they
        raise.

    Raises:
      UserError: scores cannot be used, and `unusable` is None.
    """
    found: dict[tuple[Cell, int], float] = {}
    for run in runs:
        if run.cell is None:
            continue
        try:
            values = scores(run, folder)
        except UserError as error:
            if unusable is None:
                raise
            unusable[run.name] = str(error)
            continue
        found |= {(cell, run.seed): value for cell, value in values.items()}
    return found


def _side(contrast: Contrast, cells: tuple[Cell, ...], seed: int, scores: Scores) -> float:
    values = [scores[cell, seed] for cell in cells]
    return sum(values) / len(values) if contrast.mean else values[0] - sum(values[1:])


def judge(suite: Suite, contrast: Contrast, scores: Scores, most: int | None = None) -> Outcome:
    """Judges a contrast on the planned seeds of its sides.

    Args:
      suite: of the contrast.
      contrast: one of its claims or ablations.
      scores: those that are known.
      most: seeds of each pretraining, at most; None = as many as the suite says.
    """
    planned = suite.seeds_of(contrast, most)
    # In order, each once: a cell may be on both sides.
    wanted = list(dict.fromkeys((cell, seed) for seed in planned for cell in contrast.cells))
    missing = tuple(key for key in wanted if key not in scores)
    seeds = tuple(seed for seed in planned if all((cell, seed) in scores for cell in contrast.cells))
    left = tuple(_side(contrast, contrast.left, seed, scores) for seed in seeds)
    right = tuple(_side(contrast, contrast.right, seed, scores) for seed in seeds)
    found = interval([one - other for one, other in zip(left, right, strict=True)])
    says = verdict(contrast.kind, found)
    if missing and contrast.kind != MEASURED:
        says = UNDECIDED
    return Outcome(contrast, seeds, left, right, found, says, missing)


@dataclass(frozen=True)
class Results:
    """All that is known about a suite.

    Attributes:
      suite: its data.
      outcomes: of its claims and ablations, in order.
      scores: of all fine-tunings that have one.
      missing: names of the fine-tunings that have none yet.
      most: seeds of each pretraining, at most; None = as many as the suite says.
      from_files: number of scores that come from other workdirs (score_files.py).
    """

    suite: Suite
    outcomes: tuple[Outcome, ...]
    scores: Scores
    missing: tuple[str, ...]
    most: int | None
    from_files: int = 0

    @property
    def claims(self) -> list[Outcome]:
        """The outcomes of the claims."""
        return [outcome for outcome in self.outcomes if outcome.contrast.kind != MEASURED]

    @property
    def ablations(self) -> list[Outcome]:
        """The outcomes of the ablations."""
        return [outcome for outcome in self.outcomes if outcome.contrast.kind == MEASURED]


def collect(
    suite: Suite,
    runs: Sequence[Run],
    folder: pathlib.Path,
    most: int | None = None,
    failed: Collection[str] = (),
    known: Scores | None = None,
) -> Results:
    """Collects the results of the finished runs of a suite.

    Args:
      suite: its data.
      runs: all of the suite (runs.of_suite), with the same `most`.
      folder: of the suite.
      most: seeds of each pretraining, at most.
      failed: names of runs whose scores cannot be used; they count as missing.
      known: scores of other workdirs, of runs that are not finished in this one.

    Raises:
      UserError: the scores of another run cannot be used.
    """
    found = dict(scores_of([run for run in runs if run.name not in failed], folder))
    own, known = len(found), known or {}
    for run in runs:
        for cell in run.cells:
            if (cell, run.seed) in known:
                found.setdefault((cell, run.seed), known[cell, run.seed])
    missing = tuple(run.name for run in runs if any((cell, run.seed) not in found for cell in run.cells))
    outcomes = tuple(judge(suite, contrast, found, most) for contrast in suite.contrasts)
    return Results(suite, outcomes, found, missing, most, len(found) - own)


def json_row(outcome: Outcome) -> dict:
    """Makes one row of reproduce.json; mIoU in percent, null where there is nothing.

    Args:
      outcome: of a claim or ablation.
    """
    contrast, found = outcome.contrast, outcome.found
    return {
        "claim": contrast.key,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "seeds": len(outcome.seeds),
        "verdict": outcome.verdict,
        "kind": contrast.kind,
        "sentence": contrast.sentence,
        "left": dict(zip(map(str, outcome.seeds), outcome.left, strict=True)),
        "right": dict(zip(map(str, outcome.seeds), outcome.right, strict=True)),
        "missing": [f"{'/'.join(cell)} seed {seed}" for cell, seed in outcome.missing],
    }
