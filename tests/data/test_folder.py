import io
import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.folder import FolderPhotos, FolderSource
from mdp_jax.errors import UserError
from tests.data.fixtures import write_folder, write_jpeg, write_png


def _config(root: str = "set") -> ConfigDict:
    return base.folder("mine", root)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set")


def _open(folder, split: str = "train") -> FolderSource:
    return FolderSource(_config(), str(folder.parent), split)


def test_reads_photos_and_masks_in_order(folder):
    source = _open(folder)
    assert (source.name, source.classes, len(source)) == ("mine", ("sky", "tree", "road"), 4)
    assert [source.describe(i) for i in range(4)] == ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg"]
    mask = np.full((20, 24), 2)
    mask[:5] = 255
    write_png(folder / "masks" / "train" / "p1.png", mask)
    sample = source[1]
    np.testing.assert_array_equal(sample["image"], images.read_photo(folder / "images" / "train" / "p1.jpg"))
    np.testing.assert_array_equal(sample["label"], np.where(mask == 255, -1, 2).astype(np.int16), strict=True)


def test_photos_without_labels(tmp_path):
    folder = tmp_path / "set" / "images" / "train"
    folder.mkdir(parents=True)
    for name, shade in (("b.jpg", 9), ("a.jpg", 200)):
        write_jpeg(folder / name, np.full((5, 7, 3), shade))
    source = FolderPhotos(_config(), str(tmp_path), "train")
    assert (source.name, source.classes, source.palette, len(source)) == ("mine", (), None, 2)
    assert (source.describe(0), source.files(1)) == ("a.jpg", (folder / "b.jpg",))
    sample = source[0]
    assert np.abs(sample["image"].astype(int) - 200).max() < 3
    np.testing.assert_array_equal(sample["label"], np.full((5, 7), -1, np.int16), strict=True)
    with pytest.raises(UserError, match=r"images/val is no folder"):
        FolderPhotos(_config(), str(tmp_path), "val")


def test_absolute_root_wins_over_data_dir(folder):
    assert len(FolderSource(_config(str(folder)), "/nowhere", "val")) == 4


def test_other_files_do_not_matter_and_suffixes_may_be_capital(folder):
    (folder / "images" / "train" / "Thumbs.db").write_bytes(b"x")
    (folder / "images" / "train" / "._p1.jpg").write_bytes(b"x")
    (folder / "images" / "train" / "p0.jpg").rename(folder / "images" / "train" / "p0.JPEG")
    source = _open(folder)
    assert [source.describe(i) for i in range(4)] == ["p0.JPEG", "p1.jpg", "p2.jpg", "p3.jpg"]
    assert source[0]["image"].shape == (20, 24, 3)


def test_windows_class_file(folder):
    (folder / "classes.txt").write_bytes("\ufeffsky\r\ntree \r\nroad\r\n".encode())
    assert _open(folder).classes == ("sky", "tree", "road")


def test_255_classes_fit(folder):
    (folder / "classes.txt").write_text("\n".join(map(str, range(255))))
    write_png(folder / "masks" / "train" / "p0.png", np.full((20, 24), 254))
    assert _open(folder)[0]["label"].max() == 254


def _remove(folder, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.rename(f.parent / "other"), r"/set of dataset 'mine' is no folder; expected images, masks and"),
        (lambda f: (f / "images" / "train").rename(f / "images" / "x"), r"images/train is no folder; expected .*\.jpg"),
        (lambda f: (f / "masks" / "train").rename(f / "masks" / "x"), r"masks/train is no folder; expected .*\.png"),
        (lambda f: _remove(f, "images/train/*"), r"images/train has no such file: expected files \.jpg, \.jpeg, \.png"),
        (lambda f: _remove(f, "masks/train/*"), r"masks/train has no such file: expected files \.png"),
        (lambda f: _remove(f, "masks/train/p2.png"), r"images/train/p2\.jpg has no mask; expected .*train/p2\.png"),
        (lambda f: _remove(f, "images/train/p2.jpg"), r"masks/train/p2\.png has no photo; expected .*train/p2\.jpg"),
        (lambda f: write_jpeg(f / "images" / "train" / "p0.jpeg", np.zeros((9, 9, 3))), r"p0\.jpg has the name of p0"),
        (
            lambda f: _remove(f, "classes.txt"),
            r"set of dataset 'mine' has no classes\.txt; expected .*; .*/set holds images, masks",
        ),
        (lambda f: (f / "classes.txt").write_text(""), r"classes\.txt is empty"),
        (lambda f: (f / "classes.txt").write_text("a\n \nb"), r"classes\.txt line 2 is empty"),
        (lambda f: (f / "classes.txt").write_text("a\nb\na"), r"classes\.txt line 3 repeats class 'a'"),
        (lambda f: (f / "classes.txt").write_bytes(b"\xff\xfe\x00"), r"classes\.txt is not UTF-8"),
        (
            lambda f: (f / "classes.txt").write_text("\n".join(map(str, range(256)))),
            r"256 classes; expected at most 255",
        ),
    ],
)
def test_errors_on_opening(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        _open(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: write_png(f / "masks" / "train" / "p0.png", np.zeros((24, 20))), "24 x 20 .* expected 20 x 24"),
        (lambda f: write_png(f / "masks" / "train" / "p0.png", np.full((20, 24), 3)), r"p0\.png holds id 3; .* 0 to 2"),
        (
            lambda f: write_png(f / "masks" / "train" / "p0.png", np.full((20, 24), 254)),
            r"holds id 254; expected 0 to 2",
        ),
        (lambda f: write_png(f / "masks" / "train" / "p0.png", np.zeros((20, 24, 3))), "RGB PNG of 8 bits"),
        (lambda f: (f / "masks" / "train" / "p0.png").write_bytes(b"?"), r"masks/train/p0\.png is unreadable"),
        (lambda f: (f / "images" / "train" / "p0.jpg").write_bytes(b"?"), r"images/train/p0\.jpg is unreadable"),
    ],
)
def test_errors_on_reading(folder, spoil, message):
    spoil(folder)
    source = _open(folder)
    with pytest.raises(UserError, match=message) as error:
        source[0]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["1 2 3\n#0a0B0c\n 255  0 7 \n\n", "\ufeff1 2 3\r\n10 11 12\r\n255 0 7"])
