import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.kinds.coco_stuff import CocoStuffSource
from mdp_jax.errors import UserError
from tests.data.fixtures import write_png
from tests.data.official import COCO_STUFF_IDS, make_coco_stuff, translated

FORMS = [("",), ("_labelTrainIds",), ("", "_labelTrainIds")]
GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)


def _open(root, split="train") -> CocoStuffSource:
    return CocoStuffSource(base.coco_stuff(), str(root.parent), split)


@pytest.mark.parametrize("masks", FORMS)
def test_both_forms_of_masks_give_the_same_labels(tmp_path, masks):
    released = make_coco_stuff(tmp_path / "released")
    root = make_coco_stuff(tmp_path / "other", masks)
    for split, names in (("train", (9, 25, 30, 581929)), ("val", (139, 285))):
        source = _open(root, split)
        assert [source.describe(i) for i in range(len(source))] == [f"{name:012d}.jpg" for name in names]
        for i, name in enumerate(names):
            stored = images.read_mask(released / "annotations" / f"{split}2017" / f"{name:012d}.png")
            expected = translated(stored, COCO_STUFF_IDS).astype(int)
            np.testing.assert_array_equal(source[i]["label"], np.where(expected == 255, -1, expected))
            assert source.files(i)[1].name == f"{name:012d}{masks[-1]}.png"


def test_ids_of_the_release(tmp_path):
    root = make_coco_stuff(tmp_path)
    mask = np.full((60, 80), 255)
    allowed = [value for value in range(182) if value not in GAPS]
    mask[0, :80], mask[1, :80], mask[2, :11] = allowed[:80], allowed[80:160], allowed[160:]
    write_png(root / "annotations/train2017/000000000009.png", mask)
    expected = np.full((60, 80), -1, np.int16)
    expected[0], expected[1], expected[2, :11] = range(80), range(80, 160), range(160, 171)
    np.testing.assert_array_equal(_open(root)[0]["label"], expected, strict=True)


def test_classes(tmp_path):
    source = _open(make_coco_stuff(tmp_path))
    assert len(source.classes) == len(set(source.classes)) == 171
    named = {0: "person", 10: "fire hydrant", 11: "stop sign", 24: "backpack", 79: "toothbrush", 80: "banner"}
    named |= {98: "desk-stuff", 145: "sky-other", 170: "wood"}
    assert {i: source.classes[i] for i in named} == named
    assert not {"street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk"} & set(source.classes)
    assert source.palette is None


@pytest.mark.parametrize(("suffix", "value"), [*(("", value) for value in (*GAPS, 182)), ("_labelTrainIds", 171)])
def test_ids_out_of_range(tmp_path, suffix, value):
    root = make_coco_stuff(tmp_path, (suffix,))
    mask = np.zeros((60, 80))
    mask[3, 5] = value
    write_png(root / f"annotations/train2017/000000000009{suffix}.png", mask)
    expected = "0 to 170 or 255" if suffix else "0 to 10, 12 to 24, 26 to 27, 30 to 43, .* 91 to 181 or 255"
    with pytest.raises(
        UserError, match=rf"09{suffix}\.png holds id {value}; expected {expected}, the ids of COCO-Stuff"
    ):
        _open(root)[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda r: (r / "annotations").rename(r / "x"),
            r"has no annotations; expected images and .*164k holds images, x$",
        ),
        (lambda r: (r / "images/train2017").rename(r / "x"), r"images/train2017 is no folder; .*images holds val2017$"),
        (
            lambda r: (r / "annotations/train2017/000000000025_labelTrainIds.png").unlink(),
            r"000000000025\.jpg has no mask; expected .*train2017/000000000025_labelTrainIds\.png$",
        ),
        (
            lambda r: (r / "images/train2017/000000000025.jpg").unlink(),
            r"25_labelTrainIds\.png has no photo; .*25\.jpg$",
        ),
    ],
)
def test_errors_on_opening(tmp_path, spoil, message):
    root = make_coco_stuff(tmp_path, ("", "_labelTrainIds"))
    spoil(root)
    with pytest.raises(UserError, match=message):
        _open(root)


def test_test_photos_have_no_masks(tmp_path):
    with pytest.raises(UserError, match="dataset 'coco_stuff' has no labelled split 'test'; expected train or val"):
        _open(make_coco_stuff(tmp_path), "test")
