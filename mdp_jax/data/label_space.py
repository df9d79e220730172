"""The label space: which number each class of each dataset has in the loss (METHOD.md section 1)."""

import functools
import itertools
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.paths import as_path, is_there

KINDS = ("concatenated", "merged")
MAX_CLASSES = int(np.iinfo(np.int16).max)  # labels travel as int16
_KEYS = {"dataset", "class", "global_id"}


@dataclass(frozen=True)
class LabelSpace:
    """The classes of all datasets, and their global ids (METHOD.md section 1).

    "concatenated": dataset d of C_d classes has offset o_d, the sum of C_e for e < d; global id = o_d + local id.
    "merged": classes of different datasets whose names are equal, but for case, for space around them and for the form
    of Unicode, are one class; global ids are in the order in which classes first appear.

    Attributes:
      datasets: in order, each with its classes in order: (dataset name, class names). An unlabelled one has none.
      kind: "concatenated" or "merged".
    """

    datasets: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str = "concatenated"

    @functools.cached_property
    def global_ids(self) -> tuple[tuple[int, ...], ...]:
        """The global ids of the classes of each dataset, in their order."""
        known: dict = {}
        keys = (
            [_merged_name(label) if self.kind == "merged" else (name, label) for label in classes]
            for name, classes in self.datasets
        )
        return tuple(tuple(known.setdefault(key, len(known)) for key in of_dataset) for of_dataset in keys)

    @property
    def num_classes(self) -> int:
        """C, the number of global ids."""
        return sum(len(classes) for _, classes in self.blocks())

    def blocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The classes in the order of their global ids, by the dataset in which each appears first.

        Returns:
          Pairs of a dataset's name and class names; datasets in which no class appears first are left out.
        """
        found, first = [], 0
        for (name, classes), ids in zip(self.datasets, self.global_ids, strict=True):
            new = tuple(label for label, i in zip(classes, ids, strict=True) if i >= first)
            found.append((name, new))
            first += len(new)
        return tuple(block for block in found if block[1])

    def global_names(self) -> list[str]:
        """The name of every global id, in order: `dataset/class` where it appears first."""
        return [f"{name}/{label}" for name, classes in self.blocks() for label in classes]

    def dataset_of(self) -> np.ndarray:
        """Index of the dataset of every global class, int32 [C]; S where several of the S datasets have the class."""
        owner = np.full(self.num_classes, -1, np.int32)
        for d, ids in enumerate(map(list, self.global_ids)):
            owner[ids] = np.where(owner[ids] < 0, d, len(self.datasets))
        return owner

    def first_rows(self) -> np.ndarray:
        """The index of the row of `rows()` in which every global id appears first, int64 [C]."""
        return np.unique([row["global_id"] for row in self.rows()], return_index=True)[1]

    def unlabelled(self) -> np.ndarray:
        """Which datasets have no classes, bool [S]."""
        return np.array([not classes for _, classes in self.datasets])

    def rows(self) -> list[dict]:
        """What label_space.json holds: one {"dataset", "class", "global_id"} for each class of each dataset."""
        return [
            {"dataset": name, "class": label, "global_id": i}
            for (name, classes), ids in zip(self.datasets, self.global_ids, strict=True)
            for label, i in zip(classes, ids, strict=True)
        ]

    def save(self, path: str | os.PathLike) -> None:
        """Writes `rows()` as JSON.

        Args:
          path: the file.

        Raises:
          UserError: the file cannot be written.
        """
        write_json(as_path(path), self.rows())

    @staticmethod
    def load(path: str | os.PathLike) -> "LabelSpace":
        """Reads what `save` wrote.

        Args:
          path: the file.

        Raises:
          UserError: the file is missing, or it is not a label space.
        """
        if not is_there(path):
            raise UserError(f"{path} is missing; expected the label space of a run")
        rows = read_json(path, "the label space of a run", [{"dataset": str, "class": str, "global_id": int}])
        try:
            return LabelSpace.from_rows(rows)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @staticmethod
    def from_rows(rows: list[dict]) -> "LabelSpace":
        """The inverse of `rows`, without the unlabelled datasets.

        Args:
          rows: JSON values.

        Raises:
          UserError: a row lacks a key, breaks the numbering or returns to an earlier dataset.
        """
        if not isinstance(rows, list):
            raise UserError(f"label space is a {type(rows).__name__}, expected a list of rows")
        if not rows:
            raise UserError("label space has no rows, expected one for each class")
        datasets: dict[str, list[str]] = {}
        previous = None
        for i, row in enumerate(rows):
            if not isinstance(row, dict) or set(row) != _KEYS or not _is_text(row):
                raise UserError(f"label space row {i} is {row!r:.80}, expected dataset, class and global_id")
            if row["dataset"] != previous and row["dataset"] in datasets:
                raise UserError(
                    f"label space row {i} returns to dataset {row['dataset']!r:.80}, expected its rows together"
                )
            previous = row["dataset"]
            datasets.setdefault(previous, []).append(row["class"])
        spaces = [LabelSpace(tuple((name, tuple(of)) for name, of in datasets.items()), kind) for kind in KINDS]
        for space in spaces:
            if space.rows() == rows:
                return space
        # The kind that the rows follow furthest says what was expected.
        wrong, expected = max(_first_difference(space.rows(), rows) for space in spaces)
        raise UserError(f"label space row {wrong} is {rows[wrong]!r:.200}, expected global_id {expected}")

    def of_sources(self, names: Sequence[str]) -> "LabelSpace":
        """The same with the sets that have no labels, which label_space.json leaves out.

        Args:
          names: of all sets of a run, in their order.
        """
        classes = dict(self.datasets)
        return LabelSpace(tuple((name, classes.get(name, ())) for name in names), self.kind)

    def require_same(self, other: "LabelSpace", where: str) -> None:
        """Checks that another label space is this one. Unlabelled datasets are not compared: `rows` has none of them.

        Args:
          other: the label space that is checked.
          where: its file, for the error.

        Raises:
          UserError: it differs. The message names the first dataset, class or global id.
        """
        labelled = [[dataset for dataset in space.datasets if dataset[1]] for space in (self, other)]
        for i, (mine, theirs) in enumerate(itertools.zip_longest(*labelled)):
            name, classes = mine or (None, ())
            other_name, other_classes = theirs or (None, ())
            if name != other_name:
                raise UserError(f"{where}: dataset {i} is {_quoted(other_name)}, expected {_quoted(name, 'none')}")
            for j, (label, other_label) in enumerate(itertools.zip_longest(classes, other_classes)):
                if label != other_label:
                    found, expected = _quoted(other_label), _quoted(label, "none")
                    raise UserError(f"{where}: class {j} of dataset {name!r} is {found}, expected {expected}")
        if self.rows() != other.rows():
            raise UserError(f"{where}: the label space is {other.kind}, expected {self.kind}")


def _is_text(row: dict) -> bool:
    return isinstance(row["class"], str) and isinstance(row["dataset"], str)


def _merged_name(label: str) -> str:
    return unicodedata.normalize("NFC", label.strip().casefold())


def _first_difference(expected: list[dict], rows: list[dict]) -> tuple[int, int]:
    """The first row with another global id than expected, and what was expected."""
    return next((i, mine["global_id"]) for i, (mine, row) in enumerate(zip(expected, rows, strict=True)) if mine != row)


def _quoted(name: str | None, nothing: str = "missing") -> str:
    return nothing if name is None else repr(name)


def build(sources: Iterable, kind: str = "concatenated") -> LabelSpace:
    """Makes the label space of datasets, in their order.

    Args:
      sources: anything with `name` and `classes`.
      kind: one of KINDS.

    Returns:
      The label space.

    Raises:
      UserError: two datasets have the same name; a dataset has a class name twice (where classes are merged: without
        regard to case and to space around them); there are fewer than two classes, or more than int16 holds.
    """
    datasets = tuple((source.name, tuple(source.classes)) for source in sources)
    repeated = _first_repeated(name for name, _ in datasets)
    if repeated is not None:
        raise UserError(f"two datasets are named {repeated!r}; expected each name once")
    for name, classes in datasets:
        repeated = _first_repeated(map(_merged_name, classes) if kind == "merged" else classes)
        if repeated is not None:
            raise UserError(f"dataset {name!r} has class {repeated!r} twice; expected each class name once")
    if not any(classes for _, classes in datasets):
        raise UserError(
            f"no labels in {', '.join(name for name, _ in datasets)}; expected a dataset with labels='masks'"
        )
    space = LabelSpace(datasets, kind)
    if space.num_classes == 1:
        raise UserError(
            f"the only class is {space.global_names()[0]}, which is then always right; expected at least two: name the "
            "background, too (255 in a mask is no class, but ignored)"
        )
    if space.num_classes > MAX_CLASSES:
        raise UserError(f"the datasets have {space.num_classes} classes together; expected at most {MAX_CLASSES}")
    return space


def _first_repeated(names: Iterable[str]) -> str | None:
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
