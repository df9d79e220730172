"""Classifiers in closed form: statistics of features by class, and what is linear in features (METHOD.md section 8).

Everything is float64 and on the host. No pixel is kept: D x D and C x D numbers, whatever the number of photos, and the
sums of each class in each of the first photos.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError

_TOGETHER = 8192  # features that are counted at one time, which bounds the memory
_LEFT_OUT = 512  # photos of the lowest numbers that are left out in turn, which bounds memory and time
NEVER = -1e9  # logit of a class without a pixel: below all others, and finite
SHRINKAGES = tuple(10 ** (exponent / 2) for exponent in range(-8, 1))  # 0.0001 to 1, which are tried
FIXED = 0.01  # the shrinkage where there is nothing to choose it by


class Linear(NamedTuple):
    """A classifier: logits = features @ kernel + bias.

    Attributes:
      kernel: float64 [D, C].
      bias: float64 [C].
    """

    kernel: np.ndarray
    bias: np.ndarray


class OfPhoto(NamedTuple):
    """The sums of one photo.

    Attributes:
      classes: int [K], those with a labelled pixel in it.
      weight: float64 [K].
      first: float64 [K, D].
    """

    classes: np.ndarray
    weight: np.ndarray
    first: np.ndarray


@dataclasses.dataclass
class Statistics:
    """Sums over labelled features; those of several photos add up in any order, to float64 rounding.

    Attributes:
      weight: [C], of each class; a feature whose pixels are all of one class weighs 1.
      photos: int64 [C], in which each class was seen.
      first: [C, D], sum of weight x feature of each class.
      second: [D, D], sum of weight x feature x feature^T over all classes.
      directions: [C, D], sum over photos of the unit mean of each class (METHOD.md section 3, step 1).
      channels: of each layer, side by side they are the D.
      of_photos: number of a photo -> its sums, of the photos that can be left out.
    """

    weight: np.ndarray
    photos: np.ndarray
    first: np.ndarray
    second: np.ndarray
    directions: np.ndarray
    channels: tuple[int, ...]
    of_photos: dict[int, OfPhoto] = dataclasses.field(default_factory=dict)

    @classmethod
    def empty(cls, classes: int, *channels: int) -> "Statistics":
        """Of no photo.

        Args:
          classes: C.
          *channels: of each layer.
        """
        dim = sum(channels)
        return cls(
            np.zeros(classes),
            np.zeros(classes, np.int64),
            np.zeros((classes, dim)),
            np.zeros((dim, dim)),
            np.zeros((classes, dim)),
            channels,
        )

    def add(self, features: np.ndarray, weights: np.ndarray, number: int) -> None:
        """Adds a photo.

        Args:
          features: float [N, D].
          weights: float [N, C], the share of the pixels of each feature that each class has; rows sum to at most 1.
          number: of the photo. The result depends on which photo has which number, and on no order.
        """
        slices = (slice(start, start + _TOGETHER) for start in range(0, len(features), _TOGETHER))
        self.add_parts(((features[rows], weights[rows]) for rows in slices), number)

    def add_photo(self, features: np.ndarray, label: np.ndarray, number: int) -> None:
        """Adds a photo by its label map, a band of rows at a time.

        Args:
          features: float [h, w, D].
          label: int [H, W], class ids, negative = ignored; see `shares_of_cells`.
          number: see `add`.
        """
        self.add_parts(bands(features, label, len(self.weight)), number)

    def add_parts(self, parts: Iterable[tuple[np.ndarray, np.ndarray]], number: int) -> None:
        """Adds a photo whose features come in parts.

        Args:
          parts: float [n, D] and float [n, C], as for `add`.
          number: see `add`.
        """
        seen, means, first = np.zeros_like(self.weight), np.zeros_like(self.first), np.zeros_like(self.first)
        for features, weights in parts:
            some, shares = np.asarray(features, np.float64), np.asarray(weights, np.float64)
            first += shares.T @ some
            self.second += some.T @ (some * shares.sum(axis=1, keepdims=True))
            # The mean of unit vectors, as the prototypes are made.
            means += shares.T @ (some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12))
            seen += shares.sum(axis=0)
        self.first += first
        self.weight += seen
        self.photos += seen > 0
        self.directions += means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        there = np.flatnonzero(seen)
        if number < _LEFT_OUT and len(there):
            self.of_photos[number] = OfPhoto(there, seen[there], first[there])

    def means(self) -> np.ndarray:
        """[C, D]; 0 for a class without a pixel."""
        return self.first / np.maximum(self.weight, 1e-300)[:, None]

    def within(self) -> np.ndarray:
        """[D, D], the covariance around the class means, of all classes together."""
        means = self.means()
        scatter = self.second - (means * self.weight[:, None]).T @ means
        return (scatter + scatter.T) / (2 * max(self.weight.sum(), 1e-300))

    def target(self) -> np.ndarray:
        """[D], what the diagonal of the covariance is shrunk towards: in each layer the mean of its own variances.

        So the features of no layer are pressed down because those of another are larger.
        """
        variances = np.split(np.diag(self.within()), np.cumsum(self.channels)[:-1])
        return np.concatenate([np.full(len(of), max(of.mean(), 1e-12)) for of in variances])


def linear_discriminant(statistics: Statistics, shrinkage: float = FIXED, frequencies: bool = True) -> Linear:
    """The linear discriminant of classes that share one covariance.

    logit_c = mean_c^T S^-1 x - mean_c^T S^-1 mean_c / 2 (+ log frequency_c), S the covariance within the classes plus
    `shrinkage` times the mean eigenvalue of each layer.

    Args:
      statistics: of the photos.
      shrinkage: above 0; `chosen_shrinkage` finds one.
      frequencies: whether a class that is more frequent is more likely, as it is in the photos.

    Raises:
      UserError: the classifier has values that are not finite.
    """
    means = statistics.means()
    regular = statistics.within() + shrinkage * np.diag(statistics.target())
    kernel = _solved(regular, means.T)
    bias = -np.einsum("cd,dc->c", means, kernel) / 2
    if frequencies:
        bias += np.log(np.maximum(statistics.weight, 1e-300) / max(statistics.weight.sum(), 1e-300))
    return _without_unseen(Linear(kernel, bias), statistics)


def chosen_shrinkage(statistics: Statistics) -> float:
    """The shrinkage that makes photos most likely which were left out; FIXED where no class is in two photos.

    Args:
      statistics: of the photos.
    """
    likelihood = left_out_likelihood(statistics, SHRINKAGES)
    return FIXED if likelihood is None else SHRINKAGES[int(np.argmax(likelihood))]


def left_out_likelihood(statistics: Statistics, shrinkages: Sequence[float]) -> np.ndarray | None:
    """The log-likelihood of photos that are left out, up to a constant (METHOD.md section 8).

    Each photo is left out of the class means in turn; the covariance is that of all photos. The likelihood is that of
    the photo's labelled features under a Gaussian of each class. It follows from the sums: with n_c and m_c the weight
    and mean of class c, and n_ic and m_ic those in photo i, the scatter around the means without the photo is

      A = n S + sum over i, c of n_ic ((n_c / (n_c - n_ic))^2 - 1) (m_ic - m_c) (m_ic - m_c)^T,

    and the log-likelihood is -(n log det S' + tr(S'^-1 A)) / 2. A class of a single photo adds nothing to the sum.

    Args:
      statistics: of the photos.
      shrinkages: that are tried.

    Returns:
      [shrinkages]; None where no class is in two photos.
    """
    means, total = statistics.means(), statistics.weight.sum()
    # In the basis in which S is diagonal and its target is the identity, each S' is diagonal.
    scale = statistics.target() ** -0.5
    eigenvalues, basis = np.linalg.eigh(statistics.within() * scale * scale[:, None])
    eigenvalues = np.maximum(eigenvalues, 0.0)
    moved, left_out = np.zeros(len(scale)), False
    for number in sorted(statistics.of_photos):  # so that the sum does not depend on the order of the photos
        photo = statistics.of_photos[number]
        others = statistics.weight[photo.classes] - photo.weight
        several = others > 1e-9 * photo.weight
        ratio = np.where(several, statistics.weight[photo.classes] / np.where(several, others, 1.0), 1.0)
        apart = (photo.first / photo.weight[:, None] - means[photo.classes]) * scale @ basis
        moved += (photo.weight * (ratio**2 - 1)) @ apart**2
        left_out |= bool(several.any())
    if not left_out:
        return None
    scatter = total * eigenvalues + moved  # the diagonal of A in this basis
    regular = eigenvalues + np.array(shrinkages)[:, None]
    return -(total * np.log(regular) + scatter / regular).sum(axis=1) / 2


def nearest_prototypes(statistics: Statistics, temperature: float) -> Linear:
    """The classifier by the largest cosine with prototypes, the two-step averages (METHOD.md section 3).

    The logits are v . P_c / temperature times the length of the features, so that their order is that of the cosines.

    Args:
      statistics: of the photos.
      temperature: tau.

    Raises:
      UserError: as for `linear_discriminant`.
    """
    vectors = prototypes(statistics)
    return _without_unseen(Linear(vectors.T / temperature, np.zeros(len(vectors))), statistics)


def prototypes(statistics: Statistics) -> np.ndarray:
    """The two-step averages (METHOD.md section 3), [C, D], unit rows; 0 for a class without a pixel.

    Args:
      statistics: of the photos.
    """
    vectors = statistics.directions
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


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


def bands(features: np.ndarray, label: np.ndarray, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cuts a photo into some rows of cells each, which bounds the memory of their shares.

    Args:
      features: float [h, w, D].
      label: int [H, W], class ids, negative = ignored.
      classes: C.

    Yields:
      float [n, D], the features of n cells, and float32 [n, C], as `shares_of_cells` gives them.
    """
    h, w, dim = features.shape
    rows_of_label = np.minimum(np.arange(len(label)) * h // len(label), h - 1)
    together = max(1, min(_TOGETHER, 2**22 // classes) // w)
    for start in range(0, h, together):
        end = min(start + together, h)
        own = slice(*np.searchsorted(rows_of_label, (start, end)))
        shares = _shares(label[own], rows_of_label[own] - start, (end - start, w), classes)
        yield features[start:end].reshape(-1, dim), shares


def shares_of_cells(label: np.ndarray, cells: tuple[int, int], classes: int) -> np.ndarray:
    """The share of each cell's pixels that each class has.

    Args:
      label: int [H, W], class ids, negative = ignored.
      cells: h and w: the photo is cut into h x w cells, those that evaluation's interpolation takes features for.
      classes: C.

    Returns:
      float32 [h * w, C]; a row sums to the share of the cell's pixels that are labelled.
    """
    rows = np.minimum(np.arange(len(label)) * cells[0] // len(label), cells[0] - 1)
    return _shares(label, rows, cells, classes)


def _shares(label: np.ndarray, rows: np.ndarray, cells: tuple[int, int], classes: int) -> np.ndarray:
    """The shares of cells, whose rows are given for each row of the label map."""
    width, (h, w) = label.shape[1], cells
    columns = np.minimum(np.arange(width) * w // width, w - 1)
    cell = rows[:, None] * w + columns
    pixels = np.bincount(cell.ravel(), minlength=h * w)
    known = label >= 0
    counts = np.bincount(cell[known] * classes + label[known], minlength=h * w * classes)
    return (counts.reshape(h * w, classes) / np.maximum(pixels, 1)[:, None]).astype(np.float32)
