"""Photos and masks: reading them from files, and resizing them."""

import dataclasses
import io
import os
import zlib
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from mdp_jax.data import image_bytes
from mdp_jax.errors import UserError
from mdp_jax.storage.photo_cache import read_bytes
from mdp_jax.words import counted

_PNG_CHANNELS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGBA"}  # by its colour type
_MOST_PIXELS = 1 << 27  # 384 MiB as RGB, in every thread that reads; some files of a few kB claim far more
MOST_ENLARGED = 1 << 25  # pixels of a photo that is made larger than it is
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners have
_EXPECTED = "an image file that is whole, such as a JPEG or PNG"
_TURNS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}  # by the orientation
_GREY = ("1", "L", "I", "I;16", "I;16B", "LA")  # Pillow's modes


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """Reads the photo in a file.

    Grey photos get three equal channels. A photo of 16 bits is scaled to 8 by its depth: the bits that the file states
    (sBIT of a PNG), or else the least of 8, 10, 12, 14 and 16 bits that hold its largest value.

    Args:
      path: of the file.

    Returns:
      uint8 [H, W, 3], RGB, turned by its EXIF orientation.

    Raises:
      UserError: the file is missing, not a regular file, damaged, truncated, huge or not an image; or its pixels are
        transparent, or not integers of 8 or 16 bits.
    """
    return decode_photo(path, _read(path))


def changes(path: str | os.PathLike) -> list[str]:
    """What `read_photo` changes of a photo or leaves out, in sentences.

    Args:
      path: of a file that it has read.

    Raises:
      UserError: the file cannot be read any more.
    """
    data = _read(path)
    try:
        with Image.open(io.BytesIO(data)) as header:
            count = pictures(header)
            found = [f"The first of {count} pictures was taken."] if count > 1 else []
            return found + conversions(header, data)
    except image_bytes.DAMAGED:  # of a type that OpenCV reads and Pillow does not
        return []


def pictures(header: Image.Image) -> int:
    """The number of pictures in a file: above 1 of an animation, or of a TIFF of several pages.

    Args:
      header: as Pillow opens the file.
    """
    # The second picture in the JPEG of a telephone is a depth map or a thumbnail.
    return 1 if header.format in ("JPEG", "MPO") else getattr(header, "n_frames", 1)


def conversions(header: Image.Image, data: bytes) -> list[str]:
    """What `decode_photo` changes of a photo, in sentences.

    Args:
      header: as Pillow opens the file.
      data: the bytes of the file.
    """
    mode, said = header.mode, []
    if mode == "CMYK":
        said.append("CMYK was converted to RGB without its colour profile, so colours may be off.")
    if mode in _GREY:
        said.append("The photo is grey; it was given three equal channels.")
    if mode.startswith("I") or (header.format == "PNG" and data[24] == 16):  # Pillow's mode of deep colours is RGB
        said.append("16 bits were scaled to 8.")
    if mode in ("RGBA", "LA", "PA") or "transparency" in header.info:
        said.append("The photo has an alpha channel; all of it is opaque, so it was left out.")
    return said


def decode_photo(path: str | os.PathLike, data: bytes, turn: bool = True) -> np.ndarray:
    """Decodes the bytes of a photo's file, like `read_photo`.

    Args:
      path: the name of the photo in errors.
      data: the bytes.
      turn: whether the photo is turned by its EXIF orientation.

    Returns:
      uint8 [H, W, 3], RGB.

    Raises:
      UserError: for the same reasons as `read_photo`.
    """
    _require_sound(path, data)
    if not data.startswith(image_bytes.JPEG) and _may_be_transparent(data):
        _require_opaque(path, data, _decode(path, data, cv2.IMREAD_UNCHANGED))
    # OpenCV turns JPEGs, PNGs and TIFFs as all programs do, but no AVIF, and not every WebP.
    ours = turn and not data.startswith((image_bytes.JPEG, image_bytes.PNG, *image_bytes.TIFF))
    image = _colours(path, data, 0 if turn and not ours else cv2.IMREAD_IGNORE_ORIENTATION)
    if ours:
        image = turned(image, image_bytes.orientation(data))
    if image.dtype == np.uint16:
        return _scaled(image, _depth(data, image))
    if image.dtype != np.uint8:
        raise UserError(f"{path} has pixels of {image.dtype}; expected integers of 8 or 16 bits")
    return image


