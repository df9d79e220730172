"""What the names of classes say: which classes of different sets are related, where prototypes start (METHOD.md 9)."""

import dataclasses
import hashlib
import io
import os
import pathlib
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax import python_files
from mdp_jax.configs import MethodConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.storage.files import read_bytes, shown
from mdp_jax.storage.json_files import read_json, write_json
from mdp_jax.storage.paths import expanded
from mdp_jax.words import counted, some

RELATIONS = ("none", "names", "text")
NEAR = MethodConfig.relation_threshold  # smallest cosine of names that are near, where nothing else is said
FILE = "relations.json"  # of the workdir
_EXPECTED = "an .npz file with the arrays names (text [n]) and vectors (numbers [n, d]), as docs/relations.md makes it"
_NAMED = 30  # classes without a vector that a message names
_MOST_BYTES = 1 << 30  # of the arrays of a file
_ROUNDING = 1e-6  # of a cosine: equal vectors are near at a threshold of 1
_SHUFFLE, _PROJECTION = 0x73687566, 0x70726F6A  # keep the two uses of the seed apart


class NameRelations(NamedTuple):
    """What the training step knows of the names.

    Attributes:
      related: bool [C, C], symmetric: classes of different sets whose names are near; None = not used.
      starts: float32 [C, D], unit rows that the prototypes start from; None = they start from the first pixels.
    """

    related: np.ndarray | None
    starts: np.ndarray | None


NO_RELATIONS = NameRelations(None, None)


def normalised(name: str) -> str:
    """The form in which names are compared: without case, with a space for underscores and any run of space, in NFC.

    "Sign_symbol" and "sign symbol" are equal then. Nothing else is: "tree" and "trees" are two names.

    Args:
      name: of a class.
    """
    return unicodedata.normalize("NFC", " ".join(name.casefold().replace("_", " ").split()))


@dataclasses.dataclass(frozen=True)
class NameVectors:
    """The vectors of a file of names.

    Attributes:
      where: the option and the file, for errors.
      vectors: normalised name -> float64 [E], as they are in the file.
    """

    where: str
    vectors: Mapping[str, np.ndarray]

    def of(self, names: Sequence[str], whose: Sequence[str]) -> np.ndarray:
        """The vectors of some classes.

        Args:
          names: n class names.
          whose: n texts that errors name them by.

        Returns:
          float64 [n, E], unit rows.

        Raises:
          UserError: a class has no vector in the file. The message names them.
        """
        missing = [text for name, text in zip(names, whose, strict=True) if normalised(name) not in self.vectors]
        if missing:
            named = some((text.removeprefix("class ") for text in missing), _NAMED)
            more = f"; the same holds for {len(missing)} of {len(names)} classes: {named}" if len(missing) > 1 else ""
            raise UserError(f"{self.where}: no vector of {missing[0]}{more}; expected a vector of every class: add it")
        rows = np.stack([self.vectors[normalised(name)] for name in names])
        rows = rows / np.abs(rows).max(axis=1, keepdims=True)  # so that no square overflows or vanishes
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def digest(self, names: Sequence[str]) -> str:
        """A digest of the vectors of some classes, in their order.

        Args:
          names: of classes that have one.
        """
        return hashlib.sha256(b"".join(self.vectors[normalised(name)].tobytes() for name in names)).hexdigest()


