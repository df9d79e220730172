"""A table of results, once for the terminal and once for reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import rich.box
import rich.console
import rich.table
import rich.text

_PLAIN_WIDTH = 160  # of a table that does not go to a terminal: names stay whole


def console(stderr: bool = False) -> rich.console.Console:
    """What tables are printed with, as wide as the terminal where there is one."""
    made = rich.console.Console(stderr=stderr)
    if not made.is_terminal:
        made.width = _PLAIN_WIDTH
    return made


@dataclass(frozen=True)
class Table:
    """Named columns and rows of cells.

    Attributes:
        columns: headings.
        rows: as many cells each as there are columns: text, whole numbers, floats (shown with two digits after the
            point) or None (nothing measured, shown as a dash).
        caption: above the table; may be empty.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    caption: str = ""

    def is_number(self, column: int) -> bool:
        """Whether a column holds no text but empty cells, so that its cells belong to the right."""
        return not any(isinstance(row[column], str) and row[column] for row in self.rows)


def text_of(cell: str | int | float | None) -> str:
    """A cell as it is shown."""
    if cell is None:
        return "–"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


MEANS = ("mIoU", "mAcc", "aAcc")


def scores_table(networks: Mapping[str, dict], caption: str = "") -> Table:
    """IoU of every class, then the means, a line for each, whose names say that they are no IoU of a class.

    Args:
        networks: heading of a column -> scores as evaluation.metrics.scores returns them, all of the same classes.
        caption: above the table.
    """
    rows = [[name, *(scores[name] for scores in networks.values())] for name in MEANS]
    classes = classes_table(networks)
    return Table(["class", *networks], [*classes.rows, *rows], caption)


def classes_table(networks: Mapping[str, dict], caption: str = "") -> Table:
    """IoU of every class; arguments as for `scores_table`."""
    columns = list(networks.values())
    rows = [[name, *(scores["per_class"][name] for scores in columns)] for name in columns[0]["per_class"]]
    return Table(["class", *networks], rows, caption)


OF_CLASS = {
    "IoU": "per_class",
    "accuracy": "per_class_accuracy",
    "precision": "per_class_precision",
    "Dice": "per_class_dice",
}


def all_scores_table(scores: Mapping, caption: str = "") -> Table:
    """IoU, accuracy, precision and Dice of every class, in percent, and their means below.

    Args:
        scores: as evaluation.metrics.scores returns them.
        caption: above the table.
    """
    rows = [[name, *(scores[of][name] for of in OF_CLASS.values())] for name in scores["per_class"]]
    for mean, under in (("mIoU", 0), ("mAcc", 1), ("mPrecision", 2), ("mDice", 3), ("aAcc", 1)):
        rows.append([mean, *(scores[mean] if place == under else "" for place in range(len(OF_CLASS)))])
    return Table(["class", *(f"{name} (%)" for name in OF_CLASS)], rows, caption)


def means_table(networks: Mapping[str, dict], caption: str = "") -> Table:
    """mIoU, mAcc and aAcc of every network; arguments as for `scores_table`."""
    rows = [[name, *(scores[mean] for mean in MEANS)] for name, scores in networks.items()]
    return Table(["", *(f"{mean} (%)" for mean in MEANS)], rows, caption)


def for_terminal(table: Table, gaps_before: Sequence[int] = ()) -> rich.console.Group:
    """Caption and table to print with rich, with a gap before the rows of the given numbers."""
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for number, name in enumerate(table.columns):
        numbers = table.is_number(number)
        # Where the terminal is too narrow, text goes on in a second line and numbers stay whole.
        whole = max(map(len, [name, *(text_of(row[number]) for row in table.rows)])) if numbers else None
        side: Literal["right", "left"] = "right" if numbers else "left"
        shown.add_column(rich.text.Text(name), justify=side, no_wrap=numbers, min_width=whole, overflow="fold")
    for number, row in enumerate(table.rows):
        if number in gaps_before:
            shown.add_section()
        # Text, as a plain string would be searched for markup in brackets.
        shown.add_row(*(rich.text.Text(text_of(cell)) for cell in row))
    # A title of rich's own would be broken at the width of the table.
    return rich.console.Group(*([rich.text.Text(table.caption)] if table.caption else []), shown)
