"""Opens every photo and mask of a source once, and finds what is in them and what is wrong with them."""

import collections
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.batches.bad_images import is_replaced
from mdp_jax.data.doctor.oddness import Measures, measure
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError

EXAMPLES = 2  # photos of each class that are remembered
_BLOCK = 16  # photos that a thread looks at between two reports


class Problem(NamedTuple):
    """A photo that has a problem.

    Attributes:
      photo: its index.
      line: what is wrong with it.
    """

    photo: int
    line: str


class Digest(NamedTuple):
    """A digest of a photo's pixels.

    Attributes:
      photo: its index.
      digest: of its pixels.
    """

    photo: int
    digest: bytes


class Sides(NamedTuple):
    """Least, median and greatest length of one side of the photos, in pixels; None where there is no photo."""

    min: int | None
    median: int | None
    max: int | None


@dataclass
class Found:
    """What was found in the photos of one split.

    Attributes:
      pixels: int64 [C + 1], ignored ones first, then those of class 0 and on.
      photos: int64 [C + 1], how many photos hold such a pixel.
      sizes: (height, width) of every photo that could be read, in their order.
      together: int64 [C, C], how many photos hold both classes.
      best: class id -> (share of the photo's pixels, photo), of the photos that it fills most of, the largest first.
      measures: of the masks of the photos that could be read, in their order.
      areas: class id -> (pixels of the class, short side of the photo), of each photo that holds it, in their order.
      unlabelled: how many of them have no pixel of any class.
      turned: how many of them were turned or mirrored by their EXIF orientation; no mask is.
      depths: bits of a channel -> number of photos; only photos of more than 8 bits.
      damaged: photos that libjpeg warns of, with its words.
      palettes: colours of the palette PNGs among the masks -> the first photo with them.
      digests: of the photos whose pixels were compared.
      problems: the photos that could not be read, with the UserError's line.
    """

    pixels: np.ndarray
    photos: np.ndarray
    together: np.ndarray
    best: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: collections.defaultdict(list))
    measures: list[Measures] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    areas: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: collections.defaultdict(list))
    unlabelled: int = 0
    turned: int = 0
    depths: collections.Counter[int] = field(default_factory=collections.Counter)
    damaged: list[Problem] = field(default_factory=list)
    palettes: dict[bytes, int] = field(default_factory=dict)
    digests: list[Digest] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def classes_seen(self) -> np.ndarray:
        """Which classes have pixels, bool [C]."""
        return self.photos[1:] > 0

    def areas_of(self, classes: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
        """`areas` by the names of the classes.

        Args:
          classes: in the order of their ids.
        """
        return {classes[index]: areas for index, areas in sorted(self.areas.items())}

    def percent(self, index: int) -> float | None:
        """The share of a class in the labelled pixels, in %; None where no pixel is labelled.

        Args:
          index: id of the class.
        """
        return _percent(self.pixels[index + 1], self.pixels[1:].sum())

    @property
    def percent_ignored(self) -> float | None:
        """The share of ignored pixels in all pixels, in %; None where there is no pixel."""
        return _percent(self.pixels[0], self.pixels.sum())

    def sides(self, axis: int) -> Sides:
        """The heights or widths of the photos; the median is the side of a photo.

        Args:
          axis: 0 for heights, 1 for widths.
        """
        sides = sorted(size[axis] for size in self.sizes)
        return Sides(sides[0], sides[(len(sides) - 1) // 2], sides[-1]) if sides else Sides(None, None, None)

    def add(self, other: "Found") -> None:
        """Adds what was found in photos that come after these.

        Args:
          other: of the same classes.
        """
        self.pixels += other.pixels
        self.photos += other.photos
        self.together += other.together
        for index, shares in other.best.items():
            self.best[index] = _best([*self.best[index], *shares])
        self.measures += other.measures
        for index, areas in other.areas.items():
            self.areas[index] += areas
        self.unlabelled += other.unlabelled
        self.turned += other.turned
        self.sizes += other.sizes
        self.depths += other.depths
        self.damaged += other.damaged
        for palette, photo in other.palettes.items():
            self.palettes.setdefault(palette, photo)
        self.digests += other.digests
        self.problems += other.problems


def _percent(part: int, whole: int) -> float | None:
    return 100 * int(part) / int(whole) if whole else None


def nothing(num_classes: int) -> Found:
    """What is found in no photos.

    Args:
      num_classes: C.
    """
    pixels, photos = (np.zeros(num_classes + 1, np.int64) for _ in range(2))
    return Found(pixels, photos, np.zeros((num_classes, num_classes), np.int64))


def _best(shares: list[tuple[float, int]]) -> list[tuple[float, int]]:
    return sorted(shares, key=lambda share: (-share[0], share[1]))[:EXAMPLES]


def scan(source: Source, workers: int, report: Callable[[int], None]) -> Found:
    """Opens each sample of a source once, in threads: they wait for files and for OpenCV, and rarely for each other.

    Args:
      source: where source[i] raises UserError, photo i has a problem, and the scan goes on.
      workers: threads.
      report: called with the number of photos done since the last call.

    Returns:
      What was found.
    """
    found = nothing(len(source.classes))
    starts = range(0, len(source), _BLOCK)
    pool = ThreadPoolExecutor(workers)
    try:
        blocks = pool.map(lambda start: look(source, range(start, min(start + _BLOCK, len(source)))), starts)
        for start, block in zip(starts, blocks, strict=True):
            found.add(block)
            report(min(_BLOCK, len(source) - start))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, what is left of a large set would still be read
    return found


def look(source: Source, indices: Iterable[int], compare: bool = True) -> Found:
    """Opens some samples of a source.

    Args:
      source: as for `scan`.
      indices: of the samples.
      compare: whether digests of the photos' pixels are computed.

    Returns:
      What was found.
    """
    found = nothing(len(source.classes))
    for index in indices:
        try:
            sample = source[index]
            files = () if is_replaced(source, index) else source.files(index)
            facts = [images.facts(path) for path in files[:1]] or _facts_of_record(source, index)
            palettes = [images.palette_of(path) for path in files[1:]]
        except UserError as error:
            found.problems.append(Problem(index, str(error)))
            continue
        # As int64, since bincount would convert int16 while it keeps all other threads waiting.
        counts = np.bincount(sample["label"].ravel().astype(np.int64) + 1, minlength=len(found.pixels))
        found.pixels += counts
        found.photos += counts > 0
        present = counts[1:] > 0
        found.together += np.outer(present, present)
        found.measures.append(measure(index, sample["label"], counts))
        short_side = min(sample["label"].shape)
        for class_id in np.flatnonzero(counts[1:]).tolist():
            found.areas[class_id].append((int(counts[class_id + 1]), short_side))
            share = float(counts[class_id + 1]) / sample["label"].size
            found.best[class_id] = _best([*found.best[class_id], (share, index)])
        found.unlabelled += not counts[1:].any()
        for fact in facts:
            found.turned += fact.orientation != 1
            found.depths.update([fact.depth] if fact.deep else [])
            found.damaged += [Problem(index, fact.damage)] if fact.damage else []
        for palette in filter(None, palettes):
            found.palettes.setdefault(palette, index)
        height, width = sample["label"].shape
        found.sizes.append((height, width))
        if compare:
            found.digests.append(Digest(index, digest(sample["image"])))
    return found


def _facts_of_record(source: Source, index: int) -> list[images.Facts]:
    """The facts of a photo without a file of its own, where its source has them; none of a bad one that is replaced."""
    found = getattr(source, "facts", None) if not is_replaced(source, index) else None
    return [facts] if found and (facts := found(index)) else []


def digest(image: np.ndarray) -> bytes:
    """Computes a digest of a photo's pixels.

    Args:
      image: uint8 [H, W, 3].

    Returns:
      Bytes that two photos share if and only if their sizes and pixels are the same, whatever their files are.
    """
    height, width, _ = image.shape
    pixels = np.ascontiguousarray(image).data
    return hashlib.sha1(pixels, usedforsecurity=False).digest() + f"{height}x{width}".encode()


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
