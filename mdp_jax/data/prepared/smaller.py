"""Photos of the training that are stored smaller than they are, so that a run decodes fewer pixels."""

from typing import NamedTuple

import cv2
import numpy as np

from mdp_jax.data import image_bytes, images

SPLIT = "train"  # photos of other splits are scored in their own size
# Colours in full resolution: what is left of the photo has no pixels to spare.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_EXACT = (image_bytes.PNG, *image_bytes.TIFF, b"BM")  # how files begin whose pixels were not changed by a codec


class Stored(NamedTuple):
    """What a record holds of a sample.

    Attributes:
      photo: the bytes of an image file.
      label: int16 [H, W] of the photo in it, -1 ignored.
    """

    photo: bytes
    label: np.ndarray


def made_smaller(photo: bytes, image: np.ndarray, label: np.ndarray, short_side: int) -> Stored:
    """Resizes a sample as a run with `data.short_side` does; one that is not larger stays as it is.

    Args:
      photo: the bytes of its file.
      image: uint8 [H, W, 3], the photo.
      label: int16 [H, W], -1 ignored.
      short_side: in pixels; 0 = as it is.

    Returns:
      The photo as PNG if its file was one without loss, otherwise as JPEG; and its label.
    """
    if not short_side or min(label.shape) <= short_side:
        return Stored(photo, label)
    height, width = label.shape
    size = images.short_side_size(height, width, short_side)
    pixels = cv2.cvtColor(images.resize_photo(image, *size), cv2.COLOR_RGB2BGR)
    form: tuple = (".png",) if photo.startswith(_EXACT) else (".jpg", _JPEG)
    return Stored(cv2.imencode(form[0], pixels, *form[1:])[1].tobytes(), images.resize_label(label, *size))
