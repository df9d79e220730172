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
    """Classes whose masks hold the class ids themselves, and IGNORE."""
    to_label = np.full(256, NO_CLASS, np.int16)
    to_label[: len(names)] = np.arange(len(names))
    to_label[IGNORE] = -1
    return ClassTable(tuple(names), to_label, palette)


def released(name: str) -> ClassTable:
    """The classes of a published dataset as class_tables/NAME.txt has them.

    Its lines hold, of every value that the masks may have, the value, a colour as RRGGBB ("ignore" for no class, "-"
    for no colour) and the name.
    """
    table = importlib.resources.files("mdp_jax.data.kinds").joinpath("class_tables", f"{name}.txt")
    text = table.read_text(encoding="utf-8")
    rows = [line.split(" ", 2) for line in text.splitlines() if not line.startswith("#")]
    to_label = np.full(256, NO_CLASS, np.int16)
    to_label[[int(value) for value, colour, _ in rows if colour == "ignore"]] = -1
    classes = [row for row in rows if row[1] != "ignore"]
    to_label[[int(value) for value, _, _ in classes]] = np.arange(len(classes))
    colours = [colour for _, colour, _ in classes]
    palette = None if "-" in colours else np.array([tuple(bytes.fromhex(colour)) for colour in colours], np.uint8)
    return ClassTable(tuple(label for _, _, label in classes), to_label, palette)
