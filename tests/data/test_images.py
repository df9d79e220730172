import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_photos_of_all_formats_are_turned_as_people_see_them(tmp_path, suffix):
    stored, file = np.zeros((40, 60, 3), np.uint8), tmp_path / f"a{suffix}"
    stored[:20, :30], stored[:20, 30:], stored[20:, :30] = (250, 20, 20), (20, 250, 20), (20, 20, 250)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        said = {"tiffinfo": {0x0112: orientation}} if suffix == ".tif" else {"exif": exif, "quality": 95}
        Image.fromarray(stored).save(file, **said)
        with Image.open(file) as photo:  # Pillow turns a TIFF by itself
            seen = np.asarray(ImageOps.exif_transpose(photo).convert("RGB"), np.int64)
        found = images.read_photo(file)
        assert found.shape == seen.shape and np.abs(found - seen).mean() < 5
        assert images.orientation(file) == images.facts(file).orientation == orientation


def test_a_damaged_avif_is_said_to_be_one(tmp_path):
    file = tmp_path / "a.avif"
    Image.fromarray(NOISE).save(file)
    data = file.read_bytes()
    for box in (b"iloc", b"pitm", b"ispe", b"av01"):  # where its picture lies, which it is, its size, how it is coded
        file.write_bytes(data.replace(box, b"gone"))
        with pytest.raises(UserError, match=r"a\.avif is unreadable .*; expected an image file that is whole"):
            images.read_photo(file)
        assert images.orientation(file) == 1


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_orientation_of_xmp_turns_no_photo(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(NOISE).save(file, xmp=xmp)
    assert images.orientation(file) == 1 and images.read_photo(file).shape == NOISE.shape


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
        (lambda path: path.write_bytes(cv2.imencode(".bmp", NOISE)[1].tobytes()), "3 channel"),
    ],
)
def test_mask_of_another_form(tmp_path, write, form):
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"a\.png (is a|has) {form}.*one grey channel of 8 bits"):
        images.read_mask(tmp_path / "a.png")


def _tiff(bits: int, photometric: int, pixels: bytes) -> bytes:
    """Two rows of pixels that fill whole bytes."""
    width = 4 * len(pixels) // bits
    short = [(0x100, width), (0x101, 2), (0x102, bits), (0x103, 1), (0x106, photometric), (0x111, 8), (0x115, 1)]
    tags = [*short, (0x116, 2), (0x117, len(pixels))]
    rows = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return struct.pack("<4sI", b"II*\0", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + rows + bytes(4)


def _saved(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def _table_of_greys() -> Image.Image:
    picture = Image.fromarray(np.uint8([[0, 1], [2, 1]])).convert("P")
    picture.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160] + [0] * 759)
    return picture


