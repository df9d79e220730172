"""What follows from what was found in the photos of some datasets: problems by kind, doubles, and what looks wrong."""

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.doctor.scan import Found, Problem
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError

_LOOKED_INTO = 8  # masks of each kind of problem whose values are gathered
_CHANCE = 3  # values that may be greys of a palette by chance
_GREYS = "all ids are greys of the colours of {}: colour masks turned to grey, where the palette's indices are wanted"


@dataclass
class Part:
    """One split of one dataset.

    Attributes:
      dataset: its name.
      split: "train", "val" or "test".
      needed: whether training opens it.
      plain_ids: whether its masks hold the class ids themselves.
      source: of sources.open_source; None where it could not be opened.
      refused: why not; "" where it could.
      skipped: how many photos that cannot be used training puts up with.
      found: in its photos; None until they were looked at.
    """

    dataset: str
    split: str
    needed: bool
    plain_ids: bool
    source: Source | None = None
    refused: str = ""
    skipped: int = 0
    found: Found | None = None

    def __str__(self) -> str:
        return f"{self.dataset} {self.split}"


@dataclass(frozen=True)
class Doubles:
    """Photos whose pixels are the same in two parts, or twice in one.

    Attributes:
      first, second: the parts, by their place in the list.
      photos: names of one photo and its double.
    """

    first: int
    second: int
    photos: list[tuple[str, str]]


def problems_by_kind(part: Part) -> list[list[Problem]]:
    """The problems of a part's photos, those together that differ in file and numbers alone."""
    kinds: dict[str, list[Problem]] = {}
    for problem in part.found.problems:
        words = problem.line
        for path in part.source.files(problem.index):
            words = words.replace(str(path), "")
        kinds.setdefault(re.sub(r"\d+", "", words), []).append(problem)
    return list(kinds.values())


