"""Opening every photo and mask of a source once: what is in them, and what is wrong with them."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mdp_jax.data import images
from mdp_jax.errors import UserError

_BLOCK = 16  # photos that a thread looks at between two reports


@dataclass
class Found:
    """What was found in the photos of one split.

    Attributes:
      pixels: int64 [C + 1], ignored ones first, then those of class 0 and on.
      photos: int64 [C + 1], how many photos hold such a pixel.
      sizes: (height, width) of every photo that could be read, in their order.
      unlabelled: how many of them have no pixel of any class.
      digests: (index, digest of the photo's pixels) of every photo that could be read.
      turned: how many of them were turned or mirrored as their EXIF orientation says; no mask is.
      problems: (index, the UserError's line) of every photo that could not be read.
    """

    pixels: np.ndarray
    photos: np.ndarray
    sizes: list[tuple[int, int]] = field(default_factory=list)
    unlabelled: int = 0
    turned: int = 0
    digests: list[tuple[int, bytes]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)

    @property
    def classes_seen(self) -> np.ndarray:
        """bool [C]."""
        return self.photos[1:] > 0

    def add(self, other: "Found") -> None:
        """Takes in what was found in photos that come after these."""
        self.pixels += other.pixels
        self.photos += other.photos
        self.unlabelled += other.unlabelled
        self.turned += other.turned
        self.sizes += other.sizes
        self.digests += other.digests
        self.problems += other.problems


def nothing(num_classes: int) -> Found:
    """A Found of no photos."""
    return Found(np.zeros(num_classes + 1, np.int64), np.zeros(num_classes + 1, np.int64))


def scan(source, workers: int, report: Callable[[int], None]) -> Found:
    """Opens each sample of a source once, in threads: they wait for files and for OpenCV, and rarely for each other.

    Args:
      source: as mdp_jax/data/sources.py has it; a UserError of source[i] is a problem of photo i and stops nothing.
      workers: threads.
      report: called with the number of photos done since the last call.
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


def look(source, indices: range) -> Found:
    """What is in some samples of a source."""
    found = nothing(len(source.classes))
    for index in indices:
        try:
            sample = source[index]
        except UserError as error:
            found.problems.append((index, str(error)))
            continue
        # As int64, since bincount would convert int16 while it keeps all other threads waiting.
        counts = np.bincount(sample["label"].ravel().astype(np.int64) + 1, minlength=len(found.pixels))
        found.pixels += counts
        found.photos += counts > 0
        found.unlabelled += not counts[1:].any()
        found.turned += any(images.orientation(path) != 1 for path in source.files(index)[:1])
        found.sizes.append(sample["label"].shape)
        found.digests.append((index, digest(sample["image"])))
    return found


def digest(image: np.ndarray) -> bytes:
    """Bytes that two photos share if and only if their sizes and pixels are the same, however their files hold them."""
    height, width, _ = image.shape
    return hashlib.sha1(np.ascontiguousarray(image), usedforsecurity=False).digest() + f"{height}x{width}".encode()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
