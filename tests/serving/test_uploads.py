"""Photos as strangers send them: converted and said, or refused in one line before they are decoded."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.serving import uploads

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb():
    return Image.fromarray(COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_every_type_that_is_named(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    found = uploads.read(encoded(rgb(), kind, **options))
    assert found.image.shape == (12, 16, 3) and found.notes == []
    np.testing.assert_allclose(found.image.astype(int), COLOURS, atol=0 if kind != "JPEG" else 12)
    assert set(uploads.FORMATS) == {"PNG", "BMP", "TIFF", "WEBP", "JPEG"}


def test_grey_cmyk_and_opaque_alpha_are_converted_and_said():
    grey = uploads.read(encoded(rgb().convert("L")))
    assert grey.notes == ["The photo is grey; it was given three equal channels."]
    assert (grey.image == np.asarray(rgb().convert("L"))[..., None]).all()
    red = Image.new("CMYK", (16, 12), (0, 255, 255, 0))
    cmyk = uploads.read(encoded(red, "JPEG", quality=95))
    assert cmyk.notes == ["CMYK was converted to RGB without its colour profile, so colours may be off."]
    assert (cmyk.image[..., 0] > 200).all() and (cmyk.image[..., 1:] < 60).all()
    alpha = uploads.read(encoded(rgb().convert("RGBA")))
    assert alpha.notes == ["The photo has an alpha channel; all of it is opaque, so it was left out."]
    np.testing.assert_array_equal(alpha.image, COLOURS)
    deep = uploads.read(encoded(Image.fromarray(np.full((12, 16), 65535, np.uint16))))
    assert "16 bits were scaled to 8." in deep.notes and (deep.image == 255).all()
    colours = cv2.imencode(".png", np.full((12, 16, 3), 65535, np.uint16))[1].tobytes()
    assert uploads.read(colours).notes == ["16 bits were scaled to 8."]


def test_a_photo_is_turned_as_its_orientation_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert uploads.read(encoded(rgb(), "JPEG", exif=exif)).image.shape == (16, 12, 3)


def png_of(width, height):
    """A PNG that claims a size and holds a row of zeros."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def animated(kind):
    frames = [Image.fromarray(COLOURS // step) for step in (1, 2, 3)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def transparent():
    picture = rgb().convert("RGBA")
    picture.putpixel((3, 3), (0, 0, 0, 0))
    return encoded(picture)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the photo is empty; expected a photo as JPEG, PNG, WebP, TIFF or BMP"),
        (
            b"%PDF-1.7 \x00",
            "the photo (10 bytes) is no picture, or of a type that is not read; expected a photo as JPEG, PNG",
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "the photo (41 bytes) is no picture, or of a type that is not read",
        ),
        (encoded(rgb(), "GIF"), "is no picture, or of a type that is not read"),
        (png_of(60_000, 60_000), "the photo has far more than 50,000,000 pixels; expected 50,000,000 at most"),
        (png_of(10_000, 6000), "the photo has 10000 x 6000 pixels; expected 50,000,000 at most: make it smaller first"),
        (png_of(5000, 5000), "claims 5000 x 5000 pixels (height x width), which its 68 bytes cannot hold"),
        (animated("PNG"), "the photo is a PNG of 3 pictures; expected one: save the picture that you mean"),
        (animated("WEBP"), "the photo is a WEBP of 3 pictures"),
        (animated("TIFF"), "the photo is a TIFF of 3 pictures"),
        (transparent(), "1 of 192 pixels are transparent; expected an opaque photo"),
        (encoded(rgb())[:-40], "the photo is truncated"),
    ],
    ids=["empty", "pdf", "svg", "gif", "bomb", "large", "lie", "apng", "webp", "pages", "transparent", "truncated"],
)
def test_refused(data, said, monkeypatch):
    def never(*_):
        raise AssertionError("decoded")

    if "expected" in said and "transparent" not in said:
        monkeypatch.setattr(images, "_decode", never)
    with pytest.raises(UserError) as caught:
        uploads.read(data)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_too_many_bytes():
    with pytest.raises(UserError, match=r"^the photo has more than 32 MB; expected a smaller file: save it as JPEG$"):
        uploads.read(bytes(uploads.MOST_BYTES + 1))
