import numpy as np
import pytest
from PIL import Image

from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.kinds.voc import VocSource
from mdp_jax.data.sources import check_source
from mdp_jax.errors import UserError
from tests.data.fixtures import write_png
from tests.data.official import VOC_AUG, VOC_TRAIN, VOC_VAL, make_voc, voc_colours, write_palette_png


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path)


def _open(root, split="train", train_list="train_aug") -> VocSource:
    return VocSource(base.voc(train_list=train_list), str(root.parents[1]), split)


def _names(source) -> list[str]:
    return [source.describe(i).removesuffix(".jpg") for i in range(len(source))]


def _write_list(root, name: str, *lines: str) -> None:
    (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(lines))


def test_classes_and_palette(voc):
    source = _open(voc)
    names = "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person"
    assert source.classes == (*names.split(), "pottedplant", "sheep", "sofa", "train", "tvmonitor")
    np.testing.assert_array_equal(source.palette, voc_colours()[:21], strict=True)


def test_labels_are_the_indices_of_the_palette(voc):
    mask = np.zeros((60, 80), np.uint8)
    mask[:20], mask[20:40], mask[40:, :30] = 20, 255, 7
    expected = np.zeros((60, 80), np.int16)
    expected[:20], expected[20:40], expected[40:, :30] = 20, -1, 7
    path = voc / "SegmentationClass" / "2007_000032.png"
    source = _open(voc)
    write_palette_png(path, mask)
    np.testing.assert_array_equal(source[0]["label"], expected, strict=True)
    photo = images.read_photo(voc / "JPEGImages" / "2007_000032.jpg")
    np.testing.assert_array_equal(source[0]["image"], photo, strict=True)
    grey = Image.fromarray(mask)
    grey.putpalette([0, 0, 0] * 256)  # colours do not matter
    grey.save(path)
    np.testing.assert_array_equal(source[0]["label"], expected, strict=True)
    write_png(path, mask)
    np.testing.assert_array_equal(source[0]["label"], expected, strict=True)


@pytest.mark.parametrize(
    ("split", "train_list", "expected"),
    [
        ("train", "train", VOC_TRAIN),
        ("train", "trainval", VOC_TRAIN + VOC_VAL),
        ("train", "train_aug", VOC_TRAIN + VOC_AUG),
        ("val", "train", VOC_VAL),
        ("val", "train_aug", VOC_VAL),
    ],
)
def test_lists(voc, split, train_list, expected):
    assert _names(_open(voc, split, train_list)) == list(expected)


@pytest.mark.parametrize("layout", ["aug", "train_aug", "trainaug"])
def test_sbd_in_each_layout(tmp_path, layout):
    root = make_voc(tmp_path, "aug" if layout == "aug" else "train_aug")
    if layout == "trainaug":
        (root / "ImageSets/Segmentation/train_aug.txt").unlink()
        _write_list(root, "trainaug", *VOC_TRAIN, "", *VOC_AUG)
    source = _open(root)
    assert _names(source) == list(VOC_TRAIN + VOC_AUG)
    own = 4 if layout == "aug" else 0
    folders = [source.files(i)[1].parent.name for i in range(7)]
    assert folders == ["SegmentationClass"] * own + ["SegmentationClassAug"] * (7 - own)
    check_source(source, 7)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda r: r.rename(r.parent / "VOC2007"),
            r"VOC2012 of dataset 'voc' is no folder; .*VOCdevkit holds VOC2007$",
        ),
        (
            lambda r: (r / "JPEGImages").rename(r / "x"),
            r"no JPEGImages; expected JPEGImages, Segm.*holds Annotations, Im",
        ),
        (
            lambda r: _write_list(r, "train", "2007_000032", "", "2007_000099", "2007_000100"),
            r"train\.txt line 3 names 2007_000099; .*JPEGImages/2007_000099\.jpg, .*holds for 2 of the list's 3 names",
        ),
        (
            lambda r: _write_list(r, "train", "2012_004331"),
            r"train\.txt line 1 .*SegmentationClass/2012_004331\.png, which",
        ),
        (lambda r: _write_list(r, "train", *VOC_TRAIN, "2007_000032"), r"line 5 names 2007_000032 as line 1 does"),
        (
            lambda r: _write_list(r, "aug", *VOC_AUG, *VOC_VAL),
            r"aug\.txt line 4 names 2007_000033, as val\.txt .*\(2 such\)",
        ),
        (
            lambda r: _write_list(r, "aug", VOC_TRAIN[0]),
            r"aug\.txt line 1 names 2007_000032, as train\.txt does \(1 such\)",
        ),
        (lambda r: (r / "SegmentationClassAug").rename(r / "x"), r"SegmentationClassAug is no folder; .*VOC2012 holds"),
        (
            lambda r: (r / "ImageSets/Segmentation/val.txt").unlink(),
            r"val\.txt is missing; .*Segmentation holds aug\.txt, t",
        ),
        (lambda r: (r / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe"), r"val\.txt is not UTF-8"),
    ],
)
def test_errors_on_opening(voc, spoil, message):
    spoil(voc)
    with pytest.raises(UserError, match=message) as error:
        _open(voc)
    assert "\n" not in str(error.value)


def test_no_list_of_sbd(tmp_path):
    with pytest.raises(
        UserError, match=r"no list with the photos of SBD; expected one of aug\.txt, .*train_list=train"
    ):
        _open(make_voc(tmp_path, aug=""))


def test_wrong_split_or_list(voc):
    with pytest.raises(UserError, match="dataset 'voc' has no labelled split 'test'; expected train or val"):
        _open(voc, "test")
    with pytest.raises(UserError, match="train_list 'all'; expected one of train, trainval, train_aug"):
        _open(voc, train_list="all")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_palette_png(path, np.full((60, 80), 21)), r"32\.png holds id 21; expected 0 to 20 or 255"),
        (lambda path: write_palette_png(path, np.zeros((80, 60))), r"32\.png is 80 x 60 .*; expected 60 x 80"),
        (lambda path: write_png(path, np.zeros((60, 80, 3))), r"32\.png is a RGB PNG of 8 bits"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"32\.png is truncated"),
    ],
)
def test_errors_on_reading(voc, write, message):
    write(voc / "SegmentationClass" / "2007_000032.png")
    with pytest.raises(UserError, match=message):
        _open(voc)[0]


def test_real_photos(shared_data):
    root = shared_data / "official-layouts" / "VOCdevkit" / "VOC2012"
    for split in ("train", "val"):
        source = _open(root, split, "train")
        assert len(source) == 26
        for i in range(26):
            photo, mask = source.files(i)
            stored = np.asarray(Image.open(mask)).astype(int)
            np.testing.assert_array_equal(source[i]["label"], np.where(stored == 255, -1, stored))
            assert source[i]["image"].shape == (*stored.shape, 3)
            assert photo.stem == mask.stem
