"""What the bytes of an image say, mostly of a PNG or a JPEG, without decoding its pixels."""

import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from PIL import Image

warnings.filterwarnings("ignore", "Corrupt EXIF data")  # such a photo is as it is stored
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the size is looked at here
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"  # how the files begin
TIFF = (b"II", b"MM")
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type
PALETTE = 3  # a PNG's colour type
_PNG_HEADER = 33  # bytes to the end of the first chunk
_JPEG_APP1, _JPEG_SCAN, _JPEG_END = 0xE1, 0xDA, 0xD9
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # of those that begin a segment, and the end
_JPEG_TABLES = (0xC4, 0xC8, 0xCC)  # among the numbers of frame headers
_JPEG_HUFFMAN = range(0xC0, 0xC8)  # frame headers of scans whose pixels take a number of bits that has a lower bound
_MOST_DEFLATED = 1032  # bytes that one byte of a PNG's compressed pixels can become
_JPEG_PIXELS = 512  # that one byte of a JPEG can become: a block of 64 takes a bit at least
_ORIENTATION = 0x0112  # EXIF
_BITS, _PHOTOMETRIC, _WHITE_IS_0 = 0x0102, 0x0106, 0  # tags of TIFF, and a value of the second
_NETPBM_HEADER = 4096  # bytes that its numbers are looked for in
# What Pillow raises for bytes that are no image, or a damaged one. The RuntimeError is of an AVIF.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, Image.DecompressionBombError)


class Size(NamedTuple):
    """What a header claims: height, width and bytes of a sample."""

    height: int
    width: int
    sample: int = 1


class Chunk(NamedTuple):
    """A chunk of a PNG: its kind, where its content starts, and where the chunk ends with its checksum."""

    kind: bytes
    start: int
    end: int

    @property
    def name(self) -> str:
        """Its kind, as it is shown in messages."""
        return repr(self.kind.decode("latin-1"))

    def content(self, data: bytes) -> bytes:
        """The bytes between its kind and its checksum, of the file's."""
        return data[self.start : self.end - 4]

    def checksum(self, data: bytes) -> int:
        """The CRC-32 of kind and content that the file states."""
        return int.from_bytes(data[self.end - 4 : self.end])


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG up to its end, and the first one that leads out of the file; nothing for other data."""
    at = len(PNG) if data.startswith(PNG) else len(data)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = Chunk(kind, at + 8, at + length + 12)
        yield chunk
        if kind == b"IEND":
            return
        at = chunk.end


def most_pixels(data: bytes) -> float:
    """The number of pixels that the bytes of an image can hold at most; infinity where that is not known."""
    if data.startswith(PNG):
        packed = sum(chunk.end - chunk.start - 4 for chunk in png_chunks(data) if chunk.kind == b"IDAT")
        return packed * _MOST_DEFLATED * 8 // (data[24] * PNG_SAMPLES[data[25]])
    frame = next((marker for marker, _ in jpeg_markers(data) if _is_frame(marker)), 0)
    return len(data) * _JPEG_PIXELS if frame in _JPEG_HUFFMAN else float("inf")


def size_of(data: bytes) -> Size | None:
    """The size of an image as its header says, without decoding it; None where nobody knows the format."""
    if data.startswith(PNG):
        if len(data) < _PNG_HEADER:
            return None
        width, height = struct.unpack(">II", data[16:24])
        return Size(height, width, 2 if data[24] == 16 else 1)
    for marker, at in jpeg_markers(data):
        if _is_frame(marker) and at + 7 <= len(data):
            height, width = struct.unpack(">HH", data[at + 3 : at + 7])
            return Size(height, width)
    if data.startswith(JPEG):
        return Size(0, 0)  # without a frame; the decoder says so
    try:
        with Image.open(io.BytesIO(data)) as header:
            return Size(header.height, header.width)
    except DAMAGED:
        return None


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in _JPEG_TABLES


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Every marker of a JPEG to the end of the image, and where its content begins; nothing for other data."""
    at = 2 if data.startswith(JPEG) else len(data)
    while found := _JPEG_MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        yield marker, at
        if marker == _JPEG_END:
            return
        # Over the segment, which may hold a thumbnail. Of the data of a scan, which follows its segment, the pattern
        # meets nothing: a byte FF in it is followed by 00 or by a restart marker.
        at += int.from_bytes(data[at : at + 2])


def truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG breaks off: some versions of OpenCV fill the rest with grey and say nothing.

    What stands behind the end, as the video of a moving photo, does not matter.
    """
    if data.startswith(JPEG):
        return not any(marker == _JPEG_END for marker, _ in jpeg_markers(data))
    return data.startswith(PNG) and b"IEND" not in data


def is_lossy_webp(data: bytes) -> bool:
    """Whether the bytes are a WebP whose colours are not exact."""
    at = 12 if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else len(data)
    while at + 8 <= len(data):
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return data[at : at + 4] == b"VP8 "
        # A profile of colours or an alpha channel, of any length, may stand before the picture.
        at += 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
    return False


def stretched(data: bytes) -> str:
    """What a grey image that is no PNG is, where a decoder gives greys in place of its values; "" where it gives those.

    Values of fewer than 8 bits are stretched over 0..255, and so are those of a Netpbm file as text. A BMP may have a
    table of greys, and a TIFF may be a negative.
    """
    if data.startswith(b"P2"):
        words = re.sub(rb"#[^\r\n]*", b"", data[:_NETPBM_HEADER]).split()
        return "" if words[3:4] == [b"255"] else "Netpbm file as text whose largest value is not 255"
    try:
        with Image.open(io.BytesIO(data)) as header:
            tags, mode, name = getattr(header, "tag_v2", None), header.mode, header.format
            bits = 8 if tags is None else min(tags.get(_BITS, (1,)))
            turned_over = tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_0
    except DAMAGED:
        return ""
    if mode == "1" or bits < 8:
        return f"{name} of {1 if mode == '1' else bits} bits"
    if turned_over:
        return "TIFF whose 0 is white, as in a negative"
    return "BMP with a palette" if (mode, name) == ("P", "BMP") else ""


def orientation(data: bytes) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (as it is stored) where the bytes have none, or a wrong one.

    A TIFF has it as a tag, and an AVIF as properties of the picture.
    """
    tags: Mapping[int, Any] = (exif := Image.Exif())
    try:
        if data.startswith((JPEG, PNG)):
            exif.load(_exif(data))
        else:
            # Not by getexif(), which goes by XMP too, as neither OpenCV does nor viewers do.
            with Image.open(io.BytesIO(data)) as header:
                exif.load(header.info.get("exif", b""))
                tags = getattr(header, "tag_v2", exif)
        found = tags.get(_ORIENTATION, 1)
    except DAMAGED:
        return 1
    return found if found in range(1, 9) else 1


def _exif(data: bytes) -> bytes:
    """The EXIF segment of a JPEG or the chunk of a PNG, which OpenCV goes by; b"" where there is none."""
    for marker, at in jpeg_markers(data):
        if marker == _JPEG_SCAN:
            break
        if marker == _JPEG_APP1 and data[at + 2 :].startswith(b"Exif"):
            return data[at + 2 : at + int.from_bytes(data[at : at + 2])]
    return next((chunk.content(data) for chunk in png_chunks(data) if chunk.kind == b"eXIf"), b"")
