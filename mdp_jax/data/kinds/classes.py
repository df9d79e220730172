"""Classes of a dataset, and which value in its masks stands for which."""

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORE = 255  # the value of ignored pixels in masks on disk, unless a dataset's own table says otherwise
NO_CLASS = -2  # label of a value that must not be in a mask


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset.

    Attributes:
      names: in the order of their ids.
      to_label: int16 [256], the class id of every value of a mask; -1 ignored, NO_CLASS not allowed.
      palette: uint8 RGB [C, 3], the dataset's own colours, or None where it has none.
    """

    names: tuple[str, ...]
    to_label: np.ndarray
    palette: np.ndarray | None = None

    def expected(self) -> str:
        """The values that a mask may hold, in words: "0 to 18 or 255"."""
        allowed = np.flatnonzero(self.to_label != NO_CLASS).tolist()
        ranges: list[list[int]] = []
        for value in allowed:
            if ranges and ranges[-1][1] == value - 1:
                ranges[-1][1] = value
            else:
                ranges.append([value, value])
        words = [str(low) if low == high else f"{low} to {high}" for low, high in ranges]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def numbered(names: Sequence[str], palette: np.ndarray | None = None) -> ClassTable:
    """Makes the table of classes whose masks hold the class ids themselves, and IGNORE.

    Args:
      names: of the classes, in the order of their ids; at most 255.
      palette: uint8 RGB [C, 3], or None.
    """
    to_label = np.full(256, NO_CLASS, np.int16)
    to_label[: len(names)] = np.arange(len(names))
    to_label[IGNORE] = -1
    return ClassTable(tuple(names), to_label, palette)


def released(name: str) -> ClassTable:
    """Reads the classes of a published dataset from class_tables/NAME.txt.

    The file has a line for every value that the masks may have: the value, a colour as RRGGBB ("ignore" for no class,
    "-" for no colour) and the name.

    Args:
      name: of the file, without its suffix.
    """
    table = importlib.resources.files("mdp_jax.data.kinds").joinpath("class_tables", f"{name}.txt")
    text = table.read_text(encoding="utf-8")
    rows = [line.split(" ", 2) for line in text.splitlines() if not line.startswith("#")]
    to_label = np.full(256, NO_CLASS, np.int16)
    to_label[[int(value) for value, colour, _ in rows if colour == "ignore"]] = -1
    classes = [row for row in rows if row[1] != "ignore"]
    to_label[[int(value) for value, _, _ in classes]] = np.arange(len(classes))
    codes = [colour for _, colour, _ in classes]
    palette = None if "-" in codes else np.array([tuple(bytes.fromhex(code)) for code in codes], np.uint8)
    return ClassTable(tuple(label for _, _, label in classes), to_label, palette)


def with_colours() -> tuple[str, ...]:
    """The names of the published sets whose classes all have colours, as `released` takes them."""
    tables = importlib.resources.files("mdp_jax.data.kinds").joinpath("class_tables")
    names = (file.name.removesuffix(".txt") for file in tables.iterdir() if file.name.endswith(".txt"))
    return tuple(sorted(name for name in names if released(name).palette is not None))


def colours(name: str) -> np.ndarray:
    """The colours of the classes of a published dataset, uint8 RGB [C, 3].

    Args:
      name: as for `released`.

    Raises:
      ValueError: its table has no colours.
    """
    palette = released(name).palette
    if palette is None:
        raise ValueError(f"class_tables/{name}.txt: expected a colour for each class")
    return palette
