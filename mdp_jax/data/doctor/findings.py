"""Draws conclusions from what was found in the photos of datasets: problems by kind, doubles, what looks wrong."""

import collections
import contextlib
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.doctor.scan import Found, Problem
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError
from mdp_jax.words import counted, some

_LOOKED_INTO = 8  # masks of each kind of problem whose values are gathered
_REASONS = 3  # for which files are passed over that a line gives
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
      source: what sources.open_source gives; None where it could not be opened.
      refused: the reason why it could not be opened; "" where it could.
      skipped: number of photos that training skips at most.
      found: what is in its photos; None until they were read.
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

    @property
    def opened(self) -> Source:
        """The source of a part that could be opened."""
        if self.source is None:
            raise ValueError(f"{self} is not open: {self.refused}")
        return self.source

    @property
    def contents(self) -> Found:
        """What is in the photos of a part that were read."""
        if self.found is None:
            raise ValueError(f"{self}: its photos were not read yet")
        return self.found


@dataclass(frozen=True)
class Doubles:
    """Photos whose pixels are the same in two parts, or twice in one.

    Attributes:
      first: index of one part in the list of parts.
      second: index of the other part.
      photos: names of one photo and its double.
    """

    first: int
    second: int
    photos: list[tuple[str, str]]


def problems_by_kind(part: Part) -> list[list[Problem]]:
    """Groups the problems of a part's photos.

    Args:
      part: whose photos were read.

    Returns:
      Lists of problems that differ only in file and numbers.
    """
    kinds: dict[str, list[Problem]] = {}
    for problem in part.contents.problems:
        words = problem.line
        for path in part.opened.files(problem.photo):
            words = words.replace(str(path), "")
        kinds.setdefault(re.sub(r"\d+", "", words), []).append(problem)
    return list(kinds.values())


