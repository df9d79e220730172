import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mdp_jax.data import images
from mdp_jax.errors import UserError
from tests.data.fixtures import write_jpeg, write_png

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)


def test_photo_is_rgb(tmp_path):
    write_png(tmp_path / "a.png", NOISE)  # cv2 writes channels as B, G, R
    np.testing.assert_array_equal(images.read_photo(tmp_path / "a.png"), NOISE[..., ::-1], strict=True)


def test_grey_photo_gets_three_channels(tmp_path):
    write_png(tmp_path / "a.png", NOISE[..., 0])
    np.testing.assert_array_equal(images.read_photo(tmp_path / "a.png"), np.stack([NOISE[..., 0]] * 3, -1))


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_jpeg(tmp_path, progressive, keep):
    path = tmp_path / "a.jpg"
    write_jpeg(path, NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert images.read_photo(path).shape == NOISE.shape
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError, match=r"a\.jpg is truncated"):
        images.read_photo(path)


def test_jpeg_cut_before_its_last_two_bytes(tmp_path):
    write_jpeg(tmp_path / "a.jpg", NOISE)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    with pytest.raises(UserError, match=r"a\.jpg is truncated"):
        images.read_photo(tmp_path / "a.jpg")


def test_thumbnail_does_not_hide_a_truncated_jpeg(tmp_path):
    write_jpeg(tmp_path / "a.jpg", NOISE)
    data = (tmp_path / "a.jpg").read_bytes()
    write_jpeg(tmp_path / "thumbnail.jpg", NOISE[:8, :8])
    thumbnail = (tmp_path / "thumbnail.jpg").read_bytes()
    block = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + block + data[2:]
    (tmp_path / "a.jpg").write_bytes(whole)
    assert images.read_photo(tmp_path / "a.jpg").shape == NOISE.shape
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) - 200])
    with pytest.raises(UserError, match=r"a\.jpg is truncated"):
        images.read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("progressive", [0, 1])