_BILEVEL = Image.fromarray(np.array([[False, True], [True, False]]))


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (_saved(_BILEVEL, "TIFF"), "TIFF of 1 bits"),
        (_saved(_BILEVEL, "BMP"), "BMP of 1 bits"),
        (_saved(_BILEVEL, "PPM"), "PPM of 1 bits"),
        (_tiff(4, 1, bytes([0x12, 0x21])), "TIFF of 4 bits"),
        (_tiff(8, 0, bytes([0, 1, 1, 0])), "TIFF whose 0 is white"),
        (_saved(_table_of_greys(), "BMP"), "BMP with a palette"),
        (b"P2 # three\n2 2\n3\n0 1 2 3\n", "Netpbm file as text whose largest value is not 255"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_masks_whose_values_a_decoder_changes(tmp_path, data, form):
    """With two classes, 1 would become 255, which is ignored."""
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.tif is a {form}.*one grey channel of 8 bits that holds class ids"):
        images.read_mask(tmp_path / "a.tif")


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PPM"])
def test_masks_of_other_formats_are_kept(tmp_path, form):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    (tmp_path / "a.tif").write_bytes(_saved(Image.fromarray(mask), form))
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.tif"), mask, strict=True)
    (tmp_path / "a.tif").write_bytes(_tiff(8, 1, bytes([0, 1, 2, 255])))
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.tif"), [[0, 1], [2, 255]])
    (tmp_path / "a.tif").write_bytes(b"P2 2 2 # it is text\n255\n0 1 2 255\n")
    np.testing.assert_array_equal(images.read_mask(tmp_path / "a.tif"), [[0, 1], [2, 255]])


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_a_jpeg_is_no_mask(tmp_path, shape):
    write_jpeg(tmp_path / "a.png", np.zeros(shape))
    with pytest.raises(UserError, match=r"a\.png is a JPEG, whose values are not exact.*expected a mask as PNG"):
        images.read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("beside", [{}, {"icc_profile": bytes(3145)}, {"exif": b"Exif\0\0" + bytes(99)}, {"alpha": 1}])
def test_a_lossy_webp_is_no_mask_whatever_stands_before_its_picture(tmp_path, lossless, beside):
    """A profile of colours, or an alpha channel; in a lossless one the colours are those that were drawn."""
    photo = Image.fromarray(NOISE)
    if beside.get("alpha"):
        photo.putalpha(Image.fromarray(NOISE[..., 0]))
    photo.save(tmp_path / "a.webp", lossless=lossless, exact=True, **beside)
    if lossless:
        np.testing.assert_array_equal(images.read_values(tmp_path / "a.webp").values, NOISE)
        return
    with pytest.raises(UserError, match=r"a\.webp is a lossy WebP, whose values are not exact"):
        images.read_values(tmp_path / "a.webp")


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


@pytest.mark.parametrize("size", [(3, 5), (14, 9), (7, 6)])
def test_resize_nearest_takes_the_pixels_of_resize_label(size):
    values = RNG.integers(0, 256, (7, 6, 600), dtype=np.uint8)
    found = images.resize_nearest(values, *size)
    assert found.dtype == np.uint8
    for channel in (0, 599):
        expected = images.resize_label(values[..., channel].astype(np.int16), *size)
        np.testing.assert_array_equal(found[..., channel], expected)


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
        UserError, match=rf"{name} has 30000 x 40000 pixels .* in {len(data):,} bytes; expected at most 134,"
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


DEEP = RNG.integers(0, 1 << 16, (12, 16, 3)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_photo_of_16_bits_is_scaled_by_its_depth(tmp_path, suffix, bits):
    """12 bits in the lower ones of 16 used to lose the low byte: such photos were nearly black."""
    deep = DEEP >> (16 - bits)
    deep[0, 0] = (1 << bits) - 1
    cv2.imwrite(str(tmp_path / f"a{suffix}"), deep[..., ::-1])
    found = images.read_photo(tmp_path / f"a{suffix}")
    expected = np.rint(deep * (255 / ((1 << bits) - 1))).astype(np.uint8)
    np.testing.assert_array_equal(found, expected, strict=True)
    facts = images.facts(tmp_path / f"a{suffix}")
    assert (facts.deep, facts.depth) == (True, bits)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_grey_photo_of_16_bits(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), DEEP[..., 0])
    expected = np.rint(DEEP[..., 0] / 257).astype(np.uint8)
    np.testing.assert_array_equal(images.read_photo(tmp_path / f"a{suffix}"), np.stack([expected] * 3, -1))


def _with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk behind its header."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


def test_a_depth_that_the_file_states(tmp_path):
    dark = DEEP >> 8  # of a scene without light, in a file of 16 bits
    data = cv2.imencode(".png", dark)[1].tobytes()
    for stated, largest in ((16, 65535), (12, 4095)):
        (tmp_path / "a.png").write_bytes(_with_chunk(data, b"sBIT", bytes([stated] * 3)))
        expected = np.rint(dark[..., ::-1] * (255 / largest)).astype(np.uint8)
        np.testing.assert_array_equal(images.read_photo(tmp_path / "a.png"), expected)
    upper = (dark << 8) & 0xFFF0  # as the PNG specification wants 12 bits to be stored
    (tmp_path / "a.png").write_bytes(_with_chunk(cv2.imencode(".png", upper)[1].tobytes(), b"sBIT", bytes([12] * 3)))
    assert np.abs(images.read_photo(tmp_path / "a.png").astype(int) - (upper[..., ::-1] >> 8)).max() <= 1


def test_a_photo_of_16_bits_is_turned_as_others_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.png", exif=exif)
    assert images.read_photo(tmp_path / "a.png").shape == (16, 12, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_that_are_no_integers_of_8_or_16_bits(tmp_path, dtype):
    Image.fromarray(DEEP[..., 0].astype(dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif (has pixels of \w+; expected integers of 8 or 16|is unreadable)"):
        images.read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mode", "grey", "pixels"), [("L", 7, 2), ("L", 9, 0), ("I;16", 300, 1), ("I;16", 7, 0), ("1", 0, 6)]
)
def test_a_grey_that_a_png_says_is_transparent(tmp_path, mode, grey, pixels):
    values = {
        "L": np.uint8([[7, 1, 2], [3, 4, 7]]),
        "I;16": np.uint16([[300, 1, 2], [3, 4, 44]]),
        "1": np.zeros((2, 3), bool),
    }
    Image.fromarray(values[mode]).save(tmp_path / "a.png", transparency=grey)
    if not pixels:
        assert images.read_photo(tmp_path / "a.png").shape == (2, 3, 3)
        return
    with pytest.raises(UserError, match=rf"a\.png: {pixels} of 6 pixels are transparent; expected an opaque photo"):
        images.read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused_and_opaque_ones_read(tmp_path, mode):
    photo = Image.fromarray(NOISE).quantize(16) if mode == "P" else Image.fromarray(NOISE).convert(mode)
    opaque = {"transparency": bytes([255] * 16)} if mode == "P" else {}
    photo.save(tmp_path / "a.png", **opaque)
    np.testing.assert_array_equal(images.read_photo(tmp_path / "a.png"), np.array(photo.convert("RGB")))
    if mode == "P":
        photo.save(tmp_path / "a.png", transparency=bytes([0] * 16))
    else:
        photo.putalpha(Image.fromarray(NOISE[..., 0]))
        photo.save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: \d+ of 2000 pixels are transparent; expected an opaque photo"):
        images.read_photo(tmp_path / "a.png")


def test_a_photo_in_cmyk(tmp_path):
    smooth = cv2.resize(NOISE[:4, :5], (50, 40))
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    expected = np.array(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
    assert np.abs(images.read_photo(tmp_path / "a.jpg") - expected).max() <= 2


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """(kind, where it starts, where it ends) of the chunks of a PNG, with length and checksum."""
    at, found = 8, []
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], at, end))
        at = end
    return found


@pytest.mark.parametrize("palette", [True, False])
def test_one_flipped_bit_anywhere_in_a_png_is_found(palette):
    picture = Image.fromarray(RNG.integers(0, 4, (9, 11)).astype(np.uint8))
    if palette:
        picture.putpalette(RNG.integers(0, 256, 768).tolist())
    file = io.BytesIO()
    picture.save(file, "png")
    data = _with_chunk(file.getvalue(), b"tEXt", b"Comment\0hello")
    whole = images.decode_mask("a.png", data, palette=True)
    for bit in range(8 * 8, 8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            found = images.decode_mask("a.png", bytes(broken), palette=True)
        except UserError:
            continue
        np.testing.assert_array_equal(found, whole)
    for kind, start, _ in _chunks(data):
        broken = bytearray(data)
        broken[start + 8 - (kind == b"IEND")] ^= 1  # IEND has no content
        with pytest.raises(UserError, match=r"a\.png (is (damaged|unreadable|truncated)|has 9 x 16777227 pixels)"):
            images.decode_mask("a.png", bytes(broken), palette=True)


@pytest.mark.parametrize("kind", [b"PLTE", b"IDAT", b"tEXt", b"iCCP", b"acTL"])
def test_a_length_of_a_chunk_that_lies_is_not_believed(monkeypatch, kind):
    """OpenCV took 4 GiB for 670 bytes."""
    data = _with_chunk(_palette_png(), kind, b"123")
    at = next(start for name, start, _ in _chunks(data) if name == kind)
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(Image, "open", None)
    for length in (0x7FFFFFFF, 0xFFFFFFFF, 4, 1 << 24):
        with pytest.raises(UserError, match=r"a\.png is damaged"):
            images.decode_photo("a.png", data[:at] + struct.pack(">I", length) + data[at + 4 :])


@pytest.mark.parametrize("name", [".png", ".jpg"])
def test_a_size_that_the_bytes_cannot_hold_is_not_believed(monkeypatch, name):
    data = _claiming(cv2.imencode(name, NOISE)[1].tobytes(), 10_000, 10_000)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(UserError, match=r"claims 10000 x 10000 pixels .*, which its [0-9,]+ bytes cannot hold"):
        images.decode_photo("a", data)


@pytest.mark.parametrize("shade", [0, 77])
@pytest.mark.parametrize("channels", [1, 3])
def test_photos_of_one_colour_are_read(shade, channels):
    """They are the smallest files for their size."""
    flat = np.full((1500, 2000, channels), shade, np.uint8)
    for suffix, parameters in ((".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]), (".jpg", [cv2.IMWRITE_JPEG_OPTIMIZE, 1])):
        for progressive in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[: 1 + (suffix == ".jpg")]:
            data = cv2.imencode(suffix, flat, parameters + progressive)[1].tobytes()
            assert images.decode_photo("a", data).shape == (1500, 2000, 3)


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".webp", ".ppm", ".gif"])
def test_other_formats_are_read_and_their_size_is_looked_at(tmp_path, monkeypatch, suffix):
    Image.fromarray(NOISE).save(tmp_path / f"a{suffix}")
    assert images.read_photo(tmp_path / f"a{suffix}").shape == NOISE.shape
    monkeypatch.setattr(images, "_MOST_PIXELS", 40 * 50 - 1)
    with pytest.raises(UserError, match="has 40 x 50 pixels"):
        images.read_photo(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("size", [(4, 20_000), (20_000, 4), (1, 10_000)])
def test_a_short_side_that_would_fill_the_memory(size):
    with pytest.raises(UserError, match=r"a photo of \d+ x \d+ pixels .* becomes .*data\.short_side=480"):
        images.short_side_size(*size, 480)
    assert images.short_side_size(3000, 20_000, 480) == (480, 3200)


def test_what_libjpeg_warns_of(tmp_path):
    data = cv2.imencode(".jpg", cv2.resize(NOISE, (500, 400)))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data)
    assert images.facts(tmp_path / "a.jpg").damage == ""
    scan = data.index(b"\xff\xda") + 200
    (tmp_path / "a.jpg").write_bytes(data[:scan] + data[scan + 500 :])
    assert images.read_photo(tmp_path / "a.jpg").shape == (400, 500, 3)
    assert "Corrupt JPEG data" in images.facts(tmp_path / "a.jpg").damage
