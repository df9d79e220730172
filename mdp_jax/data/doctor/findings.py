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
from mdp_jax.data.doctor.scan import Found
from mdp_jax.data.kinds.classes import released
from mdp_jax.errors import UserError

_LOOKED_INTO = 8  # masks of each kind of problem whose values are gathered
_PALETTES = ("voc", "cityscapes")  # those of few colours: those of many have nearly every grey
_BORDER = (224, 224, 192)  # of objects in VOC's masks, where they are colours
_CHANCE = 3  # values that may be greys of a palette by chance
# Files of photos that no layout reads.
_NOT_READ = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".tif", ".tiff", ".webp")
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
    source: object | None = None
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


def problems_by_kind(part: Part) -> list[list[tuple[int, str]]]:
    """The problems of a part's photos, those together that differ in file and numbers alone."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for index, line in part.found.problems:
        words = line
        for path in part.source.files(index):
            words = words.replace(str(path), "")
        kinds.setdefault(re.sub(r"\d+", "", words), []).append((index, line))
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
            reasons.append(f"{of}; the first: {problems[0][1]}")
        if part.source.classes and not part.found.pixels[1:].any() and part.found.sizes:
            reasons.append(f"{part}: no pixel of any class in {len(part.found.sizes)} masks; expected labelled pixels")
    return reasons


def remarks(part: Part) -> list[str]:
    """What training would not fail on, but is likely to be wrong with a part that was looked at."""
    found, lines = part.found, []
    never = [name for name, seen in zip(part.source.classes, found.classes_seen, strict=True) if not seen]
    if never and len(never) < len(part.source.classes):
        more = f" and {len(never) - 10} more" if len(never) > 10 else ""
        lines.append(f"{part}: never seen: {', '.join(never[:10])}{more}")
    if 0 < found.unlabelled < len(found.sizes):
        lines.append(f"{part}: {found.unlabelled} of {len(found.sizes)} masks have no pixel of any class")
    if found.turned and part.source.classes:
        lines.append(
            f"{part}: {found.turned} of {len(found.sizes)} photos are turned or mirrored, as their EXIF orientation "
            "says, and masks are not; were they drawn on the photos as people see them?"
        )
    values = np.flatnonzero(found.classes_seen)
    if values.tolist() == [0] and found.photos[0] and len(part.source.classes) > 1:
        lines.append(f"{part}: the masks hold nothing but class 0 and ignored pixels; is 255 meant to be a class?")
    palette = _grey_colours(values)
    if palette and part.plain_ids:
        lines.append(f"{part}: {_GREYS.format(palette)}")
    return lines + [f"{part}: {line}" for line in _passed_over(part)]


def _passed_over(part: Part) -> list[str]:
    """The folders of a part's photos that hold photos of other formats."""
    lines = []
    for folder in sorted({path.parent for i in range(len(part.source)) for path in part.source.files(i)[:1]}):
        others = sorted(path for path in folder.iterdir() if path.suffix.lower() in _NOT_READ)
        if others:
            lines.append(f"{len(others)} files are passed over, {others[0]} for one; photos are read as JPEG or PNG")
    return lines


def look_into(part: Part, problems: Sequence[tuple[int, str]]) -> str:
    """What masks with one kind of problem have in common, from the values in some of them; may be ""."""
    if not part.plain_ids:
        return ""
    values: set[int] = set()
    for index, _ in problems[:_LOOKED_INTO]:
        for path in part.source.files(index)[1:]:
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
def _possible_greys(palette: str) -> frozenset[int]:
    """What the colours of a published palette, black and VOC's border become in grey; libraries round differently."""
    colours = np.vstack([released(palette).palette, [_BORDER, (0, 0, 0)]])
    greys = colours @ np.array([0.299, 0.587, 0.114])
    return frozenset(np.floor(greys).astype(int).tolist() + np.rint(greys).astype(int).tolist())


def _grey_colours(values: np.ndarray) -> str:
    """The published palette whose colours in grey are all these values, if there are several; otherwise ""."""
    several = len(values) > _CHANCE
    return next((name for name in _PALETTES if several and set(values.tolist()) <= _possible_greys(name)), "")
