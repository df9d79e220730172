"""What `mdp reproduce` compares, as plain data: pretrainings, targets, and contrasts between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdp_jax.studies.runs import Run

Overrides = tuple[tuple[str, str], ...]  # (dotted key, text of the value), as on the command line
Cell = tuple[str, str]  # names of a pretraining and of a target

GREATER, EQUIVALENT, MEASURED = "greater", "equivalent", "measured"


@dataclass(frozen=True)
class Pretraining:
    """One way to come to weights, run once for each seed.

    Attributes:
      name: of its folder too.
      what: a few words for tables.
      config: file for `mdp pretrain`; empty = no run, the fine-tuning starts from scratch.
      overrides: of that config.
      init: name of the pretraining of the same seed whose weights it starts from, or a file of weights; empty = from
        scratch.
      seeds: how many, 0 .. seeds - 1.
      targets: names of those it is fine-tuned on.
    """

    name: str
    what: str
    config: str = ""
    overrides: Overrides = ()
    init: str = ""
    seeds: int = 3
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One fine-tuning, whose seed is that of the pretraining; or, with `photos`, heads in closed form (METHOD.md 8).

    Heads in closed form train nothing. Each pair of layers and a number of photos has a score of its own, the mean over
    the draws; the target's own score is the mean of these. A pretraining without a config is then the network of the
    target's config with its initial weights.

    Attributes:
      name: of its folder too.
      what: a few words for tables.
      config: file for `mdp finetune`.
      overrides: of that config.
      rates: pretraining -> optim.lr, where it is another than the config and the overrides say.
      photos: numbers of labelled photos of heads in closed form, 0 = all; () = it is a fine-tuning.
      draws: of the photos, of each number; by the seed, the same for all pretrainings.
      layers: under the heads, as `mdp adopt --layer` has them.
      seeds: those of the pretrainings that it is run for; () = all.
    """

    name: str
    what: str
    config: str
    overrides: Overrides = ()
    rates: Mapping[str, str] = field(default_factory=dict)
    photos: tuple[int, ...] = ()
    draws: int = 10
    layers: tuple[str, ...] = ("backbone",)
    seeds: tuple[int, ...] = ()

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of its scores: its own, and of heads in closed form TARGET/LAYERS/PHOTOS."""
        parts = (f"{self.name}/{layer}/{number or 'all'}" for layer in self.layers for number in self.photos)
        return (self.name, *parts)


@dataclass(frozen=True)
class Contrast:
    """A difference between two sides, paired by seed.

    Attributes:
      key: short name.
      sentence: what is claimed, or what is measured.
      left: a cell, or two of them: the first minus the second; with `mean` any number, whose mean is taken.
      right: the same; the difference is left - right.
      kind: GREATER (claimed to be above 0), EQUIVALENT (claimed to make no difference) or MEASURED (nothing claimed).
      note: what a reader of its verdict has to know beside the rules.
      mean: whether a side is the mean of its cells.
    """

    key: str
    sentence: str
    left: tuple[Cell, ...]
    right: tuple[Cell, ...]
    kind: str = GREATER
    note: str = ""
    mean: bool = False

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of both sides."""
        return (*self.left, *self.right)