def read_vectors(path: str, option: str) -> NameVectors:
    """Reads a file of names and vectors.

    Args:
      path: as given, or relative to the folder that holds the shipped `configs/`.
      option: what named the file, such as "--names"; errors begin with it.

    Returns:
      The vectors.

    Raises:
      UserError: there is no such file, it is no .npz file, it lacks an array or has one of another shape or type, a
        name stands in it twice, or a vector is zero or not finite.
    """
    file, where = expanded(path), f"{option} {shown(path)}"
    if not os.path.lexists(file) and os.path.isfile(python_files.configs_parent() / file):
        file = python_files.configs_parent() / file
    names, vectors = _arrays(file, where)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{where}: names is {_form(names)}; expected text [n], as np.array(['road', 'sky']) is")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.shape[1] or len(vectors) != len(names):
        raise UserError(
            f"{where}: vectors is {_form(vectors)}; expected numbers [{len(names)}, d], a row for each name"
        )
    found: dict[str, np.ndarray] = {}
    for name, row in zip(names.tolist(), vectors.astype(np.float64), strict=True):
        if not np.isfinite(row).all():
            raise UserError(f"{where}: the vector of {name!r:.80} is not finite; expected finite numbers")
        if not row.any():
            raise UserError(f"{where}: the vector of {name!r:.80} is zero; expected a direction: leave the name out")
        if normalised(name) in found:
            raise UserError(
                f"{where}: names has {name!r:.80} twice, but for case, underscores and space; expected each name once"
            )
        found[normalised(name)] = row
    return NameVectors(where, found)


def _arrays(file: pathlib.Path, where: str) -> tuple[np.ndarray, np.ndarray]:
    data = io.BytesIO(read_bytes(file, _EXPECTED))
    try:
        with zipfile.ZipFile(data) as archive:
            size = sum(member.file_size for member in archive.infolist())
        data.seek(0)
        with np.load(data, allow_pickle=False) as arrays:
            there = arrays.files
            found = {name: arrays[name] for name in ("names", "vectors") if name in there and size <= _MOST_BYTES}
    except Exception:  # what a damaged archive raises is of no one family
        raise UserError(f"{where}: cannot be read; expected {_EXPECTED}") from None
    if size > _MOST_BYTES:
        raise UserError(f"{where}: {counted(size, 'byte')} of arrays; expected at most {_MOST_BYTES:,}")
    if missing := {"names", "vectors"} - found.keys():
        holds = ", ".join(there[:5]) or "nothing"
        raise UserError(f"{where}: holds {holds:.200}, and no {min(missing)}; expected {_EXPECTED}")
    if not all(isinstance(array, np.ndarray) for array in found.values()):  # a member of the archive that is no array
        raise UserError(f"{where}: names or vectors is no array; expected {_EXPECTED}")
    return found["names"], found["vectors"]


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def similarities(ours: Sequence[str], theirs: Sequence[str], vectors: NameVectors | None = None) -> np.ndarray:
    """How alike names are.

    Args:
      ours: m names.
      theirs: n names.
      vectors: of all of them; None = names are equal or not.

    Returns:
      float64 [m, n]: cosines of the vectors, or 1 where the normalised names are equal and 0 elsewhere.

    Raises:
      UserError: a name has no vector.
    """
    if vectors is None:
        one, other = (np.array([normalised(name) for name in names], object) for names in (ours, theirs))
        return (one[:, None] == other[None, :]).astype(np.float64)
    one, other = (vectors.of(names, [f"{name!r:.80}" for name in names]) for names in (ours, theirs))
    return one @ other.T


def near(cosines: np.ndarray, threshold: float) -> np.ndarray:
    """Which names are near.

    Args:
      cosines: of `similarities`.
      threshold: smallest cosine of names that are near.

    Returns:
      bool, of the same shape.
    """
    return cosines >= threshold - _ROUNDING


