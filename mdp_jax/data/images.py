"""Photos and masks: reading them from files, and resizing them."""

import io
import os
import pathlib
import re
import struct
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from mdp_jax.errors import UserError

warnings.filterwarnings("ignore", "Corrupt EXIF data")  # such a photo is as it is stored
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _JPEG_APP1, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", 0xE1, 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # of those that begin a segment, and the end
_PALETTE = 3  # a PNG's colour type
_PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}  # by its colour type
_ORIENTATION = 0x0112  # EXIF
_MOST_PIXELS = 1 << 27  # 384 MiB as RGB, in every thread that reads; some files of a few kB claim far more


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """The photo as uint8 [H, W, 3], RGB; turned as its EXIF orientation says.

    UserError where the file is missing, truncated, huge or no image.
    """
    return decode_photo(path, _read(path))


def decode_photo(path: str | os.PathLike, data: bytes, turn: bool = True) -> np.ndarray:
    """As `read_photo`, of the bytes of a file; `path` is what an error calls it. `turn`: as EXIF says."""
    return _decode(path, data, cv2.IMREAD_COLOR_RGB | (0 if turn else cv2.IMREAD_IGNORE_ORIENTATION))


def read_mask(path: str | os.PathLike, palette: bool = False) -> np.ndarray:
    """The values of an 8-bit mask of one channel as they are stored, uint8 [H, W].

    `palette`: the mask may be a palette PNG too, whose indices are the values.

    UserError where the file is missing, truncated, huge or no image, and where it is of another form: OpenCV would turn
    a palette into colours and stretch the values of a PNG of 1, 2 or 4 bits over 0..255.
    """
    return decode_mask(path, _read(path), palette)


def decode_mask(path: str | os.PathLike, data: bytes, palette: bool = False) -> np.ndarray:
    """As `read_mask`, of the bytes of a file; `path` is what an error calls it."""
    png = data.startswith(_PNG) and len(data) > 25
    if png and palette and data[25] == _PALETTE:
        return _palette_indices(path, data)
    if png and (data[24], data[25]) != (8, 0):
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
    _require_sound(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # OpenCV's own limits, for formats whose size is not looked up here
        image = None
    if image is None:
        raise UserError(f"{path} is unreadable ({len(data)} bytes); expected an image that OpenCV can decode")
    return image


def _palette_indices(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """The indices of a palette PNG, which OpenCV does not give out."""
    _require_sound(path, data)
    try:
        return np.array(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError, ValueError, EOFError):
        raise UserError(f"{path} is unreadable ({len(data)} bytes); expected a PNG that Pillow can decode") from None


def _require_sound(path: str | os.PathLike, data: bytes) -> None:
    """UserError where an image breaks off, or would fill the memory."""
    if _truncated(data):
        raise UserError(f"{path} is truncated: its {len(data)} bytes lack the end of the image; expected a whole file")
    height, width = _size(data)
    if height * width > _MOST_PIXELS:
        limit = f"at most {_MOST_PIXELS:,} in all"
        raise UserError(f"{path} has {height} x {width} pixels (height x width) in {len(data)} bytes; expected {limit}")


def _size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG or PNG as its header says, without decoding it; 0, 0 where it does not say."""
    if data.startswith(_PNG) and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    for marker, at in _jpeg_markers(data):
        # A frame header; those three are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 7 <= len(data):
            height, width = struct.unpack(">HH", data[at + 3 : at + 7])
            return height, width
    return 0, 0


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Every marker of a JPEG to the end of the image, and where its content begins; nothing for other data."""
    at = 2 if data.startswith(_JPEG) else len(data)
    while found := _JPEG_MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        yield marker, at
        if marker == _JPEG_END:
            return
        # Over the segment, which may hold a thumbnail. Of the data of a scan, which follows its segment, the pattern
        # meets nothing: a byte FF in it is followed by 00 or by a restart marker.
        at += int.from_bytes(data[at : at + 2])


def _truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG breaks off: some versions of OpenCV fill the rest with grey and say nothing.

    What stands behind the end, as the video of a moving photo, does not matter.
    """
    if data.startswith(_JPEG):
        return not any(marker == _JPEG_END for marker, _ in _jpeg_markers(data))
    return data.startswith(_PNG) and b"IEND" not in data


def orientation(path: str | os.PathLike) -> int:
    """The EXIF orientation of a photo, 1 to 8; 1, as it is stored, also where the file does not say."""
    exif = Image.Exif()
    try:
        exif.load(_exif(pathlib.Path(path).read_bytes()))
        found = exif.get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        return 1
    return found if found in range(1, 9) else 1


def _exif(data: bytes) -> bytes:
    """The EXIF segment of a JPEG or the chunk of a PNG, which OpenCV goes by; b"" where there is none."""
    for marker, at in _jpeg_markers(data):
        if marker == _JPEG_SCAN:
            break
        if marker == _JPEG_APP1 and data[at + 2 :].startswith(b"Exif"):
            return data[at + 2 : at + int.from_bytes(data[at : at + 2])]
    at = len(_PNG) if data.startswith(_PNG) else len(data)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += length + 12
    return b""


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
