"""Segmentation scores as MMSegmentation computes them: one confusion matrix over a whole set (METHOD.md section 6)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.words import some

_NAMED = 12  # classes that a line names


def confusion(label: jax.Array, prediction: jax.Array, num_classes: int) -> jax.Array:
    """Counts pixels by true and predicted class.

    Args:
      label: integer array of any shape, true class ids; pixels of a negative id are ignored.
      prediction: integer array of the same shape, predicted class ids.
      num_classes: C, static.

    Returns:
      int32 [C + 1, C + 1], rows truth, columns prediction; the last row and column hold ids that are no class (C or
      more, or a negative prediction). int32 holds one batch (2^31 pixels); sum batches on the host in int64.

    Raises:
      ValueError: the two shapes differ.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label has shape {label.shape}, prediction {prediction.shape}")
    truth, guess = label.reshape(-1).astype(jnp.int32), prediction.reshape(-1).astype(jnp.int32)
    side = num_classes + 1
    guess = jnp.where((guess >= 0) & (guess < num_classes), guess, num_classes)
    # One extra cell takes the ignored pixels: no one-hot [N, C] array, no index out of range.
    cell = jnp.where(truth >= 0, jnp.minimum(truth, num_classes) * side + guess, side**2)
    counts = jax.ops.segment_sum(jnp.ones_like(cell), cell, num_segments=side**2 + 1)
    return counts[:-1].reshape(side, side)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 * part / whole in float64, NaN where whole is 0."""
    return np.divide(100.0 * part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None where there are none."""
    return float(np.nanmean(values)) if np.any(~np.isnan(values)) else None


class Areas(NamedTuple):
    """Pixels of each class, int64 [C].

    Attributes:
      right: of this class in truth and prediction.
      truth: of this class in the truth.
      predicted: of this class in the prediction.
    """

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def areas(counts: np.ndarray) -> Areas:
    """Adds up the pixels of each class.

    As in MMSegmentation an id that is no class counts for none; the pixel's id in the other map counts for its own.

    Args:
      counts: integer [C + 1, C + 1], as `confusion` returns it.
    """
    counts = np.asarray(counts, dtype=np.int64)
    return Areas(np.diagonal(counts)[:-1], counts[:-1].sum(axis=1), counts[:, :-1].sum(axis=0))


def one_sided(counts: np.ndarray, classes: Sequence[str]) -> str:
    """What the predictions lack, in words.

    Args:
        counts: integer [C + 1, C + 1], as `confusion` returns it.
        classes: the C class names, in id order.

    Returns:
        "predicts one class only: NAME" where several classes are true, or else "never predicted: A, B" of the classes
        that are true; "" where each of them is predicted.
    """
    _, truth, predicted = areas(counts)
    there = np.flatnonzero(predicted)
    if len(there) == 1 and np.sum(truth > 0) > 1:
        return f"predicts one class only: {classes[there[0]]}"
    never = [name for name, true, found in zip(classes, truth, predicted, strict=True) if true and not found]
    return f"never predicted: {some(never, _NAMED)}" if never else ""


class Confusion(NamedTuple):
    """A pair of classes of which one is taken for the other.

    Attributes:
      truth: class id in the truth.
      predicted: class id in the prediction.
      pixels: so many.
      of_truth: share of the truth's pixels, 0..1.
      of_errors: share of all wrong pixels, 0..1.
    """

    truth: int
    predicted: int
    pixels: int
    of_truth: float
    of_errors: float

    def in_words(self, classes: Sequence[str]) -> str:
        """One sentence without its full stop.

        Args:
          classes: the C class names, in id order.
        """
        return (
            f"{100 * self.of_truth:.0f} % of the pixels of {classes[self.truth]} are called {classes[self.predicted]}, "
            f"which is {100 * self.of_errors:.0f} % of all errors"
        )


def largest_confusions(counts: np.ndarray, most: int) -> list[Confusion]:
    """Finds the pairs of classes that cost the most pixels.

    Args:
      counts: integer [C + 1, C + 1], as `confusion` returns it.
      most: pairs, at most.

    Returns:
      The pairs with at least one pixel, the largest first; of equal ones those of lower ids first.
    """
    inside = np.asarray(counts, np.int64)[:-1, :-1]
    wrong = inside * (1 - np.eye(len(inside), dtype=np.int64))
    errors, truth = areas(counts).truth.sum() - np.trace(inside), areas(counts).truth
    order = np.argsort(-wrong.ravel(), kind="stable")[:most]
    pairs = [(int(cell // len(inside)), int(cell % len(inside))) for cell in order if wrong.ravel()[cell]]
    return [
        Confusion(t, p, int(wrong[t, p]), float(wrong[t, p] / truth[t]), float(wrong[t, p] / errors)) for t, p in pairs
    ]


class PhotoScore(NamedTuple):
    """The scores of one photo.

    Attributes:
      photo: its index in the source.
      miou: percent, over the classes that its truth or its prediction has.
      right: percent of its labelled pixels.
    """

    photo: int
    miou: float
    right: float


def photo_score(photo: int, counts: np.ndarray) -> PhotoScore | None:
    """Scores one photo by its own confusion matrix.

    Args:
      photo: its index in the source.
      counts: integer [C + 1, C + 1], as `confusion` returns it.

    Returns:
      None where no pixel is labelled.
    """
    hits, truth, predicted = areas(counts)
    if not truth.sum():
        return None
    # A prediction on labelled pixels is always one of the classes.
    return PhotoScore(
        photo, float(np.nanmean(_percent(hits, truth + predicted - hits))), float(100 * hits.sum() / truth.sum())
    )


def scores(counts: np.ndarray, classes: Sequence[str]) -> dict:
    """Computes the scores of a confusion matrix (METHOD.md section 6).

    Args:
      counts: integer [C + 1, C + 1], as `confusion` returns it.
      classes: the C class names, in id order.

    Returns:
      {"mIoU", "mAcc", "aAcc", "mPrecision", "mDice", "per_class": {class: IoU}, "per_class_accuracy": {class: right
      pixels of those that are of the class}, "per_class_precision": {class: right pixels of those that are called the
      class}, "per_class_dice": {class: 2 x right / (of the class + called the class)}}, percentages (0..100) as Python
      floats. A class absent from truth and prediction has IoU None (null in JSON) and is left out of the means; one
      that is predicted but never true has IoU 0 and counts in mIoU, while mAcc is over the classes that occur in the
      truth. With no labelled pixel at all every score is None.

    Raises:
      ValueError: the matrix has another size.
    """
    if np.shape(counts) != (len(classes) + 1, len(classes) + 1):
        raise ValueError(f"confusion matrix of shape {np.shape(counts)} for {len(classes)} classes")
    hits, truth, predicted = areas(counts)
    of_class = {
        "per_class": _percent(hits, truth + predicted - hits),
        "per_class_accuracy": _percent(hits, truth),
        "per_class_precision": _percent(hits, predicted),
        "per_class_dice": _percent(2 * hits, truth + predicted),
    }
    return {
        "mIoU": _mean(of_class["per_class"]),
        "mAcc": _mean(of_class["per_class_accuracy"]),
        "aAcc": _mean(_percent(hits.sum(), truth.sum())),
        "mPrecision": _mean(of_class["per_class_precision"]),
        "mDice": _mean(of_class["per_class_dice"]),
    } | {
        what: {name: None if np.isnan(value) else float(value) for name, value in zip(classes, values, strict=True)}
        for what, values in of_class.items()
    }
