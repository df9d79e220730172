"""Augmentation of a photo and its label map: pure functions of arrays, parameters and a np.random.Generator.

Photos are uint8 [H, W, 3] RGB, label maps int16 [H, W] with -1 = ignore. The inputs are never written to; the result
may be a view of them.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from mdp_jax.configs import FinetuneDataConfig, PhotometricConfig, PretrainDataConfig
from mdp_jax.data import images

_LEVELS = np.arange(256)
_TRIES = 10  # of torchvision's random resized crop and of MMSegmentation's category ratio


class Box(NamedTuple):
    """A box of pixels in a photo.

    Attributes:
      top: first row.
      left: first column.
      height: number of rows.
      width: number of columns.
    """

    top: int
    left: int
    height: int
    width: int


def pretrain_view(
    image: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    data: PretrainDataConfig,
    strengths: PhotometricConfig | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one view of the pretraining (METHOD.md section 5): random resized crop, flip, photometric distortion.

    Args:
      image: uint8 [H, W, 3].
      label: int16 [H, W].
      rng: that everything is drawn from.
      data: of the config.
      strengths: of the distortion; None for those of `data`.

    Returns:
      uint8 [crop, 3] and int16 [crop].
    """
    box = random_resized_box(label.shape[0], label.shape[1], rng, scale=data.scale, ratio=data.ratio)
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    image = images.resize_photo(image[rows, columns], *data.crop)
    label = images.resize_label(label[rows, columns], *data.crop)
    image, label = random_flip(image, label, rng, data.flip)
    return photometric(image, rng, strengths or data.photometric), label


