"""Heads in closed form on the features of a network, and how good they are (METHOD.md section 8)."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mdp_jax.configs import MethodConfig
from mdp_jax.data import images
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError
from mdp_jax.evaluation import discriminant, metrics
from mdp_jax.evaluation.discriminant import Linear, Statistics
from mdp_jax.evaluation.loaded import Network

AUTO = "auto"  # the shrinkage that predicts photos best which were left out

_TEMPERATURE = MethodConfig().temperature
_CLASSES = 32  # whose logits are there at one time, which bounds the memory


@dataclasses.dataclass(frozen=True)
class Head:
    """How a classifier is made.

    Attributes:
      name: "lda" or "prototypes".
      shrinkage: of the covariance, above 0; "auto" = as discriminant.chosen_shrinkage finds it. "prototypes" has none.
      frequencies: see discriminant.linear_discriminant.

    Raises:
      UserError: another name, or a shrinkage that cannot be.
    """

    name: str = "lda"
    shrinkage: float | str = AUTO
    frequencies: bool = True

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            raise UserError(f"--head {self.name}: expected one of {', '.join(HEADS)}")
        if self.shrinkage != AUTO and not (isinstance(self.shrinkage, float | int) and 0 < self.shrinkage < np.inf):
            raise UserError(f"--shrinkage {self.shrinkage}: expected more than 0, or {AUTO}")

    def make(self, statistics: Statistics) -> "Made":
        """Makes the classifier.

        Args:
          statistics: of the labelled photos.
        """
        return HEADS[self.name](statistics, self)


class Made(NamedTuple):
    """A classifier.

    Attributes:
      linear: its numbers.
      shrinkage: the one that was taken; None where the head has none.
    """

    linear: Linear
    shrinkage: float | None


def _lda(statistics: Statistics, head: Head) -> Made:
    shrinkage = head.shrinkage
    if isinstance(shrinkage, str):
        shrinkage = discriminant.chosen_shrinkage(statistics)
    return Made(discriminant.linear_discriminant(statistics, shrinkage, head.frequencies), shrinkage)


def _prototypes(statistics: Statistics, head: Head) -> Made:
    del head
    return Made(discriminant.nearest_prototypes(statistics, _TEMPERATURE), None)


HEADS: dict[str, Callable[[Statistics, Head], Made]] = {"lda": _lda, "prototypes": _prototypes}


def require_layers(net: Network, layers: Sequence[str], where: str = "--layer") -> None:
    """Checks that a network has some layers.

    Args:
      net: the network.
      layers: their names.
      where: what the error begins with.

    Raises:
      UserError: it lacks one.
    """
    if missing := [layer for layer in layers if layer not in net.layers]:
        raise UserError(
            f"{where} {'+'.join(layers)}: this network has no {missing[0]}; expected {', '.join(net.layers)}"
        )


def labelled(source: Source, index: int) -> dict[str, np.ndarray]:
    """A photo whose label map has no id that the dataset does not have.

    Args:
      source: the photos.
      index: of the photo.

    Raises:
      UserError: it has, or the photo cannot be read.
    """
    sample = source[index]
    largest = sample["label"].max(initial=-1)
    if largest >= len(source.classes):
        raise UserError(
            f"{source.describe(index)}: label {largest}; expected ids below {len(source.classes)}, or ignore"
        )
    return sample


def at_whole_strides(image: np.ndarray, stride: int) -> np.ndarray:
    """A photo enlarged to the next multiples of a stride, which gives as many features; so photos have few shapes.

    Args:
      image: uint8 [H, W, 3].
      stride: of the features.
    """
    height, width = image.shape[:2]
    return images.resize_photo(image, -(-height // stride) * stride, -(-width // stride) * stride)


def add_photo(
    net: Network, layers: tuple[str, ...], sample: dict, index: int, to: Sequence[tuple[Statistics, int]]
) -> None:
    """Adds a labelled photo to some statistics.

    Args:
      net: the network.
      layers: whose features are taken.
      sample: of a source; the label map may have another size than the photo.
      index: of the photo, for errors.
      to: the statistics, each with the number that the photo has among its own.

    Raises:
      UserError: the features are not finite.
    """
    features = net.features_as_they_are(at_whole_strides(sample["image"], net.model.output_stride), layers)
    if not np.isfinite(features).all():
        raise UserError(f"the features of photo {index} are not finite; expected a network that fits the photos")
    if len(to) == 1:  # band by band: a large photo of many classes takes little memory
        ((statistics, number),) = to
        return statistics.add_photo(features, sample["label"], number)
    parts = list(discriminant.bands(features, sample["label"], len(to[0][0].weight)))
    for statistics, number in to:
        statistics.add_parts(parts, number)


def statistics_of(net: Network, source: Source, layers: tuple[str, ...]) -> Statistics:
    """The statistics of a network's features on labelled photos, in one pass.

    Args:
      net: the network.
      source: of the photos, resized as it will see them.
      layers: whose features are taken side by side.

    Raises:
      UserError: a layer that the network does not have, a photo that cannot be read, a label that the dataset does not
        have, or no labelled pixel at all.
    """
    require_layers(net, layers)
    found = Statistics.empty(len(source.classes), *net.channels(layers))
    for index in range(len(source)):
        add_photo(net, layers, labelled(source, index), index, [(found, index)])
    if not found.weight.any():
        raise UserError(f"dataset {source.name!r}: no labelled pixel in its {len(source)} photos; expected some")
    return found


def draws_of(count: int, photos: int, draws: int, seed: int) -> list[np.ndarray]:
    """Draws labelled photos; those of a smaller number are the first of those of a larger one.

    Args:
      count: photos that there are.
      photos: to draw; 0 = all, which are drawn once.
      draws: how often.
      seed: of the draws.

    Returns:
      Indices, sorted, of each draw.

    Raises:
      UserError: there are fewer photos.
    """
    if photos > count:
        raise UserError(f"--photos {photos}: expected at most {count}, the number of labelled photos, or all")
    if photos in (0, count):
        return [np.arange(count)]
    orders = (np.random.default_rng((seed, draw)).permutation(count) for draw in range(draws))
    return [np.sort(order[:photos]) for order in orders]


def scores_of_budgets(
    net: Network,
    train: Source,
    val: Source,
    layers: tuple[str, ...],
    photos: Sequence[int],
    draws: int,
    seed: int,
    head: Head,
) -> dict[int, list[float]]:
    """Scores heads that are made from few labelled photos and from many, in one pass over each split.

    Args:
      net: the network.
      train: the labelled photos.
      val: the photos that heads are scored on, at the size of their label maps.
      layers: whose features are taken side by side.
      photos: numbers of labelled photos; 0 = all.
      draws: of the photos, of each number.
      seed: of the draws.
      head: of each classifier.

    Returns:
      {number of photos: mIoU in percent of each draw}.

    Raises:
      UserError: as for `statistics_of`, or there are fewer photos.
    """
    require_layers(net, layers)
    channels, classes = net.channels(layers), len(train.classes)
    chosen = [(number, draw) for number in photos for draw in draws_of(len(train), number, draws, seed)]
    counted = [Statistics.empty(classes, *channels) for _ in chosen]
    for index in sorted(set(np.concatenate([draw for _, draw in chosen]).tolist())):
        # Its place in each draw, since only the photos of the lowest numbers are left out in turn.
        to = [
            (of, int(np.searchsorted(draw, index)))
            for of, (_, draw) in zip(counted, chosen, strict=True)
            if index in draw
        ]
        add_photo(net, layers, labelled(train, index), index, to)
    linear = [head.make(statistics).linear for statistics in counted]
    confusions = np.zeros((len(chosen), classes + 1, classes + 1), np.int64)
    for index in range(len(val)):
        sample = labelled(val, index)
        features = net.features_as_they_are(sample["image"], layers)
        for found, of in zip(confusions, linear, strict=True):
            found += _confusion(sample["label"], _label_map(features, of, sample["label"].shape), classes)
    scores = [metrics.scores(found, train.classes)["mIoU"] for found in confusions]
    if None in scores:
        raise UserError(f"dataset {val.name!r}: no labelled pixel in its photos of validation; expected some")
    return {number: [s for s, (of, _) in zip(scores, chosen, strict=True) if of == number] for number in photos}


def _label_map(features: np.ndarray, linear: Linear, size: tuple[int, ...]) -> np.ndarray:
    """The class of each pixel, int16 [H, W], by a classifier of features [h, w, D]."""
    kernel, bias = linear.kernel.astype(np.float32), linear.bias.astype(np.float32)
    chunks = (slice(start, start + _CLASSES) for start in range(0, len(bias), _CLASSES))
    return label_map((features @ kernel[:, some] + bias[some] for some in chunks), size)


def label_map(logits: Iterable[np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """The class of each pixel by logits interpolated as in evaluation; nothing is compiled.

    Args:
      logits: float32 [h, w, C_i], those of some classes after those of others.
      size: H and W.

    Returns:
      int16 [H, W].
    """
    height, width = size
    best = np.full((height, width), -np.inf, np.float32)
    found = np.zeros((height, width), np.int16)
    planes = (plane for some in logits for plane in np.moveaxis(some, -1, 0))
    for label, plane in enumerate(planes):
        of_pixels = cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=cv2.INTER_LINEAR)
        found[of_pixels > best] = label
        np.maximum(best, of_pixels, out=best)
    return found


def _confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """[C + 1, C + 1], as metrics.confusion counts."""
    known, side = label >= 0, classes + 1
    ids = label[known].astype(np.int64) * side + predicted[known]
    return np.bincount(ids, minlength=side**2).reshape(side, side)