def doubles(parts: Sequence[Part]) -> list[Doubles]:
    """Photos of the same pixels, in every pair of parts and in each part, in the order of the parts."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        for index, digest in part.found.digests if part.found else ():
            places.setdefault(digest, []).append((number, index))
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for same in places.values():
        first_of: dict[int, str] = {}
        for number, index in same:
            name = parts[number].source.describe(index)
            if number in first_of:
                found.setdefault((number, number), []).append((first_of[number], name))
            first_of.setdefault(number, name)
        for one, other in itertools.combinations(first_of, 2):
            found.setdefault((one, other), []).append((first_of[one], first_of[other]))
    return [Doubles(*pair, found[pair]) for pair in sorted(found)]


def failures(parts: Sequence[Part]) -> list[str]:
    """Why a training on the needed parts would end with an error, or learn nothing; empty where it would not."""
    reasons = []
    for part in parts:
        if not part.needed:
            continue
        if part.refused:
            reasons.append(part.refused)
            continue
        problems = part.found.problems
        if len(problems) > part.skipped:
            of = f"{len(problems)} of {len(part.source)} photos of {part} cannot be used"
            of += f", {part.skipped} at most are skipped" if part.skipped else ""
            reasons.append(f"{of}; the first: {problems[0].line}")
        failure = unlearnable(str(part), part.source.classes, part.found)
        reasons += [failure] if failure else []
    return reasons


def unlearnable(where: str, classes: Sequence[str], found: Found) -> str:
    """Why nothing can be learnt from the photos that were looked at; "" where something can.

    Args:
      where: what the line calls them.
      classes: of the dataset; none where it has no labels.
      found: in them.

    Returns:
      A line, or "".
    """
    if not classes or not found.sizes or found.pixels[1:].any():
        return ""
    return f"{where}: no pixel of any class in {len(found.sizes)} masks; expected labelled pixels"


def remarks(where: str, source: Source, found: Found, plain_ids: bool) -> list[str]:
    """What training would not fail on, but is likely to be wrong with photos that were looked at.

    Args:
      where: what the lines call them.
      source: of the photos.
      found: in all of them, or in some.
      plain_ids: whether the masks hold the class ids themselves.

    Returns:
      Lines.
    """
    classes, photos, lines = source.classes, len(found.sizes), []
    seen = np.flatnonzero(found.classes_seen)
    never = [name for name, there in zip(classes, found.classes_seen, strict=True) if not there]
    if never and len(seen):
        more = f" and {len(never) - 10} more" if len(never) > 10 else ""
        looked_at = "" if photos >= len(source) else f" in {photos} of {len(source)} photos"
        lines.append(f"{where}: never seen{looked_at}: {', '.join(never[:10])}{more}")
    if 0 < found.unlabelled < photos:
        lines.append(f"{where}: {found.unlabelled} of {photos} masks have no pixel of any class")
    if found.turned and classes:
        lines.append(
            f"{where}: {found.turned} of {photos} photos are turned or mirrored, as their EXIF orientation "
            "says, and masks are not; were they drawn on the photos as people see them?"
        )
    if seen.tolist() == [0] and found.photos[0] and len(classes) > 1:
        lines.append(f"{where}: the masks hold nothing but class 0 and ignored pixels; is 255 meant to be a class?")
    elif len(seen) == 1 and photos > 1:
        lines.append(f"{where}: all labelled pixels of {photos} masks are of one class, {classes[seen[0]]}")
    palette = _grey_colours(seen)
    if palette and plain_ids:
        lines.append(f"{where}: {_GREYS.format(palette)}")
    if found.depths:
        bits = " and ".join(str(depth) for depth in sorted(found.depths))
        several = "; expected one depth for all: convert them to 8 bits" if len(found.depths) > 1 else ""
        lines.append(f"{where}: {found.depths.total()} photos of 16 bits are scaled to 8 from {bits} bits{several}")
    if found.damaged:
        first = found.damaged[0]
        named = f"{source.describe(first.index)} for one ({first.line})"
        count = f"{len(found.damaged)} of {photos} photos are damaged JPEGs"
        lines.append(f"{where}: {count}, {named}; some of their pixels are made up")
    return lines + beside(where, source)


def beside(where: str, source: Source) -> list[str]:
    """Which image files lie beside those that samples are made of.

    Args:
      where: what the line calls the source.
      source: that was opened; no photo is read.

    Returns:
      A line, or none.
    """
    if not source.passed_over:
        return []
    named = f"{len(source.passed_over)} files are passed over, {source.passed_over[0]} for one"
    return [f"{where}: {named}; photos are read as JPEG or PNG, masks as PNG, from the folders of the split alone"]


def look_into(part: Part, problems: Sequence[Problem]) -> str:
    """What masks with one kind of problem have in common, from the values in some of them; may be ""."""
    if not part.plain_ids:
        return ""
    values: set[int] = set()
    for problem in problems[:_LOOKED_INTO]:
        for path in part.source.files(problem.index)[1:]:
            with contextlib.suppress(UserError):
                values |= set(np.unique(images.read_mask(path)).tolist())
    return explain(np.array(sorted(values - {255}), np.int64), len(part.source.classes))


def explain(values: np.ndarray, num_classes: int) -> str:
    """How masks may have come to hold these values (sorted, without 255) where ids of `num_classes` were expected."""
    if not len(values) or values[-1] < num_classes:
        return ""
    palette = _grey_colours(values)
    if palette:
        return _GREYS.format(palette)
    step = math.gcd(*values.tolist())
    if step > 1 and len(values) > 2 and values[-1] // step < num_classes:
        return f"all ids are multiples of {step}: were they stretched to be visible?"
    if values[-1] == num_classes and values[0] == 1:
        return f"ids run from 1 to {num_classes}: do they begin at 1 where 0 is expected?"
    return ""


@functools.cache
def _possible_greys() -> dict[str, frozenset[int]]:
    """For each kind of few mask colours, what they and black become in grey; libraries round differently."""
    found = {}
    for name, kind in KINDS.items():
        if kind.mask_colours:
            greys = np.vstack([kind.mask_colours(), [(0, 0, 0)]]) @ np.array([0.299, 0.587, 0.114])
            found[name] = frozenset(np.floor(greys).astype(int).tolist() + np.rint(greys).astype(int).tolist())
    return found


def _grey_colours(values: np.ndarray) -> str:
    """The kind whose mask colours in grey are all these values, if there are several; otherwise ""."""
    several = len(values) > _CHANCE
    return next((name for name, greys in _possible_greys().items() if several and set(values.tolist()) <= greys), "")
