"""Classifiers in closed form: statistics of features by class, and what is linear in features (METHOD.md section 8).

Everything is float64 and on the host. No pixel is kept: D x D numbers and C x D numbers, whatever the number of photos.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError

_TOGETHER = 8192  # features that are counted at one time, which bounds the memory
NEVER = -1e9  # logit of a class without a pixel: below all others, and finite


class Linear(NamedTuple):
    """A classifier: logits = features @ kernel + bias.

    Attributes:
      kernel: float64 [D, C].
      bias: float64 [C].
    """

    kernel: np.ndarray
    bias: np.ndarray


@dataclasses.dataclass
class Statistics:
    """Sums over labelled features; those of several photos add up in any order, to float64 rounding.

    Attributes:
      weight: [C], of each class; a feature whose pixels are all of one class weighs 1.
      photos: int64 [C], in which each class was seen.
      first: [C, D], sum of weight x feature of each class.
      second: [D, D], sum of weight x feature x feature^T over all classes.
      directions: [C, D], sum over photos of the unit mean of each class (METHOD.md section 3, step 1).
    """

    weight: np.ndarray
    photos: np.ndarray
    first: np.ndarray
    second: np.ndarray
    directions: np.ndarray

    @classmethod
    def empty(cls, classes: int, dim: int) -> "Statistics":
        """Of no photo."""
        return cls(
            np.zeros(classes),
            np.zeros(classes, np.int64),
            np.zeros((classes, dim)),
            np.zeros((dim, dim)),
            np.zeros((classes, dim)),
        )

    def add(self, features: np.ndarray, weights: np.ndarray) -> None:
        """Adds a photo.

        Args:
          features: float [N, D].
          weights: float [N, C], the share of the pixels of each feature that each class has; rows sum to at most 1.
        """
        seen, means = np.zeros_like(self.weight), np.zeros_like(self.first)
        for start in range(0, len(features), _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            some, shares = np.asarray(features[rows], np.float64), np.asarray(weights[rows], np.float64)
            self.first += shares.T @ some
            self.second += some.T @ (some * shares.sum(axis=1, keepdims=True))
            # The mean of unit vectors, as the prototypes are made.
            means += shares.T @ (some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12))
            seen += shares.sum(axis=0)
        self.weight += seen
        self.photos += seen > 0
        self.directions += means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)

    def means(self) -> np.ndarray:
        """[C, D]; 0 for a class without a pixel."""
        return self.first / np.maximum(self.weight, 1e-300)[:, None]

    def within(self) -> np.ndarray:
        """[D, D], the covariance around the class means, of all classes together."""
        means = self.means()
        scatter = self.second - (means * self.weight[:, None]).T @ means
        return (scatter + scatter.T) / (2 * max(self.weight.sum(), 1e-300))


def linear_discriminant(statistics: Statistics, shrinkage: float = 0.01, frequencies: bool = True) -> Linear:
    """The linear discriminant of classes that share one covariance.

    logit_c = mean_c^T S^-1 x - mean_c^T S^-1 mean_c / 2 (+ log frequency_c), S the covariance within the classes plus
    `shrinkage` times its mean eigenvalue.

    Args:
      statistics: of the photos.
      shrinkage: above 0.
      frequencies: whether a class that is more frequent is more likely, as it is in the photos.

    Raises:
      UserError: the classifier has values that are not finite.
    """
    means, covariance = statistics.means(), statistics.within()
    mean_eigenvalue = max(np.trace(covariance) / len(covariance), 1e-12)
    regular = covariance + shrinkage * mean_eigenvalue * np.eye(len(covariance))
    kernel = _solved(regular, means.T)
    bias = -np.einsum("cd,dc->c", means, kernel) / 2
    if frequencies:
        bias += np.log(np.maximum(statistics.weight, 1e-300) / max(statistics.weight.sum(), 1e-300))
    return _without_unseen(Linear(kernel, bias), statistics)


def nearest_prototypes(statistics: Statistics, temperature: float) -> Linear:
    """The classifier by the largest cosine with prototypes, the two-step averages (METHOD.md section 3).

    The logits are v . P_c / temperature times the length of the features, so that their order is that of the cosines.

    Args:
      statistics: of the photos.
      temperature: tau.

    Raises:
      UserError: as for `linear_discriminant`.
    """
    vectors = statistics.directions
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return _without_unseen(Linear(vectors.T / temperature, np.zeros(len(vectors))), statistics)


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right; NaN where there is no solution."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def _without_unseen(head: Linear, statistics: Statistics) -> Linear:
    unseen = statistics.weight == 0
    found = Linear(np.where(unseen, 0.0, head.kernel), np.where(unseen, NEVER, head.bias))
    with np.errstate(over="ignore"):  # float32 is what the classifier of a network has
        finite = all(np.isfinite(part.astype(np.float32)).all() for part in found)
    if not finite:
        raise UserError(
            "the classifier has values that are not finite; expected a network whose features are finite, and a "
            "--shrinkage of about 0.0001 to 1"
        )
    return found


def shares_of_cells(label: np.ndarray, cells: tuple[int, int], classes: int) -> np.ndarray:
    """The share of each cell's pixels that each class has.

    Args:
      label: int [H, W], class ids, negative = ignored.
      cells: h and w: the photo is cut into h x w cells, those that evaluation's interpolation takes features for.
      classes: C.

    Returns:
      float32 [h * w, C]; a row sums to the share of the cell's pixels that are labelled.
    """
    (height, width), (h, w) = label.shape, cells
    rows = np.minimum(np.arange(height) * h // height, h - 1)
    columns = np.minimum(np.arange(width) * w // width, w - 1)
    cell = rows[:, None] * w + columns
    pixels = np.bincount(cell.ravel(), minlength=h * w)
    known = label >= 0
    counts = np.bincount(cell[known] * classes + label[known], minlength=h * w * classes)
    return (counts.reshape(h * w, classes) / np.maximum(pixels, 1)[:, None]).astype(np.float32)