def doubles(parts: Sequence[Part]) -> list[Doubles]:
    """Finds photos with the same pixels, in every pair of parts and in each part.

    Args:
      parts: all of them; parts whose photos were not read have no doubles.

    Returns:
      The doubles, in the order of the parts.
    """
    photos: dict[bytes, list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        for index, digest in part.found.digests if part.found else ():
            photos.setdefault(digest, []).append((number, index))
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for same in photos.values():
        first_of: dict[int, str] = {}
        for number, index in same:
            name = parts[number].opened.describe(index)
            if number in first_of:
                found.setdefault((number, number), []).append((first_of[number], name))
            first_of.setdefault(number, name)
        for one, other in itertools.combinations(first_of, 2):
            found.setdefault((one, other), []).append((first_of[one], first_of[other]))
    return [Doubles(*pair, found[pair]) for pair in sorted(found)]


def failures(parts: Sequence[Part]) -> list[str]:
    """The reasons why a training on the needed parts would end with an error, or learn nothing.

    Args:
      parts: all of them; the photos of those that could be opened were read.

    Returns:
      Lines; empty where there is no reason.
    """
    reasons = []
    for part in parts:
        if not part.needed:
            continue
        if part.refused:
            reasons.append(part.refused)
            continue
        problems = part.contents.problems
        if len(problems) > part.skipped:
            of = f"{len(problems)} of {len(part.opened)} photos of {part} cannot be used"
            of += f", {part.skipped} at most are skipped" if part.skipped else ""
            reasons.append(f"{of}; the first: {problems[0].line}")
        failure = unlearnable(str(part), part.opened.classes, part.contents)
        reasons += [failure] if failure else []
    return reasons


def unlearnable(where: str, classes: Sequence[str], found: Found) -> str:
    """The reason why nothing can be learnt from photos that were read.

    Args:
      where: their name in the line.
      classes: of the dataset; none where it has no labels.
      found: what is in them.

    Returns:
      A line; "" where there is no reason.
    """
    if not classes or not found.sizes or found.pixels[1:].any():
        return ""
    return f"{where}: no pixel of any class in {counted(len(found.sizes), 'mask')}; expected labelled pixels"


def remarks(where: str, source: Source, found: Found, plain_ids: bool) -> list[str]:
    """Says what is likely to be wrong with photos, although training would not fail on it.

    Args:
      where: their name in the lines.
      source: of the photos.
      found: what is in all of them, or in some.
      plain_ids: whether the masks hold the class ids themselves.

    Returns:
      Lines.
    """
    classes, photos = source.classes, len(found.sizes)
    lines: list[str] = []
    seen = np.flatnonzero(found.classes_seen)
    never = [name for name, there in zip(classes, found.classes_seen, strict=True) if not there]
    if never and len(seen):
        looked_at = "" if photos >= len(source) else f" in {photos} of {len(source)} photos"
        lines.append(f"{where}: never seen{looked_at}: {some(never, 10)}")
    if 0 < found.unlabelled < photos:
        lines.append(f"{where}: masks without a pixel of any class: {found.unlabelled} of {photos}")
    if found.turned and classes:
        lines.append(
            f"{where}: photos with an EXIF orientation, which turns them and not their masks: "
            f"{found.turned} of {photos}; were the masks drawn on the photos as people see them?"
        )
    if seen.tolist() == [0] and found.photos[0] and len(classes) > 1:
        lines.append(f"{where}: the masks hold nothing but class 0 and ignored pixels; is 255 meant to be a class?")
    elif len(seen) == 1 and photos > 1:
        lines.append(f"{where}: all labelled pixels of {photos} masks are of one class, {classes[seen[0]]}")
    palette = _grey_colours(seen)
    if palette and plain_ids:
        lines.append(f"{where}: {_GREYS.format(palette)}")
    pair = _differing(found.palettes)
    if pair:
        one, other = (source.describe(photo) for photo in pair)
        lines.append(
            f"{where}: the palettes of masks have other colours for the same values, as those of {one} and {other}; "
            "the values are the ids: did a program number the colours anew in each file?"
        )
    if found.depths:
        bits = " and ".join(str(depth) for depth in sorted(found.depths))
        several = "; expected one depth for all: convert them to 8 bits" if len(found.depths) > 1 else ""
        lines.append(f"{where}: photos of 16 bits, scaled to 8 from {bits} bits: {found.depths.total()}{several}")
    if found.damaged:
        first = found.damaged[0]
        named = f"{source.describe(first.photo)}: {first.line}"
        lines.append(
            f"{where}: damaged JPEGs, with pixels that are made up: {len(found.damaged)} of {photos} ({named})"
        )
    return lines + beside(where, source)


def _differing(palettes: Mapping[bytes, int]) -> tuple[int, int] | None:
    """The photos of two palettes whose colours differ, as far as both have some; programs leave out the last ones."""
    if not palettes:
        return None
    longest = max(palettes, key=len)
    others = [palette for palette in palettes if not longest.startswith(palette)]
    return (palettes[longest], palettes[others[0]]) if others else None


def beside(where: str, source: Source) -> list[str]:
    """Names image files beside those of the samples.

    Args:
      where: name of the source in the line.
      source: the opened source; no photo is read.

    Returns:
      A line, or none.
    """
    if not source.passed_over:
        return []
    reasons = [f"{count} {why}" for why, count in collections.Counter(source.passed_over.values()).most_common()]
    more = f" and {counted(len(reasons) - _REASONS, 'more reason')}" if len(reasons) > _REASONS else ""
    named = f"passed over: {counted(len(source.passed_over), 'file')} ({some(source.passed_over, 1)})"
    return [f"{where}: {named}: {'; '.join(reasons[:_REASONS])}{more}"]


def look_into(part: Part, problems: Sequence[Problem]) -> str:
    """Explains one kind of problem by the values in some of the masks.

    Args:
      part: of the masks.
      problems: of one kind.

    Returns:
      An explanation; "" where there is none.
    """
    if not part.plain_ids:
        return ""
    values: set[int] = set()
    for problem in problems[:_LOOKED_INTO]:
        for path in part.opened.files(problem.photo)[1:]:
            with contextlib.suppress(UserError):
                values |= set(np.unique(images.read_mask(path)).tolist())
    classes = getattr(part.opened, "own_classes", part.opened.classes)  # the masks have those of dropped classes too
    return explain(np.array(sorted(values - {255}), np.int64), len(classes))


def explain(values: np.ndarray, num_classes: int) -> str:
    """Explains how masks may have got wrong values.

    Args:
      values: in the masks, int64, sorted, without 255.
      num_classes: the expected values are from 0 to below this.

    Returns:
      An explanation; "" where there is none.
    """
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