@dataclass(frozen=True)
class Curve:
    """A line of a figure: how the score goes with a number, as with the steps of the pretraining.

    Attributes:
      panel: name of the axes; curves of one name share them.
      what: a few words for the legend; curves of one name share their colour.
      points: (number above 0, cells whose mean is the score there), in the order of the numbers.
    """

    panel: str
    what: str
    points: tuple[tuple[float, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Suite:
    """Everything that `mdp reproduce --suite FILE` runs and judges: what `get_suite()` of the file returns.

    Attributes:
      name: of its folder too.
      what: a sentence that says what the figures are about.
      pretrainings: in the order in which their runs come.
      targets: of all of them.
      claims: fixed before the runs; kinds GREATER and EQUIVALENT.
      ablations: of kind MEASURED.
      runs_here: whether the command runs it; False = it is only listed, for other machines.
      hours: the hours that a run takes on `device`, for the list of its runs.
      device: the device of `hours` in words, with what is assumed of it.
      curves: of a figure, where scores go with a number.
      along: what that number is.
    """

    name: str
    what: str
    pretrainings: tuple[Pretraining, ...]
    targets: tuple[Target, ...]
    claims: tuple[Contrast, ...]
    ablations: tuple[Contrast, ...] = ()
    runs_here: bool = True
    hours: Callable[[Run], float] | None = None
    device: str = ""
    curves: tuple[Curve, ...] = ()
    along: str = ""

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Claims and ablations."""
        return (*self.claims, *self.ablations)

    def pretraining(self, name: str) -> Pretraining:
        """Finds a pretraining by its name.

        Args:
          name: of the pretraining.

        Raises:
          KeyError: there is none.
        """
        return {row.name: row for row in self.pretrainings}[name]

    def target(self, name: str) -> Target:
        """Finds a target by its name.

        Args:
          name: of the target.

        Raises:
          KeyError: there is none.
        """
        return {row.name: row for row in self.targets}[name]

    def seeds_of(self, contrast: Contrast, most: int | None = None) -> tuple[int, ...]:
        """The seeds that all cells of a contrast have.

        Args:
          contrast: of this suite.
          most: number of seeds, at most; None = all.
        """
        return self.seeds_of_cells(contrast.cells, most)

    def seeds_of_cells(self, cells: Iterable[Cell], most: int | None = None) -> tuple[int, ...]:
        """The seeds that all of some cells have.

        Args:
          cells: at least one, of this suite.
          most: number of seeds, at most; None = all.
        """
        cells = tuple(cells)
        counts = [self.pretraining(name).seeds for name, _ in cells]
        every = range(min(counts if most is None else [*counts, most]))
        chosen = [self.target(target.split("/")[0]).seeds for _, target in cells]
        return tuple(seed for seed in every if all(not seeds or seed in seeds for seeds in chosen))


def compare_settings(
    name: str,
    pretrain: str | os.PathLike[str],
    finetune: str | os.PathLike[str],
    settings: Mapping[str, Mapping[str, object]],
    *,
    pretraining: Mapping[str, object] | None = None,
    finetuning: Mapping[str, object] | None = None,
    seeds: int = 3,
) -> Suite:
    """Makes a suite that compares settings of the pretraining with the config as it is, and this with no pretraining.

    Args:
      name: of the suite; of its folder too.
      pretrain: file for `mdp pretrain`.
      finetune: file for `mdp finetune`.
      settings: {name of a setting: {dotted key of the pretraining's config: value}}.
      pretraining: {dotted key of the pretraining's config: value}, for all pretrainings; a setting goes before it.
      finetuning: {dotted key of the fine-tuning's config: value}, for all fine-tunings.
      seeds: of each.

    Returns:
      The suite, which get_suite() of a file for `mdp reproduce --suite` returns. Its pretraining `scratch` is none, and
      `mdp` is that with the config as it is.
    """
    pretrain, finetune, always = os.fspath(pretrain), os.fspath(finetune), dict(pretraining or {})
    target = Target("finetuned", "fine-tuned", finetune, _overrides(finetuning or {}))
    alone = (target.name,)
    rows = [Pretraining("scratch", "no pretraining", seeds=seeds, targets=alone)]
    rows.append(Pretraining("mdp", "the config as it is", pretrain, _overrides(always), seeds=seeds, targets=alone))
    measured = []
    for setting, values in settings.items():
        what = ", ".join(f"{key}={value}" for key, value in values.items())
        overrides = _overrides(always | dict(values))
        rows.append(Pretraining(setting, what, pretrain, overrides, seeds=seeds, targets=alone))
        measured.append(Contrast(setting, what, ((setting, target.name),), (("mdp", target.name),), MEASURED))
    over = Contrast(
        "mdp_over_scratch",
        "the pretraining is better than training from scratch",
        (("mdp", target.name),),
        (("scratch", target.name),),
    )
    return Suite(name, f"{pretrain}, then {finetune}.", tuple(rows), (target,), (over,), tuple(measured))


def _overrides(values: Mapping[str, object]) -> Overrides:
    return tuple((key, str(value)) for key, value in values.items())
