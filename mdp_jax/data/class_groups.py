"""Classes of a dataset that are dropped, renamed, put in another order, or joined."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.words import some

Groups = Sequence[Sequence[str]]  # rows (name, classes of the set ...)


class Grouped(NamedTuple):
    """The classes that are left.

    Attributes:
      classes: names.
      of: for each of them the indices of the set's own classes.
    """

    classes: tuple[str, ...]
    of: tuple[tuple[int, ...], ...]

    def new_ids(self, count: int) -> np.ndarray:
        """The table from a label of the set to the new label, int16 [count + 1]; index -1 (ignored) reads the last one.

        Args:
          count: number of the set's own classes.
        """
        table = np.full(count + 1, -1, np.int16)
        for new, old in enumerate(self.of):
            table[list(old)] = new
        return table


def require_name(name: str, where: str) -> None:
    """Checks that a text can be the name of a class, which takes one line of a file or a table.

    Args:
      name: of a class.
      where: what the error begins with.

    Raises:
      UserError: it is empty, or has line breaks.
    """
    if not name.strip() or len(name.splitlines()) > 1:
        raise UserError(f"{where}: the name {name!r}; expected the name of a class, in one line")


def grouped(where: str, classes: Sequence[str], drop: Sequence[str], groups: Groups) -> Grouped:
    """Applies a config's `drop_classes` and `class_groups`.

    The groups come first, in their order; then the classes in none of them, under their own names.

    Args:
      where: the dataset, which errors begin with.
      classes: of the set, by id.
      drop: names of classes that are left out.
      groups: rows (name, classes of the set ...); with several classes they become one.

    Raises:
      UserError: a class is unknown, dropped or in two groups, a row is too short, or a name is none or would be there
        twice.
    """
    left = [name for name in classes if name not in drop]
    for row in groups:
        if len(row) < 2:
            raise UserError(
                f"{where}: class_groups has {tuple(row)!r:.80}; expected rows of a name and classes of the set"
            )
        require_name(row[0], f"{where}: class_groups")
        for label in row[1:]:
            if label not in left:
                too = ", which drop_classes has too; expected it in one of them"
                state = too if label in classes else f"; expected some of {some(left)}"
                raise UserError(f"{where}: class_groups has {label!r:.80}{state}")
    taken = collections.Counter(label for row in groups for label in row[1:])
    if taken and max(taken.values()) > 1:
        raise UserError(f"{where}: class_groups has {taken.most_common(1)[0][0]!r} twice; expected each class once")
    rows = [*groups, *([name, name] for name in left if name not in taken)]
    names = collections.Counter(row[0] for row in rows)
    if names and max(names.values()) > 1:
        raise UserError(
            f"{where}: class_groups makes two classes {names.most_common(1)[0][0]!r}; expected each name once"
        )
    number = {name: index for index, name in enumerate(classes)}
    return Grouped(tuple(row[0] for row in rows), tuple(tuple(number[label] for label in row[1:]) for row in rows))
