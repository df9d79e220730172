"""How masks differ from the other masks of their set, and which are the oddest."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_ODD = 3.0  # robust standard deviations above the median from which a mask is odd
_MAD = 1.4826  # median absolute deviation of a normal distribution, times this, is its standard deviation


class Measures(NamedTuple):
    """A mask in numbers.

    Attributes:
      photo: index of the photo.
      ignored: share of the pixels that are ignored, 0..1.
      edges: share of the pairs of neighbouring pixels whose labels differ, 0..1.
      largest: share of the largest class in the labelled pixels, 0..1; 0 where none is labelled.
      classes: number of classes.
    """

    photo: int
    ignored: float
    edges: float
    largest: float
    classes: int


class Odd(NamedTuple):
    """A photo whose mask is unlike the others.

    Attributes:
      photo: its index.
      why: in words.
    """

    photo: int
    why: str


def measure(photo: int, label: np.ndarray, counts: np.ndarray) -> Measures:
    """Measures a mask.

    Args:
      photo: its index.
      label: int16 [H, W], -1 ignored.
      counts: int64 [C + 1], its pixels: ignored ones first.
    """
    edges = np.count_nonzero(label[1:] != label[:-1]) + np.count_nonzero(label[:, 1:] != label[:, :-1])
    pairs = max(1, 2 * label.size - label.shape[0] - label.shape[1])
    labelled = int(counts[1:].sum())
    largest = float(counts[1:].max(initial=0)) / labelled if labelled else 0.0
    return Measures(photo, float(counts[0]) / label.size, edges / pairs, largest, int(np.count_nonzero(counts[1:])))


# Of each measure: its name, the least deviation that counts as one, and what a large value means.
_WORDS: tuple[tuple[str, float, Callable[[float, float], str]], ...] = (
    ("ignored", 0.02, lambda value, usual: f"{value:.0%} of the pixels are ignored ({usual:.0%} in most masks)"),
    ("edges", 0.004, lambda value, usual: f"{value / max(usual, 1e-4):.1f} times as many edges as most masks have"),
    ("largest", 0.05, lambda value, usual: f"one class has {value:.0%} of the labelled pixels ({usual:.0%} in most)"),
    ("classes", 1.0, lambda value, usual: f"{value:.0f} classes in it ({usual:.0f} in most masks)"),
)


def oddest(measures: Sequence[Measures], count: int) -> list[Odd]:
    """The masks that are farthest above the median of their set in some measure.

    Args:
      measures: of the masks of a set.
      count: of masks, at most.

    Returns:
      The oddest first; none where no mask is unlike the others.
    """
    if not measures:
        return []
    found: dict[int, tuple[float, str]] = {}
    for name, least, words in _WORDS:
        values = np.array([getattr(one, name) for one in measures], np.float64)
        usual = float(np.median(values))
        spread = max(_MAD * float(np.median(np.abs(values - usual))), least)
        for one, value in zip(measures, values.tolist(), strict=True):
            odd = (value - usual) / spread
            if odd > _ODD and odd > found.get(one.photo, (0.0, ""))[0]:
                found[one.photo] = (odd, words(value, usual))
    order = sorted(found, key=lambda photo: (-found[photo][0], photo))
    return [Odd(photo, found[photo][1]) for photo in order[:count]]
