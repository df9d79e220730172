"""What the vectors of classes say: how alike the classes of different sets are, and what became of each."""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.reporting import health
from mdp_jax.reporting.figures import cosines_of
from mdp_jax.reporting.tables import Table
from mdp_jax.words import counted, some


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A vector for each class at one step of a run.

    Attributes:
      step: steps taken.
      names: of the C classes.
      sets: int [C], the index of the set of each class, non-decreasing.
      set_names: of the sets.
      vectors: float64 [C, D]; only their directions are compared.
      unit: whether they are unit vectors by their nature, so that their norms say nothing.
      count: int64 [C], images (or, where these are not counted, labelled pixels) in which each class was seen.
      counted: "images" or "pixels".
      last_seen: int64 [C], the last step whose batch had a pixel of each class, 0 = none that is known of; None where
        the run did not keep it.
    """

    step: int
    names: Sequence[str]
    sets: np.ndarray
    set_names: Sequence[str]
    vectors: np.ndarray
    unit: bool
    count: np.ndarray
    counted: str
    last_seen: np.ndarray | None = None

    @property
    def seen(self) -> np.ndarray:
        """bool [C]."""
        return self.count > 0

    def cosines(self) -> np.ndarray:
        """float64 [C, C]; NaN in the rows and columns of classes never seen."""
        return cosines_of(self.vectors, self.seen)

    def full(self, index: int) -> str:
        """The name of a class as "set/class"."""
        return f"{self.set_names[self.sets[index]]}/{self.names[index]}"


class Pair(NamedTuple):
    """A class and the nearest class of another set.

    Attributes:
      one: index of the class.
      other: index of the nearest class of the other set.
      cosine: between them.
      mutual: whether `one` is the nearest of its set to `other`, too.
    """

    one: int
    other: int
    cosine: float
    mutual: bool


def neighbours(found: Vectors) -> list[Pair]:
    """Of each seen class the nearest seen class of each other set.

    Args:
      found: the vectors.

    Returns:
      Mutual pairs first, each once; then the others. Each part begins with the most alike.
    """
    cosines, pairs = found.cosines(), []
    members = [np.flatnonzero((found.sets == s) & found.seen) for s in range(len(found.set_names))]
    for first, second in itertools.combinations([ids for ids in members if len(ids)], 2):
        block = cosines[np.ix_(first, second)]
        there, back = block.argmax(axis=1), block.argmax(axis=0)
        for i, j in enumerate(there):
            pairs.append(Pair(int(first[i]), int(second[j]), float(block[i, j]), bool(back[j] == i)))
        for j, i in enumerate(back):
            if there[i] != j:
                pairs.append(Pair(int(second[j]), int(first[i]), float(block[i, j]), False))
    return sorted(pairs, key=lambda pair: (not pair.mutual, -pair.cosine, pair.one, pair.other))


def mean_cosine(found: Vectors) -> float:
    """Between different seen classes; NaN with fewer than two."""
    cosines = found.cosines()[np.ix_(found.seen, found.seen)]
    n = len(cosines)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1))) if n > 1 else math.nan


def sentences(history: Sequence[Vectors]) -> list[str]:
    """What may be wrong: collapse or crowding, classes of a set that are hardly told apart, dead classes.

    Args:
      history: at least one, the newest last.
    """
    newest = history[-1]
    cosines = newest.cosines()
    same = newest.sets[:, None] == newest.sets[None, :]
    close = [
        (float(cosines[i, j]), i, j)
        for i, j in np.argwhere(np.triu(same, 1) & (np.nan_to_num(cosines, nan=-1.0) > health.CLOSE))
    ]
    pairs = [
        f"{newest.set_names[newest.sets[i]]}: {newest.names[i]} and {newest.names[j]} {cosine:.2f}"
        for cosine, i, j in sorted(close, reverse=True)
    ]
    unseen = [newest.full(i) for i in np.flatnonzero(~newest.seen).tolist()]
    found = health.collapse(mean_cosine(newest)) | health.close_pairs(pairs)
    found |= health.dead(unseen, f"up to step {newest.step}")
    if len(history) > 1 and history[-1].step > history[-2].step:
        stopped = (history[-2].count == newest.count) & newest.seen
        since = f"since step {history[-2].step}, though before"
        names = [newest.full(i) for i in np.flatnonzero(stopped).tolist()]
        if names:
            found["stopped"] = f"not seen {since}: {counted(len(names), 'class', 'classes')} ({some(names, 5)})"
    return list(found.values())


def ages(history: Sequence[Vectors]) -> list[tuple[int, int | None] | None]:
    """How many steps ago each class was last seen: exactly where it was kept, else as the counts at the steps tell.

    Args:
      history: at least one, the newest last.

    Returns:
      For each class (at least, at most) steps; at most is None where it was last seen before the first kept step; None
      where it was never seen, or where one step alone is kept and does not say it.
    """
    newest, found = history[-1], []
    for index in range(len(newest.names)):
        age: tuple[int, int | None] | None = None
        if newest.last_seen is not None and newest.last_seen[index]:
            age = (newest.step - int(newest.last_seen[index]),) * 2
        elif newest.count[index] and len(history) > 1:
            age = (newest.step - history[0].step, None)
            for before, after in itertools.pairwise(history):
                if after.count[index] > before.count[index]:
                    age = (newest.step - after.step, newest.step - before.step - 1)
        found.append(age)
    return found


def drifts(history: Sequence[Vectors]) -> np.ndarray:
    """The angle in degrees by which each class has turned from each kept step to the next one.

    Args:
      history: at least one, the newest last.

    Returns:
      float64 [len(history) - 1, C]; NaN where a class was not seen before.
    """
    angles = []
    for before, after in itertools.pairwise(history):
        norms = np.linalg.norm(before.vectors, axis=1) * np.linalg.norm(after.vectors, axis=1)
        cosines = np.einsum("cd,cd->c", before.vectors, after.vectors) / np.maximum(norms, 1e-12)
        turned = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        angles.append(np.where(before.seen & after.seen, turned, np.nan))
    return np.array(angles).reshape(-1, len(history[-1].names))


def age_in_words(age: tuple[int, int | None] | None) -> str | None:
    """An age as tables show it: "7", "0 to 49", "at least 100"; None where nothing is known."""
    if age is None:
        return None
    if age[0] == age[1]:
        return str(age[0])
    return f"at least {age[0]}" if age[1] is None else f"{age[0]} to {age[1]}"


def mean_lengths(vectors: np.ndarray, ids: np.ndarray, classes: int) -> np.ndarray:
    """The length of the mean of each class's unit features: 1 where all point one way, near 0 where they disagree.

    It is the norm that an average of features has before it is made a unit vector (METHOD.md section 3).

    Args:
      vectors: float [P, D], features of pixels, of any length above 0.
      ids: int [P], the class of each, 0 .. classes - 1.
      classes: their number C.

    Returns:
      float64 [C] in 0 .. 1, NaN of a class without a pixel.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    total, count = np.zeros((classes, vectors.shape[1])), np.bincount(ids, minlength=classes)
    np.add.at(total, ids, unit.astype(np.float64))
    return np.where(count > 0, np.linalg.norm(total, axis=1) / np.maximum(count, 1), np.nan)