def _colours(path: str | os.PathLike, data: bytes, flags: int = 0) -> np.ndarray:
    """RGB [H, W, 3] in the depth of the file."""
    flags |= cv2.IMREAD_ANYDEPTH
    if data.startswith((image_bytes.JPEG, image_bytes.PNG)):
        return _decode(path, data, cv2.IMREAD_COLOR_RGB | flags)
    # OpenCV 5.0 mixes up the pixels of a TIFF of 16 bits that is asked for as RGB.
    return cv2.cvtColor(_decode(path, data, cv2.IMREAD_COLOR | flags), cv2.COLOR_BGR2RGB)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an image that is as it is stored, so that it is as people see it.

    Args:
      values: [H, W, ...].
      orientation: EXIF orientation, 1 to 8.

    Returns:
      The values, [H, W, ...]; from orientation 5 on [W, H, ...].
    """
    if orientation == 1:
        return values
    # Orientations 5 to 8 mirror the picture at its diagonal; then it is mirrored or turned.
    rows, columns = _TURNS[orientation]
    return np.ascontiguousarray((values.swapaxes(0, 1) if orientation >= 5 else values)[::rows, ::columns])


def _scaled(image: np.ndarray, depth: int) -> np.ndarray:
    """uint16 of so many bits -> uint8, rounded to the nearest."""
    table = np.rint(np.arange(1 << 16) * (255 / ((1 << depth) - 1))).clip(0, 255).astype(np.uint8)
    return table[image]


def _depth(data: bytes, image: np.ndarray) -> int:
    """How many bits of a photo of 16 bits are in use."""
    stated = next((chunk.content(data) for chunk in image_bytes.png_chunks(data) if chunk.kind == b"sBIT"), b"")
    largest = int(image.max())
    # The PNG specification wants the upper bits to be the significant ones, and some programs use the lower ones.
    if stated and max(stated) <= 16 and largest >> max(stated):
        return 16
    return next(depth for depth in _DEPTHS if largest < 1 << depth and depth >= max(stated, default=0))


def _may_be_transparent(data: bytes) -> bool:
    if not data.startswith(image_bytes.PNG):
        return True
    return data[25] in (4, 6) or any(chunk.kind == b"tRNS" for chunk in image_bytes.png_chunks(data))


def _require_opaque(path: str | os.PathLike, data: bytes, image: np.ndarray) -> None:
    """UserError where pixels of an image as it is stored are transparent: their colours mean nothing."""
    if image.ndim == 3 and image.shape[2] in (2, 4):
        opaque = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1.0
        transparent = int(np.count_nonzero(image[..., -1] != opaque))
    else:
        transparent = _of_transparent_grey(data, image)
    if transparent:
        found = f"{transparent} of {image.shape[0] * image.shape[1]} pixels are transparent"
        raise UserError(f"{path}: {found}; expected an opaque photo: flatten it onto a background")


def _of_transparent_grey(data: bytes, image: np.ndarray) -> int:
    """The pixels of the one grey that a PNG says is transparent, which OpenCV does not look at."""
    said = [chunk.content(data) for chunk in image_bytes.png_chunks(data) if chunk.kind == b"tRNS"]
    if not said or image.ndim != 2:
        return 0
    most = (1 << min(data[24], 16)) - 1  # in the file; greys of fewer than 8 bits are stretched
    return int(np.count_nonzero(image == int.from_bytes(said[0][:2]) * (max(255, most) // most)))


def read_mask(path: str | os.PathLike, palette: bool = False) -> np.ndarray:
    """Reads the values of an 8-bit mask of one channel as they are stored.

    OpenCV would turn a palette into colours and stretch the values of a PNG of 1, 2 or 4 bits over 0..255.

    Args:
      path: of the file.
      palette: whether the mask may also be a palette PNG, whose indices are the values.

    Returns:
      uint8 [H, W].

    Raises:
      UserError: the file is missing, not a regular file, damaged, truncated, huge, not an image, a JPEG or not such a
        mask.
    """
    return decode_mask(path, _read(path), palette)


def decode_mask(path: str | os.PathLike, data: bytes, palette: bool = False) -> np.ndarray:
    """Decodes the bytes of a mask's file, like `read_mask`.

    Args:
      path: the name of the mask in errors.
      data: the bytes.
      palette: whether the mask may also be a palette PNG, whose indices are the values.

    Returns:
      uint8 [H, W].

    Raises:
      UserError: for the same reasons as `read_mask`.
    """
    _require_exact(path, data)
    _require_sound(path, data)
    png = data.startswith(image_bytes.PNG)
    if png and palette and data[25] == image_bytes.PALETTE:
        return _palette_indices(path, data)
    if png and (data[24], data[25]) != (8, 0):
        form = f"{_PNG_CHANNELS.get(data[25], 'unknown')} PNG of {data[24]} bits"
        raise UserError(f"{path} is a {form}; expected a mask of one grey channel of 8 bits that holds class ids")
    if not png and (form := image_bytes.stretched(data)):
        raise UserError(f"{path} is a {form}; expected a mask of one grey channel of 8 bits that holds class ids")
    mask = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        channels = 1 if mask.ndim == 2 else mask.shape[2]
        form = f"{counted(channels, 'channel')} of {mask.dtype}"
        raise UserError(f"{path} has {form}; expected a mask of one grey channel of 8 bits that holds class ids")
    return mask


def palette_of(path: str | os.PathLike) -> bytes:
    """The colours of a palette PNG as they are stored, R, G and B of each; b"" of any other file.

    Args:
      path: of a mask that was read.

    Raises:
      UserError: the file cannot be read any more.
    """
    data = _read(path)
    if not data.startswith(image_bytes.PNG) or data[25] != image_bytes.PALETTE:
        return b""
    return next((chunk.content(data) for chunk in image_bytes.png_chunks(data) if chunk.kind == b"PLTE"), b"")


class Values(NamedTuple):
    """What a mask of any form holds.

    Attributes:
      values: uint8 or uint16 [H, W]: greys, or indices of a palette; or uint8 RGB [H, W, 3].
      palette: uint8 RGB [n, 3], the colours of the indices; None where the values are no indices.
    """

    values: np.ndarray
    palette: np.ndarray | None


def read_values(path: str | os.PathLike) -> Values:
    """Reads a mask of any form as it is stored: greys of 8 or 16 bits, a palette, or colours. Transparency is left out.

    Args:
      path: of the file.

    Returns:
      The values, exact.

    Raises:
      UserError: the file is missing, not a regular file, damaged, truncated, huge, not an image, a JPEG or lossy WebP,
        or its values are no integers.
    """
    data = _read(path)
    _require_exact(path, data)
    _require_sound(path, data)
    if data.startswith(image_bytes.PNG) and data[25] == image_bytes.PALETTE:
        indices = _palette_indices(path, data)
        with Image.open(io.BytesIO(data)) as image:
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return Values(indices, colours)
    found = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if found.ndim == 3 and found.shape[2] == 2:
        found = found[..., 0]
    elif found.ndim == 3:
        if found.dtype != np.uint8:
            raise UserError(f"{path} has colours of {found.dtype}; expected a mask of 8 bits a channel")
        return Values(cv2.cvtColor(found[..., :3], cv2.COLOR_BGR2RGB), None)
    if found.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} has values of {found.dtype}; expected a mask of 8 or 16 bits")
    return Values(found, None)


def _require_exact(path: str | os.PathLike, data: bytes) -> None:
    """UserError where the values of a mask are others than those that were drawn."""
    webp = image_bytes.is_lossy_webp(data)
    lossy = "JPEG" if data.startswith(image_bytes.JPEG) else "lossy WebP" if webp else ""
    if lossy:
        raise UserError(
            f"{path} is a {lossy}, whose values are not exact: near every edge they are others than those of the "
            "classes; expected a mask as PNG, from the tool that drew it"
        )


def _read(path: str | os.PathLike) -> bytes:
    return read_bytes(path, "an image")


def _decode(path: str | os.PathLike, data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # OpenCV's own limits, for formats whose size is not looked up here
        image = None
    if image is None:
        raise _no_image(path, data)
    return image


def _no_image(path: str | os.PathLike, data: bytes) -> UserError:
    return UserError(f"{path} is unreadable ({counted(len(data), 'byte')}); expected {_EXPECTED}")


def _palette_indices(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """The indices of a palette PNG, which OpenCV does not give out."""
    try:
        return np.array(Image.open(io.BytesIO(data)))
    except image_bytes.DAMAGED:
        raise UserError(f"{path} is unreadable ({counted(len(data), 'byte')}); expected a PNG that is whole") from None


def _require_sound(path: str | os.PathLike, data: bytes) -> None:
    """UserError where an image breaks off, is damaged, or would fill the memory."""
    if image_bytes.truncated(data):
        raise UserError(
            f"{path} is truncated: its {counted(len(data), 'byte')} lack the end of the image; expected a whole file"
        )
    size = image_bytes.size_of(data)
    if size is None:
        raise _no_image(path, data)
    pixels = size.height * size.width
    if pixels * size.sample > _MOST_PIXELS:
        limit = f"at most {_MOST_PIXELS // size.sample:,} in all"
        raise UserError(
            f"{path} has {size.height} x {size.width} pixels (height x width) in {counted(len(data), 'byte')}; "
            f"expected {limit}"
        )
    if data.startswith(image_bytes.PNG):
        _require_whole_png(path, data)
    if pixels > image_bytes.most_pixels(data):
        claim = f"claims {size.height} x {size.width} pixels (height x width)"
        raise UserError(f"{path} {claim}, which its {counted(len(data), 'byte')} cannot hold; expected a whole file")


def _require_whole_png(path: str | os.PathLike, data: bytes) -> None:
    """UserError unless every chunk lies within the file and has its checksum: decoders skip some, or trust a length."""
    for chunk in image_bytes.png_chunks(data):
        if chunk.end > len(data) or chunk.checksum(data) != zlib.crc32(
            memoryview(data)[chunk.start - 4 : chunk.end - 4]
        ):
            raise UserError(
                f"{path} is damaged: its {chunk.name} chunk has a wrong length or checksum; expected a whole PNG"
            )
    kinds = [chunk.kind for chunk in image_bytes.png_chunks(data)]
    if kinds[:1] != [b"IHDR"] or data[25] not in image_bytes.PNG_SAMPLES or kinds[-1] != b"IEND":
        raise _no_image(path, data)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a photo's file says that its pixels do not.

    Attributes:
      orientation: EXIF orientation, 1 to 8; 1 (as it is stored) where the file has none.
      deep: whether a channel has 16 bits.
      depth: bits of a channel that are in use: those by which a deep photo is scaled, or 8.
      damage: libjpeg's warning, "" for a sound photo; libjpeg fills in the pixels that it cannot decode.
    """

    orientation: int
    deep: bool
    depth: int
    damage: str


