"""What reports read of the data. The data's own types stand above this package, which must not import them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Photos(Protocol):
    """One split of one dataset (data/kinds/kind.py, Source)."""

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    def describe(self, index: int) -> str:
        """The name of a sample, as that of the photo's file."""


class Classes(Protocol):
    """The classes of several datasets (data/label_space.py, LabelSpace)."""

    @property
    def datasets(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """The name and the class names of each dataset."""

    @property
    def global_ids(self) -> Sequence[Sequence[int]]:
        """The global ids of the classes of each dataset."""

    @property
    def num_classes(self) -> int:
        """The number of global ids."""

    def blocks(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """The classes in the order of their global ids, by the dataset in which each appears first."""

    def global_names(self) -> list[str]:
        """The name of every global id."""

    def first_rows(self) -> np.ndarray:
        """The index of the class, counted over all datasets, in which every global id appears first."""
