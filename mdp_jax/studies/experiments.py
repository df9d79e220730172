"""What `mdp reproduce` compares, as plain data: pretrainings, targets, and contrasts between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """One fine-tuning, whose seed is that of the pretraining.

    Attributes:
      name: of its folder too.
      what: a few words for tables.
      config: file for `mdp finetune`.
      overrides: of that config.
      rates: pretraining -> optim.lr, where it is another than the config and the overrides say.
    """

    name: str
    what: str
    config: str
    overrides: Overrides = ()
    rates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    """A difference between two sides, paired by seed.

    Attributes:
      key: short name.
      sentence: what is claimed, or what is measured.
      left: a cell, or two of them: the first minus the second.
      right: the same; the difference is left - right.
      kind: GREATER (claimed to be above 0), EQUIVALENT (claimed to make no difference) or MEASURED (nothing claimed).
      note: what a reader of its verdict has to know beside the rules.
    """

    key: str
    sentence: str
    left: tuple[Cell, ...]
    right: tuple[Cell, ...]
    kind: str = GREATER
    note: str = ""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Of both sides."""
        return (*self.left, *self.right)


@dataclass(frozen=True)
class Suite:
    """Everything that `mdp reproduce --suite NAME` runs and judges.

    Attributes:
      name: of its folder too.
      what: a sentence that says what the figures are about.
      pretrainings: by the order in which their runs come.
      targets: of all of them.
      claims: fixed before the runs; kinds GREATER and EQUIVALENT.
      ablations: of kind MEASURED.
      runs_here: whether the command runs it, or lists it for other machines.
    """

    name: str
    what: str
    pretrainings: tuple[Pretraining, ...]
    targets: tuple[Target, ...]
    claims: tuple[Contrast, ...]
    ablations: tuple[Contrast, ...] = ()
    runs_here: bool = True

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Claims and ablations."""
        return (*self.claims, *self.ablations)

    def pretraining(self, name: str) -> Pretraining:
        """By name; KeyError where there is none."""
        return {row.name: row for row in self.pretrainings}[name]

    def target(self, name: str) -> Target:
        """By name; KeyError where there is none."""
        return {row.name: row for row in self.targets}[name]

    def seeds_of(self, contrast: Contrast, most: int | None = None) -> range:
        """The seeds that all cells of a contrast have, at most `most` of them."""
        counts = [self.pretraining(name).seeds for name, _ in contrast.cells]
        return range(min(counts if most is None else [*counts, most]))
