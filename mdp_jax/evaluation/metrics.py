"""Segmentation scores as MMSegmentation computes them: one confusion matrix over a whole set (METHOD.md section 6)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def confusion(label: jax.Array, prediction: jax.Array, num_classes: int) -> jax.Array:
    """Counts pixels by true and predicted class.

    Args:
        label: integer array of any shape, true class ids in 0..C-1; every negative id is ignored.
        prediction: integer array of the same shape, predicted class ids in 0..C-1.
        num_classes: C, static.

    Returns:
        int32 [C, C], rows truth, columns prediction. int32 holds one batch (2^31 pixels); sum batches on the host in
        int64. An id of C or more, or a negative prediction, is the caller's error: under jit it cannot raise, so its
        pixel is left out rather than counted for some other class.

    Raises:
        ValueError: the two shapes differ.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label has shape {label.shape}, prediction {prediction.shape}")
    truth, guess = label.reshape(-1).astype(jnp.int32), prediction.reshape(-1).astype(jnp.int32)
    valid = (truth >= 0) & (truth < num_classes) & (guess >= 0) & (guess < num_classes)
    # One extra cell takes the ignored pixels: no one-hot [N, C] array, no index out of range.
    cell = jnp.where(valid, truth * num_classes + guess, num_classes**2)
    counts = jax.ops.segment_sum(jnp.ones_like(cell), cell, num_segments=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 * part / whole in float64, NaN where whole is 0."""
    return np.divide(100.0 * part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float | None:
    """The mean of the values that are not NaN; None where there are none."""
    return float(np.nanmean(values)) if np.any(~np.isnan(values)) else None


def scores(counts: np.ndarray, classes: Sequence[str]) -> dict:
    """Scores of a confusion matrix (METHOD.md section 6).

    Args:
        counts: integer [C, C], rows truth, columns prediction.
        classes: the C class names, in id order.

    Returns:
        {"mIoU", "mAcc", "aAcc", "per_class": {class: IoU}}, percentages (0..100) as Python floats. A class absent from
        truth and prediction has IoU None (null in JSON) and is left out of both means; one that is predicted but never
        true has IoU 0 and counts in mIoU, while mAcc is over the classes that occur in the truth. With no labelled
        pixel at all every score is None.

    Raises:
        ValueError: the matrix is not C by C.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"confusion matrix of shape {counts.shape} for {len(classes)} classes")
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    iou = _percent(hits, truth + predicted - hits)
    return {
        "mIoU": _mean(iou),
        "mAcc": _mean(_percent(hits, truth)),
        "aAcc": _mean(_percent(hits.sum(), truth.sum())),
        "per_class": {
            name: None if np.isnan(value) else float(value) for name, value in zip(classes, iou, strict=True)
        },
    }
