"""The label space: the datasets' classes, concatenated and never merged (METHOD.md section 1)."""

import itertools
import json
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mdp_jax.errors import UserError

_MAX_CLASSES = int(np.iinfo(np.int16).max)  # labels travel as int16
_KEYS = {"dataset", "class", "global_id"}


@dataclass(frozen=True)
class LabelSpace:
    """Datasets in order, each with its classes in order: (dataset name, class names).

    Dataset d of C_d classes has offset o_d, the sum of C_e for e < d; global id = o_d + local id (METHOD.md section 1).
    """

    datasets: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def num_classes(self) -> int:
        """C, the classes of all datasets together."""
        return sum(len(classes) for _, classes in self.datasets)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The global id of each dataset's class 0."""
        sizes = (len(classes) for _, classes in self.datasets[:-1])
        return tuple(itertools.accumulate(sizes, initial=0))

    def global_names(self) -> list[str]:
        """ "dataset/class" of every global id, in order."""
        return [f"{name}/{label}" for name, classes in self.datasets for label in classes]

    def dataset_of(self) -> np.ndarray:
        """Index of the dataset of every global class, int32 [C]."""
        sizes = [len(classes) for _, classes in self.datasets]
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    def rows(self) -> list[dict]:
        """What label_space.json holds: one {"dataset", "class", "global_id"} for each global id, in order."""
        pairs = [(name, label) for name, classes in self.datasets for label in classes]
        return [{"dataset": name, "class": label, "global_id": i} for i, (name, label) in enumerate(pairs)]

    def save(self, path: str | os.PathLike) -> None:
        """Writes `rows()` as JSON."""
        pathlib.Path(path).write_text(json.dumps(self.rows(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike) -> "LabelSpace":
        """Reads what `save` wrote; UserError where the file is missing or is no label space."""
        try:
            rows = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; expected the label space of a run") from None
        except ValueError as error:
            raise UserError(f"{path} is no JSON ({error}); expected the label space of a run") from None
        try:
            return LabelSpace.from_rows(rows)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @staticmethod
    def from_rows(rows: list[dict]) -> "LabelSpace":
        """The inverse of `rows`; UserError where a row lacks a key, breaks the numbering or returns to a dataset."""
        if not isinstance(rows, list):
            raise UserError(f"label space is a {type(rows).__name__}, expected a list of rows")
        datasets: dict[str, list[str]] = {}
        previous = None
        for i, row in enumerate(rows):
            if not isinstance(row, dict) or set(row) != _KEYS or row["global_id"] != i:
                raise UserError(f"label space row {i} is {row!r}, expected dataset, class and global_id {i}")
            if row["dataset"] != previous and row["dataset"] in datasets:
                raise UserError(
                    f"label space row {i} returns to dataset {row['dataset']!r}, expected its rows together"
                )
            previous = row["dataset"]
            datasets.setdefault(previous, []).append(row["class"])
        return LabelSpace(tuple((name, tuple(classes)) for name, classes in datasets.items()))

    def require_same(self, other: "LabelSpace", where: str) -> None:
        """UserError naming the first dataset or class in which `other`, found at `where`, differs from this one."""
        for i, (mine, theirs) in enumerate(itertools.zip_longest(self.datasets, other.datasets)):
            name, classes = mine or (None, ())
            other_name, other_classes = theirs or (None, ())
            if name != other_name:
                raise UserError(f"{where}: dataset {i} is {_quoted(other_name)}, expected {_quoted(name)}")
            for j, (label, other_label) in enumerate(itertools.zip_longest(classes, other_classes)):
                if label != other_label:
                    found, expected = _quoted(other_label), _quoted(label)
                    raise UserError(f"{where}: class {j} of dataset {name!r} is {found}, expected {expected}")


def _quoted(name: str | None) -> str:
    return "missing" if name is None else repr(name)


def build(sources: Iterable) -> LabelSpace:
    """The label space of sources (anything with `name` and `classes`), in their order.

    UserError on two datasets of one name, on a class name twice in one dataset, and on more classes than int16 holds.
    """
    datasets = tuple((source.name, tuple(source.classes)) for source in sources)
    repeated = _first_repeated(name for name, _ in datasets)
    if repeated is not None:
        raise UserError(f"two datasets are named {repeated!r}; expected each name once")
    for name, classes in datasets:
        repeated = _first_repeated(classes)
        if repeated is not None:
            raise UserError(f"dataset {name!r} has class {repeated!r} twice; expected each class name once")
    space = LabelSpace(datasets)
    if space.num_classes > _MAX_CLASSES:
        raise UserError(f"the datasets have {space.num_classes} classes together; expected at most {_MAX_CLASSES}")
    return space


def _first_repeated(names: Iterable[str]) -> str | None:
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