def test_what_stands_behind_the_end_of_a_jpeg_does_not_matter(tmp_path, progressive):
    write_jpeg(tmp_path / "a.jpg", NOISE, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    data, whole = (tmp_path / "a.jpg").read_bytes(), images.read_photo(tmp_path / "a.jpg")
    for trailer in (b"\xff\xda", data[: len(data) // 2], np.random.default_rng(0).bytes(300_000)):
        (tmp_path / "a.jpg").write_bytes(data + trailer)
        np.testing.assert_array_equal(images.read_photo(tmp_path / "a.jpg"), whole)
        (tmp_path / "a.jpg").write_bytes(data[:-200])
        with pytest.raises(UserError, match=r"a\.jpg is truncated"):
            images.read_photo(tmp_path / "a.jpg")


def test_photo_is_turned_as_its_exif_orientation_says(tmp_path):
    write_jpeg(tmp_path / "a.jpg", NOISE)
    data, upright = (tmp_path / "a.jpg").read_bytes(), images.read_photo(tmp_path / "a.jpg")
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # 6: the photo's top is its right side
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + orientation + bytes(4)
    block = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "a.jpg").write_bytes(data[:2] + block + data[2:])
    np.testing.assert_array_equal(images.read_photo(tmp_path / "a.jpg"), np.rot90(upright, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_orientation_is_what_opencv_turns_by(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    photo = Image.fromarray(NOISE)
    photo.save(file)
    assert images.orientation(file) == 1
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(file, exif=exif)
        assert images.orientation(file) == orientation
        assert (images.read_photo(file).shape != NOISE.shape) == (orientation >= 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_orientation_that_opencv_does_not_go_by(tmp_path):
    """XMP, and EXIF that is cut short."""
    file = tmp_path / "a.jpg"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(NOISE).save(file, xmp=xmp)
    assert Image.open(file).getexif()[0x0112] == 6
    assert images.orientation(file) == 1 and images.read_photo(file).shape == NOISE.shape
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(file, exif=exif)
    data = file.read_bytes()
    for end in range(len(data)):
        file.write_bytes(data[:end])
        assert images.orientation(file) in (1, 6)


def test_truncated_png(tmp_path):
    write_png(tmp_path / "a.png", NOISE[..., 0])
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    for read in (images.read_photo, images.read_mask):
        with pytest.raises(UserError, match=r"a\.png is truncated"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_unreadable(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (images.read_photo, images.read_mask):
        with pytest.raises(UserError, match=rf"a\.jpg is unreadable \({len(content)} bytes\)"):
            read(tmp_path / "a.jpg")


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r"a\.jpg cannot be read \(No such file"):
        images.read_photo(tmp_path / "a.jpg")


def test_mask_values_are_kept(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_png(tmp_path / "a.png", mask)
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.png"), mask, strict=True)


def _palette_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"\0\0\1\0\1\0")
    chunks = chunk(b"IHDR", header) + chunk(b"PLTE", bytes(6)) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("write", "form"),
    [
        (lambda path: path.write_bytes(_palette_png()), "palette PNG of 8 bits"),
        (lambda path: write_png(path, NOISE), "RGB PNG of 8 bits"),
        (lambda path: write_png(path, NOISE[..., [0, 1, 2, 0]]), "RGBA PNG of 8 bits"),
        (lambda path: write_png(path, NOISE[..., 0], dtype=np.uint16), "grey PNG of 16 bits"),
        (lambda path: write_png(path, NOISE[..., 0], cv2.IMWRITE_PNG_BILEVEL, 1), "grey PNG of 1 bits"),
        (lambda path: write_jpeg(path, NOISE), "3 channel"),
    ],
)
def test_mask_of_another_form(tmp_path, write, form):
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"a\.png (is a|has) {form}.*one grey channel of 8 bits"):
        images.read_mask(tmp_path / "a.png")


def test_resize_photo_averages_when_shrinking_and_interpolates_when_enlarging():
    image = np.array([[[0, 0, 0], [10, 20, 30]], [[30, 40, 50], [40, 60, 80]]], np.uint8)
    np.testing.assert_array_equal(images.resize_photo(image, 1, 1), [[[20, 30, 40]]])
    row = np.array([[[0, 0, 0], [100, 40, 8]]], np.uint8)  # centres of 4 pixels lie at -1/4, 1/4, 3/4, 5/4 of the old
    expected = [[[0, 0, 0], [25, 10, 2], [75, 30, 6], [100, 40, 8]]]
    np.testing.assert_array_equal(images.resize_photo(row, 1, 4), expected)


def test_resize_label_takes_the_nearest_pixel_centre():
    for _ in range(300):
        height, width, new_height, new_width = RNG.integers(1, 60, 4).tolist()
        rows, columns = np.indices((height, width))
        picked_rows = images.resize_label(rows.astype(np.int16), new_height, new_width)[:, 0]
        picked_columns = images.resize_label(columns.astype(np.int16), new_height, new_width)[0]
        for picked, old, new in ((picked_rows, height, new_height), (picked_columns, width, new_width)):
            exact = (np.arange(new) + 0.5) * old / new - 0.5
            assert np.abs(picked - exact).max() <= 0.5 + 1e-2  # either neighbour where two are equally near


def test_resize_label_keeps_int16_values_and_ignore():
    label = np.array([[-1, 300], [32766, 5]], np.int16)
    expected = np.repeat(np.repeat(label, 2, 0), 2, 1)
    np.testing.assert_array_equal(images.resize_label(label, 4, 4), expected, strict=True)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((256, 341), 0, (256, 341)),
        ((256, 341), 96, (96, 128)),
        ((341, 256), 96, (128, 96)),
        ((50, 100), 75, (75, 150)),
    ],
)
def test_short_side_size(size, short_side, expected):
    assert images.short_side_size(*size, short_side) == expected


def _claiming(data: bytes, height: int, width: int) -> bytes:
    """A JPEG or PNG whose header is changed to another size."""
    if data.startswith(b"\x89PNG"):
        header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    frame = min(at for at in (data.find(b"\xff\xc0\x00"), data.find(b"\xff\xc2\x00")) if at >= 0)
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("a.png", ()),
        ("a.jpg", ()),
        ("a.jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ("a.jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    ],
)
def test_huge_photo_is_not_decoded(tmp_path, monkeypatch, name, parameters):
    path = tmp_path / name
    (write_png if name == "a.png" else write_jpeg)(path, NOISE, *parameters)
    data = path.read_bytes()
    path.write_bytes(_claiming(data, 30_000, 40_000))
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(
        UserError, match=rf"{name} has 30000 x 40000 pixels .* in {len(data)} bytes; expected at most 134,"
    ):
        images.read_photo(path)


def test_size_is_found_behind_other_segments_and_fill_bytes(tmp_path):
    write_jpeg(tmp_path / "a.jpg", NOISE)
    data = _claiming((tmp_path / "a.jpg").read_bytes(), 65_000, 65_000)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 14) + b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01\x00\x00\x00"
    (tmp_path / "a.jpg").write_bytes(data[:2] + thumbnail + b"\xff\xff" + data[2:])
    with pytest.raises(UserError, match=r"a\.jpg has 65000 x 65000 pixels"):
        images.read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_the_largest_size_that_is_read(tmp_path, monkeypatch, name):
    (write_png if name == "a.png" else write_jpeg)(tmp_path / name, NOISE)
    monkeypatch.setattr(images, "_MOST_PIXELS", 40 * 50)
    assert images.read_photo(tmp_path / name).shape == (40, 50, 3)
    monkeypatch.setattr(images, "_MOST_PIXELS", 40 * 50 - 1)
    with pytest.raises(UserError, match="has 40 x 50 pixels"):
        images.read_photo(tmp_path / name)


def test_huge_mask_is_not_decoded(tmp_path, monkeypatch):
    for palette, data in ((True, _palette_png()), (False, cv2.imencode(".png", NOISE[..., 0])[1].tobytes())):
        (tmp_path / "a.png").write_bytes(_claiming(data, 30_000, 40_000))
        with pytest.raises(UserError, match=r"a\.png has 30000 x 40000 pixels"):
            images.read_mask(tmp_path / "a.png", palette)


def test_huge_image_of_another_format(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"P6 40000 40000 255\n" + bytes(100))
    with pytest.raises(UserError, match=r"a\.jpg is unreadable \(119 bytes\)"):
        images.read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_a_palette(tmp_path, bits):
    mask = RNG.integers(0, 2**bits, (9, 11)).astype(np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(RNG.integers(0, 256, 768).tolist())
    picture.save(tmp_path / "a.png", bits=bits)
    assert (tmp_path / "a.png").read_bytes()[24:26] == bytes((bits, 3))
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.png", palette=True), mask, strict=True)
    with pytest.raises(UserError, match=f"palette PNG of {bits} bits"):
        images.read_mask(tmp_path / "a.png")


def test_broken_palette_mask(tmp_path):
    whole = _palette_png()
    at = whole.index(b"IDAT") + 6
    (tmp_path / "a.png").write_bytes(whole[:at] + b"\xff\xff\xff" + whole[at + 3 :])
    with pytest.raises(UserError, match=r"a\.png is damaged: its 'IDAT' chunk"):
        images.read_mask(tmp_path / "a.png", palette=True)
    (tmp_path / "a.png").write_bytes(whole[:at])
    with pytest.raises(UserError, match=r"a\.png is truncated"):
        images.read_mask(tmp_path / "a.png", palette=True)


def test_other_forms_are_refused_where_palettes_are_allowed(tmp_path):
    write_png(tmp_path / "a.png", NOISE)
    with pytest.raises(UserError, match="RGB PNG of 8 bits"):
        images.read_mask(tmp_path / "a.png", palette=True)
    write_png(tmp_path / "a.png", NOISE[..., 0])
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.png", palette=True), NOISE[..., 0], strict=True)
