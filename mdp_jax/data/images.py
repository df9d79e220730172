"""Photos and masks: reading them from files, and resizing them."""

import os
import pathlib

import cv2
import numpy as np

from mdp_jax.errors import UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}  # by its colour type


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """The photo as uint8 [H, W, 3], RGB; turned as its EXIF orientation says.

    UserError where the file is missing, truncated or no image.
    """
    return _decode(path, _read(path), cv2.IMREAD_COLOR_RGB)


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """The values of an 8-bit mask of one channel as they are stored, uint8 [H, W].

    UserError where the file is missing, truncated or no image, and where it is of another form: OpenCV would turn a
    palette into colours and stretch the values of a PNG of 1, 2 or 4 bits over 0..255.
    """
    data = _read(path)
    if data.startswith(_PNG) and len(data) > 25 and (data[24], data[25]) != (8, 0):
        form = f"{_PNG_CHANNELS.get(data[25], 'unknown')} PNG of {data[24]} bits"
        raise UserError(f"{path} is a {form}; expected a mask of one grey channel of 8 bits that holds class ids")
    mask = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        channels = 1 if mask.ndim == 2 else mask.shape[2]
        form = f"{channels} channel(s) of {mask.dtype}"
        raise UserError(f"{path} has {form}; expected a mask of one grey channel of 8 bits that holds class ids")
    return mask


def _read(path: str | os.PathLike) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); expected an image") from None


def _decode(path: str | os.PathLike, data: bytes, flags: int) -> np.ndarray:
    if _truncated(data):
        raise UserError(f"{path} is truncated: its {len(data)} bytes lack the end of the image; expected a whole file")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise UserError(f"{path} is unreadable ({len(data)} bytes); expected an image that OpenCV can decode")
    return image


def _truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG breaks off: some versions of OpenCV fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        # Inside a scan, which begins at FFDA, a byte FF is always followed by 00 or a restart marker; so an FFD9 behind
        # the last scan's beginning is the end of the image, and one before it belongs to a thumbnail.
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return data.startswith(_PNG) and b"IEND" not in data


def resize_photo(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3]; area averages when both sides shrink, bilinear otherwise."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """int16 [H, W] -> [height, width], nearest neighbour on the pixel centres that `resize_photo` uses."""
    if label.shape == (height, width):
        return label
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width of a photo once its shorter side is `short_side` pixels, the other rounded; 0 = as it is."""
    if short_side == 0:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