def test_colours_of_the_users_own(folder, text):
    (folder / "palette.txt").write_text(text, encoding="utf-8")
    source = _open(folder)
    np.testing.assert_array_equal(source.palette, np.uint8([[1, 2, 3], [10, 11, 12], [255, 0, 7]]), strict=True)
    palette = [*range(256)] * 3
    mask = Image.fromarray(np.full((20, 24), 2, np.uint8))
    mask.putpalette(palette)
    mask.save(folder / "masks" / "train" / "p1.png")  # as mdp predict writes them then
    assert np.all(source[1]["label"] == 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3\n4 5 6\n", r"palette\.txt has 2 lines; expected 3, a colour for each line of classes\.txt"),
        ("", r"palette\.txt has 0 lines"),
        ("1 2 3\n4 5 256\n7 8 9", r"palette\.txt line 2 is '4 5 256'; expected a colour as R G B, .* or as #rrggbb"),
        ("1 2 3\n#12345\n7 8 9", r"line 2 is '#12345'"),
        ("1 2 3\n\n7 8 9", r"line 2 is ''"),
        ("1 2 3\n-1 2 3\n7 8 9", r"line 2 is '-1 2 3'"),
        ("1 2 3\n1.5 2 3\n7 8 9", r"line 2 is '1.5 2 3'"),
        ("1 2 3\n٣ 2 3\n7 8 9", r"line 2 is "),
    ],
)
def test_wrong_colours_are_named(folder, text, said):
    (folder / "palette.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        _open(folder)


def _moved(folder, kind: str, name: str, to: str) -> None:
    target = folder / kind / "train" / to
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / kind / "train" / name).rename(target)


def test_nested_folders_other_suffixes_and_what_is_passed_over(folder):
    _moved(folder, "images", "p1.jpg", "Köln/a/p0.jpg")  # the name of another photo, in a folder of its own
    _moved(folder, "masks", "p1.png", "Köln/a/p0.png")
    photo, mask = images.read_photo(folder / "images/train/p2.jpg"), images.read_mask(folder / "masks/train/p2.png")
    Image.fromarray(photo).save(folder / "images/train/p2.webp", lossless=True)
    Image.fromarray(mask).save(folder / "masks/train/p2.tif")
    for path in ("images/train/p2.jpg", "masks/train/p2.png"):
        (folder / path).unlink()
    others = {
        "images/train/p3.bmp": "of the same name as another file",
        "images/train/p4.heic": "in the format .heic, which is not read",
        "images/train/p5.tif": "without a mask of the same name",
        "images/train/rejected/p6.jpg": "without a mask of the same name",
        "masks/train/Köln/p7.png": "without a photo of the same name",
    }
    for path in others:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"")
    source = _open(folder)
    names = [f"Köln{os.sep}a{os.sep}p0.jpg", "p0.jpg", "p2.webp", "p3.jpg"]
    assert [source.describe(i) for i in range(len(source))] == names
    np.testing.assert_array_equal(source[2]["image"], photo)
    np.testing.assert_array_equal(source[2]["label"], mask)
    assert dict(source.passed_over) == {str(folder / path): why for path, why in sorted(others.items())}
    unlabelled = FolderPhotos(_config(), str(folder.parent), "train")
    assert len(unlabelled) == 6 and list(unlabelled.passed_over.values()) == [
        "of the same name as another file",
        "in the format .heic, which is not read",
    ]


def test_photos_in_sub_folders_alone_of_which_none_has_a_mask(folder):
    for i in range(4):
        _moved(folder, "images", f"p{i}.jpg", f"city/p{i}.jpg")
        _moved(folder, "masks", f"p{i}.png", f"town/p{i}.png")
    with pytest.raises(UserError, match=r"images/train: no file has a mask of the same name; .* holds city"):
        _open(folder)


def _written(image: np.ndarray, suffix: str) -> bytes:
    """The picture as a file, as Pillow writes it."""
    forms = {".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".jp2": "JPEG2000"} | Image.registered_extensions()
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, forms[suffix])
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", listing.PHOTOS)
def test_photos_of_every_suffix_are_read(folder, suffix):
    for path in (folder / "images" / "train").iterdir():
        path.unlink()
    for i in range(4):
        (folder / "images" / "train" / f"p{i}{suffix.upper()}").write_bytes(
            _written(np.full((20, 24, 3), 90, np.uint8), suffix)
        )
    source = _open(folder)
    assert len(source) == 4 and np.abs(source[3]["image"].astype(int) - 90).max() < 3 and not source.passed_over


@pytest.mark.parametrize("suffix", listing.MASKS)
def test_masks_of_every_suffix_are_exact(folder, suffix):
    mask = np.random.default_rng(1).integers(0, 3, (20, 24)).astype(np.uint8)
    (folder / "masks" / "train" / "p1.png").unlink()
    (folder / "masks" / "train" / f"p1{suffix}").write_bytes(_written(mask, suffix))
    np.testing.assert_array_equal(_open(folder)[1]["label"], mask)
