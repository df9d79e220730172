import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.kinds.cityscapes import CityscapesSource
from mdp_jax.errors import UserError
from tests.data.fixtures import write_png
from tests.data.official import CITYSCAPES_IDS, make_cityscapes, translated

FORMS = [("labelIds",), ("labelTrainIds",), ("labelIds", "labelTrainIds")]
# Ids 0 to 33 of the release as train ids.
TRAIN_IDS = [-1, -1, -1, -1, -1, -1, -1, 0, 1, -1, -1, 2, 3, 4, -1, -1, -1, 5, -1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
TRAIN_IDS += [-1, -1, 16, 17, 18]


def _open(root, split="train") -> CityscapesSource:
    return CityscapesSource(base.cityscapes(), str(root.parent), split)


@pytest.mark.parametrize("masks", FORMS)
def test_both_forms_of_masks_give_the_same_labels(tmp_path, masks):
    released = make_cityscapes(tmp_path / "released")
    root = make_cityscapes(tmp_path / "other", masks)
    frames = {"train": ("aachen_000000", "aachen_000001", "bremen_000000"), "val": ("lindau_000000", "lindau_000001")}
    for split, names in frames.items():
        source = _open(root, split)
        assert [source.describe(i) for i in range(len(source))] == [f"{n}_000019_leftImg8bit.png" for n in names]
        for i, name in enumerate(names):
            city = released / "gtFine" / split / name.split("_")[0]
            stored = images.read_mask(city / f"{name}_000019_gtFine_labelIds.png")
            expected = translated(stored, CITYSCAPES_IDS).astype(int)
            np.testing.assert_array_equal(source[i]["label"], np.where(expected == 255, -1, expected))
            assert source.files(i)[1].name == f"{name}_000019_gtFine_{masks[-1]}.png"


def test_ids_of_the_release(tmp_path):
    root = make_cityscapes(tmp_path)
    mask = np.full((48, 96), 255)
    mask[0, :34] = range(34)
    write_png(root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png", mask)
    expected = np.full((48, 96), -1, np.int16)
    expected[0, :34] = TRAIN_IDS
    np.testing.assert_array_equal(_open(root)[0]["label"], expected, strict=True)


def test_classes_and_palette(tmp_path):
    for masks in FORMS[:2]:
        source = _open(make_cityscapes(tmp_path / masks[0], masks))
        names = "road sidewalk building wall fence pole vegetation terrain sky person rider car truck bus train"
        expected = names.split()
        expected[6:6] = ["traffic light", "traffic sign"]
        assert source.classes == (*expected, "motorcycle", "bicycle")
        assert source.palette.shape == (19, 3)
        assert source.palette[[0, 6, 13, 18]].tolist() == [[128, 64, 128], [250, 170, 30], [0, 0, 142], [119, 11, 32]]


@pytest.mark.parametrize(("kind", "value", "expected"), [("labelIds", 34, "0 to 33"), ("labelTrainIds", 19, "0 to 18")])
def test_ids_out_of_range(tmp_path, kind, value, expected):
    root = make_cityscapes(tmp_path, (kind,))
    write_png(root / f"gtFine/train/aachen/aachen_000000_000019_gtFine_{kind}.png", np.full((48, 96), value))
    with pytest.raises(UserError, match=rf"{kind}\.png holds id {value}; expected {expected} or 255, the ids of City"):
        _open(root)[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "gtFine").rename(r / "gtCoarse"), r"has no gtFine; .*cityscapes holds gtCoarse, leftImg8bit$"),
        (lambda r: (r / "leftImg8bit/train").rename(r / "x"), r"leftImg8bit/train holds no folder; .*8bit holds val$"),
        (
            lambda r: (r / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink(),
            r"aachen_000001_000019_leftImg8bit\.png has no mask; .*CITY/aachen_000001_000019_gtFine_labelIds\.png",
        ),
        (
            lambda r: (r / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png").unlink(),
            r"aachen_000001_000019_gtFine_labelIds\.png has no photo; expected .*CITY/aachen_000001_000019_left",
        ),
        (
            lambda r: [p.unlink() for p in r.glob("gtFine/train/*/*_labelIds.png")],
            r"aachen_000000_000019_leftImg8bit\.png has no mask; .*_labelIds\.png; the same holds for 3 of 3 files",
        ),
    ],
)
def test_errors_on_opening(tmp_path, spoil, message):
    root = make_cityscapes(tmp_path)
    spoil(root)
    with pytest.raises(UserError, match=message):
        _open(root)


def test_masks_of_the_test_split_are_not_public(tmp_path):
    with pytest.raises(UserError, match="dataset 'cityscapes' has no labelled split 'test'; expected train or val"):
        _open(make_cityscapes(tmp_path), "test")