def facts(path: str | os.PathLike) -> Facts:
    """Reads the facts of a photo that can be read.

    Args:
      path: of the file.

    Returns:
      What the file says.

    Raises:
      UserError: for the same reasons as `read_photo`.
    """
    return facts_of(path, _read(path))


def facts_of(path: str | os.PathLike, data: bytes) -> Facts:
    """Reads the facts of a photo from the bytes of its file, like `facts`.

    Args:
      path: the name of the photo in errors.
      data: the bytes.

    Returns:
      What the file says.

    Raises:
      UserError: for the same reasons as `read_photo`.
    """
    deep, depth = False, 8
    if not data.startswith(image_bytes.JPEG) and not (data.startswith(image_bytes.PNG) and data[24] <= 8):
        image = _colours(path, data)
        deep = image.dtype == np.uint16
        depth = _depth(data, image) if deep else 8
    return Facts(image_bytes.orientation(data), deep, depth, _damage(data))


def _damage(data: bytes) -> str:
    if not data.startswith(image_bytes.JPEG):
        return ""
    try:
        # An eighth of the size: all bits are read, few pixels are computed.
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        return str(error)
    return ""


def orientation(path: str | os.PathLike) -> int:
    """The EXIF orientation of a photo.

    Args:
      path: of its file.

    Returns:
      1 to 8; 1 (as it is stored) where the file has none or cannot be read.
    """
    try:
        return image_bytes.orientation(_read(path))
    except UserError:
        return 1