@dataclasses.dataclass(frozen=True)
class Named:
    """The relations of a run, and what its workdir keeps of them.

    Attributes:
      relations: for the training step.
      record: what relations.json holds; None where names are not used.
    """

    relations: NameRelations
    record: dict | None

    @property
    def identity(self) -> dict | None:
        """What of the record is the same on every machine: cosines may differ in their last digit."""
        if self.record is None:
            return None
        return _identity(self.record)

    def lines(self, related_as: str) -> list[str]:
        """What is said of them before a run begins.

        Args:
          related_as: of the config.
        """
        if self.record is None or self.relations.related is None:
            return []
        pairs = self.record["pairs"]
        if not pairs:
            return ["relations: none, as no two classes of different sets have near names"]
        one, other, _ = pairs[0]
        such = f"such as {one} and {other} ({related_as})"
        return [f"relations: {counted(len(pairs), 'pair')} of classes, {such}; {FILE} has all of them"]

    def require_same(self, folder: pathlib.Path) -> None:
        """Checks that a run which goes on has the relations that it began with.

        Args:
          folder: its workdir.

        Raises:
          UserError: they differ, as where the file of names holds something else now.
        """
        file = folder / FILE
        if self.record is None or not file.exists():
            return
        before = _identity(read_json(file, "the relations of a run", {"pairs": [[object]], "vectors": (str, None)}))
        now = _identity(self.record)
        for key, what in (("pairs", "other classes are related"), ("vectors", "the vectors of the names are others")):
            if before[key] != now[key]:
                raise UserError(f"{file}: {what} than when the run began; expected the names_file of then")

    def save(self, folder: pathlib.Path) -> None:
        """Writes relations.json where names are used.

        Args:
          folder: the workdir.

        Raises:
          UserError: the file cannot be written.
        """
        if self.record is not None:
            write_json(folder / FILE, self.record)


def _identity(record: dict) -> dict:
    return {"pairs": [pair[:2] for pair in record["pairs"]], "vectors": record["vectors"]}


def of_run(method: MethodConfig, label_space: LabelSpace, dim: int, seed: int) -> Named:
    """Finds what the names of a run's classes say (METHOD.md section 9).

    Args:
      method: the config's `method`.
      label_space: of all datasets.
      dim: D, of the prototypes.
      seed: of the run.

    Raises:
      UserError: the file of names cannot be used, or lacks a class.
    """
    if method.relations == RELATIONS[0] and not method.start_from_names:
        return Named(NO_RELATIONS, None)
    blocks = label_space.blocks()
    if method.shuffle_names:
        rng = np.random.default_rng((seed, _SHUFFLE))
        blocks = tuple((name, tuple(_exchanged(classes, rng))) for name, classes in blocks)
    names = [label for _, classes in blocks for label in classes]
    vectors = units = None
    if method.relations == "text" or method.start_from_names:
        vectors = read_vectors(method.names_file, "config.method.names_file")
        units = vectors.of(names, [f"class {name}/{label}" for name, classes in blocks for label in classes])
    related, cosines, pairs = None, np.zeros(()), list[list]()
    if method.relations != RELATIONS[0]:
        by_text = method.relations == "text"
        cosines = similarities(names, names, vectors if by_text else None)
        sets = label_space.dataset_of()
        related = near(cosines, method.relation_threshold if by_text else 1.0) & (sets[:, None] != sets[None, :])
        full = label_space.global_names()
        pairs = [[full[i], full[j], round(float(cosines[i, j]), 4)] for i, j in np.argwhere(np.triu(related)).tolist()]
    starts = _projected(units, dim, seed) if method.start_from_names and units is not None else None
    digest = None if vectors is None else vectors.digest(names)
    record = {"relations": method.relations, "shuffled": method.shuffle_names, "pairs": pairs, "vectors": digest}
    return Named(NameRelations(related, starts), record)


def without_file(method: MethodConfig, classes: int, dim: int) -> NameRelations:
    """Relations of the same shapes, for programs that are planned and not run.

    Args:
      method: the config's `method`.
      classes: C.
      dim: D, of the prototypes.
    """
    related = None if method.relations == RELATIONS[0] else np.zeros((classes, classes), bool)
    return NameRelations(related, np.zeros((classes, dim), np.float32) if method.start_from_names else None)


def _exchanged(names: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The names in another order, in which none stands where it stood; a single one stays."""
    order, found = rng.permutation(len(names)), list(names)
    for place, other in zip(order, np.roll(order, 1), strict=True):
        found[place] = names[other]
    return found


def _projected(units: np.ndarray, dim: int, seed: int) -> np.ndarray:
    """The unit vectors [C, E] of names, through a random projection, as unit vectors float32 [C, D]."""
    projection = np.random.default_rng((seed, _PROJECTION)).standard_normal((units.shape[1], dim))
    found = units @ projection
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
