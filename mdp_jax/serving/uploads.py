"""A photo that somebody sends: looked at by its header, then decoded; what was changed is said."""

import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.words import counted

MOST_BYTES = 32 << 20
MOST_PIXELS = 50_000_000  # as the header says: 150 MB decoded
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_EXPECTED = "expected a photo as JPEG, PNG, WebP, TIFF or BMP"
_NAME = "the photo"  # in errors: the name of a user's file is not sent
# What Pillow raises for a header that is none, or a damaged one.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, struct.error)


class Upload(NamedTuple):
    """A photo that was read.

    Attributes:
      image: uint8 [H, W, 3], RGB.
      notes: sentences on what was changed.
    """

    image: np.ndarray
    notes: list[str]


def require_bytes(count: int) -> None:
    """Checks the size of a file.

    Args:
      count: bytes, so far or in all.

    Raises:
      UserError: there are too many.
    """
    if count > MOST_BYTES:
        raise UserError(f"{_NAME} has more than {MOST_BYTES >> 20} MB; expected a smaller file: save it as JPEG")


def read(data: bytes) -> Upload:
    """Reads a photo. Nothing is decoded before its type and its number of pixels are known to be possible.

    Args:
      data: the bytes of its file.

    Raises:
      UserError: they are no photo, of another type, too large, animated, damaged or transparent.
    """
    require_bytes(len(data))
    notes = _notes(data)
    return Upload(images.decode_photo(_NAME, data), notes)


def _notes(data: bytes) -> list[str]:
    """What the header says that must be told."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            if header.width * header.height > MOST_PIXELS:
                raise _too_many(f"{header.width} x {header.height} pixels")
            count, kind, notes = images.pictures(header), header.format, images.conversions(header, data)
    except Image.DecompressionBombError:  # Pillow's own limit is larger
        raise _too_many(f"far more than {MOST_PIXELS:,} pixels") from None
    except _DAMAGED:
        size = counted(len(data), "byte")
        found = f"{_NAME} ({size}) is no picture, or of a type that is not read" if data else f"{_NAME} is empty"
        raise UserError(f"{found}; {_EXPECTED}") from None
    if count > 1:
        raise UserError(f"{_NAME} is a {kind} of {count} pictures; expected one: save the picture that you mean")
    return notes


def _too_many(pixels: str) -> UserError:
    return UserError(f"{_NAME} has {pixels}; expected {MOST_PIXELS:,} at most: make it smaller first")