def resize_photo(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a photo: area averages when both sides shrink, bilinear otherwise.

    Args:
      image: uint8 [H, W, 3].
      height: of the result.
      width: of the result.

    Returns:
      uint8 [height, width, 3]; the photo itself where nothing changes.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a label map: nearest neighbour on the pixel centres that `resize_photo` uses.

    Args:
      label: int16 [H, W].
      height: of the result.
      width: of the result.

    Returns:
      int16 [height, width]; the label map itself where nothing changes.
    """
    if label.shape == (height, width):
        return label
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def resize_nearest(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes numbers of pixels, on the pixel centres of `resize_label`; of any type, and as many as there are.

    Args:
      values: [H, W, ...].
      height: of the result.
      width: of the result.

    Returns:
      [height, width, ...]; the values themselves where nothing changes.
    """
    if values.shape[:2] == (height, width):
        return values

    def taken(length: int, of: int) -> np.ndarray:
        places = np.arange(of, dtype=np.float32)[:, None]
        return cv2.resize(places, (1, length), interpolation=cv2.INTER_NEAREST_EXACT)[:, 0].astype(np.int64)

    return values[taken(height, values.shape[0])][:, taken(width, values.shape[1])]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The size of a photo after it is resized to a short side.

    Args:
      height: of the photo.
      width: of the photo.
      short_side: in pixels; 0 = as it is.

    Returns:
      Height and width; the longer side is rounded.

    Raises:
      UserError: the photo would be enlarged to more pixels than fit into memory.
    """
    if short_side == 0:
        return height, width
    scale = short_side / min(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if scale > 1 and size[0] * size[1] > MOST_ENLARGED:
        raise UserError(
            f"a photo of {height} x {width} pixels (height x width) becomes {size[0]} x {size[1]} with "
            f"config.data.short_side={short_side}; expected at most {MOST_ENLARGED:,} pixels: crop the photo or "
            "lower it"
        )
    return size