def classes_table(history: Sequence[Vectors], lengths: np.ndarray | None = None) -> Table:
    """Each class with what is known of it, and the nearest class of another set.

    Args:
      history: at least one, the newest last.
      lengths: float [C], of `mean_lengths`; None = no photo was read.
    """
    newest, turned, norms = history[-1], drifts(history), np.linalg.norm(history[-1].vectors, axis=1)
    nearest: dict[int, Pair] = {}
    for pair in neighbours(newest):
        ends = ((pair.one, pair), (pair.other, pair)) if pair.mutual else ((pair.one, pair),)
        for index, one in ends:
            if index not in nearest or one.cosine > nearest[index].cosine:
                nearest[index] = one
    columns = ["set", "class", f"{newest.counted} seen"]
    columns += [] if newest.unit else ["norm"]
    columns += [] if lengths is None else ["length of the mean feature"]
    aged = len(history) > 1 or newest.last_seen is not None
    columns += ["steps since seen"] if aged else []
    columns += [f"turned since {history[-2].step} (°)"] if len(history) > 1 else []
    rows = []
    for index, (name, age) in enumerate(zip(newest.names, ages(history), strict=True)):
        row: list[str | int | float | None] = [newest.set_names[newest.sets[index]], name, int(newest.count[index])]
        row += [] if newest.unit else [float(norms[index])]
        if lengths is not None:
            row += [None if math.isnan(lengths[index]) else float(lengths[index])]
        row += [age_in_words(age) or "–"] if aged else []
        if len(history) > 1:
            angle = float(turned[-1, index])
            row += [None if math.isnan(angle) else angle]
        own = nearest.get(index)
        other = None if own is None else own.other if own.one == index else own.one
        row += ["–", None] if own is None or other is None else [newest.full(other), own.cosine]
        rows.append(row)
    return Table([*columns, "nearest of another set", "cosine"], rows)


def neighbours_table(found: Vectors, most: int | None = None, mutual: bool = False) -> Table:
    """Classes and the nearest classes of other sets.

    Args:
      found: the vectors.
      most: rows.
      mutual: whether only mutual pairs are shown.
    """
    pairs = [pair for pair in neighbours(found) if pair.mutual or not mutual]
    rows = [
        [found.full(pair.one), found.full(pair.other), pair.cosine, "both ways" if pair.mutual else "one way"]
        for pair in pairs[:most]
    ]
    more = f" ({most} of {len(pairs)})" if most is not None and len(pairs) > most else ""
    return Table(["class", "nearest of the other set", "cosine", "nearest"], rows, f"Nearest classes{more}")


def as_csv(table: Table) -> str:
    """A table as the text of a CSV file, numbers with all their digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if cell in (None, "–") else cell for cell in row] for row in table.rows])
    return file.getvalue()