def finetune_view(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator, data: FinetuneDataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one training view of MMSegmentation (METHOD.md section 6): random scale, crop, flip, distortion, padding.

    The photo is scaled by a factor drawn from `data.scale`, and a crop of `data.crop` is taken from it, as `choose_box`
    places it. Only the crop's own pixels are resized: it is cut out of the unscaled photo in whole pixels, so that the
    factor is exact to half a source pixel over the crop. What the scaled photo lacks of the crop is added at the bottom
    and the right, `data.mean` in the photo and -1 in the label. A crop that is enlarged is distorted before, any other
    one after it is resized.

    Args:
      image: uint8 [H, W, 3].
      label: int16 [H, W].
      rng: that everything is drawn from.
      data: of the config.

    Returns:
      uint8 [crop, 3] and int16 [crop].
    """
    crop = (data.crop[0], data.crop[1])
    factor = rng.uniform(*data.scale)
    height, new_height = _extent(label.shape[0], crop[0], factor)
    width, new_width = _extent(label.shape[1], crop[1], factor)
    top, left = choose_box(label, (height, width), rng, data.category_ratio)
    rows, columns = slice(top, top + height), slice(left, left + width)
    image, label = random_flip(image[rows, columns], label[rows, columns], rng, data.flip)
    # The distortion of single pixels takes most of the time, so it is done where they are fewer.
    enlarged = new_height * new_width > height * width
    if enlarged:
        image = photometric(image, rng, data.photometric)
    # Bilinear also where the photo shrinks, as MMSegmentation does it: to half its size at most, with its own settings.
    image = cv2.resize(image, (new_width, new_height))
    if not enlarged:
        image = photometric(image, rng, data.photometric)
    red, green, blue = (round(value) for value in data.mean)
    return pad(image, images.resize_label(label, new_height, new_width), crop, (red, green, blue))


def random_resized_box(
    height: int, width: int, rng: np.random.Generator, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """Draws the box of torchvision's RandomResizedCrop.

    When ten draws do not fit the photo, it is the largest box of an allowed width / height in the photo's middle.

    Args:
      height: of the photo.
      width: of the photo.
      rng: source of all random numbers.
      scale: least and largest share of the photo's area; drawn uniformly.
      ratio: least and largest width / height; drawn log-uniformly.
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_height, box_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(rng.integers(height - box_height + 1))
            return Box(top, int(rng.integers(width - box_width + 1)), box_height, box_width)
    box_height, box_width = height, width
    if width < ratio[0] * height:
        box_height = max(1, round(width / ratio[0]))
    elif width > ratio[1] * height:
        box_width = max(1, round(height * ratio[1]))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def _extent(photo: int, crop: int, factor: float) -> tuple[int, int]:
    """A side of a crop: the photo's pixels that it covers, and its own pixels, fewer than `crop` in a small photo."""
    covered = max(1, round(crop / factor))
    if covered <= photo:
        return covered, crop
    return photo, min(crop, max(1, round(photo * factor)))


def choose_box(
    label: np.ndarray, size: tuple[int, int], rng: np.random.Generator, category_ratio: float
) -> tuple[int, int]:
    """Places a box at random within a label map.

    As in MMSegmentation, a box is drawn again, up to ten times, unless it holds two classes or more and the most
    frequent one has less than `category_ratio` of its labelled pixels.

    Args:
      label: int16 [H, W], -1 = ignore.
      size: height and width of the box.
      rng: source of all random numbers.
      category_ratio: share of pixels; at 1 or more every box is taken.

    Returns:
      The first row and the first column of the box.
    """
    rows, columns = label.shape[0] - size[0] + 1, label.shape[1] - size[1] + 1
    top, left = int(rng.integers(rows)), int(rng.integers(columns))
    if category_ratio >= 1:
        return top, left
    for _ in range(_TRIES):
        counts = np.bincount(label[top : top + size[0], left : left + size[1]].ravel() + 1)[1:]
        if np.count_nonzero(counts) > 1 and counts.max() < category_ratio * counts.sum():
            break
        top, left = int(rng.integers(rows)), int(rng.integers(columns))
    return top, left


def random_flip(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator, probability: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors photo and label left to right with a probability.

    Args:
      image: uint8 [H, W, 3].
      label: int16 [H, W].
      rng: source of all random numbers.
      probability: in [0, 1].

    Returns:
      Photo and label.
    """
    if rng.random() < probability:
        return cv2.flip(image, 1), cv2.flip(label, 1)
    return image, label


def pad(
    image: np.ndarray, label: np.ndarray, size: tuple[int, int], fill: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds rows at the bottom and columns at the right.

    Args:
      image: uint8 [H, W, 3].
      label: int16 [H, W].
      size: height and width of the result, not smaller than those of the photo.
      fill: RGB of the new pixels in the photo; in the label they are -1.

    Returns:
      Photo and label.
    """
    below, right = size[0] - label.shape[0], size[1] - label.shape[1]
    if below == 0 and right == 0:
        return image, label
    image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
    return image, cv2.copyMakeBorder(label, 0, below, 0, right, cv2.BORDER_CONSTANT, value=-1)


def photometric(image: np.ndarray, rng: np.random.Generator, strengths: PhotometricConfig) -> np.ndarray:
    """Distorts the colours of a photo like MMSegmentation's PhotoMetricDistortion.

    Each step has the probability 1/2. The order is brightness, contrast, saturation, hue; in half of the cases contrast
    comes last. All values are drawn uniformly.

    Args:
      image: uint8 [H, W, 3] RGB.
      rng: source of all random numbers.
      strengths: brightness, the largest value that is added or subtracted, on the 0..255 scale; contrast and
        saturation, the factors are in 1 +- these values; hue, the largest number of whole steps that are added or
        subtracted, of OpenCV's circle 0..179.

    Returns:
      uint8 [H, W, 3] RGB.
    """

    def draw(neutral: float, strength: float) -> float:
        return rng.uniform(neutral - strength, neutral + strength) if rng.random() < 0.5 else neutral

    shift, gain = draw(0.0, strengths.brightness), draw(1.0, strengths.contrast)
    contrast_first = rng.random() < 0.5
    saturation_gain, turn = draw(1.0, strengths.saturation), round(draw(0.0, strengths.hue))
    first_gain, last_gain = (gain, 1.0) if contrast_first else (1.0, gain)
    # What has been drawn to change nothing is left out: every pass over the photo costs as much as resizing it.
    if shift != 0.0 or first_gain != 1.0:
        image = cv2.LUT(image, _levels(_levels(_LEVELS + shift) * first_gain))
    if saturation_gain != 1.0 or turn != 0:
        image = _turned(image, saturation_gain, turn)
    if last_gain != 1.0:
        image = cv2.LUT(image, _levels(_LEVELS * last_gain))
    return image


def _turned(image: np.ndarray, saturation_gain: float, turn: int) -> np.ndarray:
    """The photo with its saturation times a factor and its hue turned by steps of OpenCV's 0..179."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    # Channel by channel: OpenCV is slower with one table for each of the interleaved channels.
    hue, saturation, value = cv2.split(hsv)
    if turn != 0:
        hue = cv2.LUT(hue, ((_LEVELS + turn) % 180).astype(np.uint8))
    if saturation_gain != 1.0:
        saturation = cv2.LUT(saturation, _levels(_LEVELS * saturation_gain))
    return cv2.cvtColor(cv2.merge((hue, saturation, value), dst=hsv), cv2.COLOR_HSV2RGB)


def _levels(values: np.ndarray) -> np.ndarray:
    """The nearest of the 256 levels, uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
