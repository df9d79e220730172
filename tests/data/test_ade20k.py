import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data import images
from mdp_jax.data.kinds.ade20k import Ade20kSource
from mdp_jax.data.sources import check_source
from mdp_jax.errors import UserError
from tests.data.fixtures import write_png
from tests.data.official import ADE20K_IDS, make_ade20k, translated


@pytest.fixture
def ade20k(tmp_path):
    return make_ade20k(tmp_path)


def _open(root, split="train") -> Ade20kSource:
    return Ade20kSource(base.ade20k(root=str(root)), "/nowhere", split)


def test_reads_both_splits_in_the_order_of_their_names(ade20k):
    names = {
        split: [source.describe(i) for i in range(len(source))]
        for split in ("train", "val")
        for source in [_open(ade20k, split)]
    }
    assert names == {
        "train": [f"ADE_train_0000000{i}.jpg" for i in (1, 2, 3, 4)],
        "val": ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"],
    }
    assert len(Ade20kSource(base.ade20k(), str(ade20k.parents[1]), "val")) == 2


def test_ids_move_down_by_one_and_zero_is_ignored(ade20k):
    mask = np.zeros((64, 84), np.uint8)
    mask[10:20], mask[20:30], mask[30:] = 1, 150, 13
    write_png(ade20k / "annotations" / "training" / "ADE_train_00000001.png", mask)
    expected = np.full((64, 84), -1, np.int16)
    expected[10:20], expected[20:30], expected[30:] = 0, 149, 12
    np.testing.assert_array_equal(_open(ade20k)[0]["label"], expected, strict=True)


def test_every_photo_goes_with_its_mask(ade20k):
    source = _open(ade20k)
    for i in range(4):
        photo, mask = source.files(i)
        stored = translated(images.read_mask(mask), ADE20K_IDS).astype(int)
        np.testing.assert_array_equal(source[i]["label"], np.where(stored == 255, -1, stored))
        np.testing.assert_array_equal(source[i]["image"], images.read_photo(photo))
        assert photo.stem == mask.stem


def test_classes_and_palette(ade20k):
    source = _open(ade20k)
    assert len(source.classes) == len(set(source.classes)) == 150
    assert (source.classes[0], source.classes[12], source.classes[149]) == ("wall", "person", "flag")
    assert source.palette.shape == (150, 3)
    assert source.palette.dtype == np.uint8
    assert source.palette[[0, 1, 12, 149]].tolist() == [[120, 120, 120], [180, 120, 120], [150, 5, 61], [92, 0, 255]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.rename(r.parent / "x"), r"ADEChallengeData2016 of dataset 'ade20k' is no folder; .*/ade holds x$"),
        (
            lambda r: (r / "images").rename(r / "x"),
            r"has no images; expected images and annotations in it; .*annotations",
        ),
        (
            lambda r: (r / "images/training").rename(r / "images/x"),
            r"training is no folder; .*images holds validation, x",
        ),
        (
            lambda r: (r / "annotations/training/ADE_train_00000002.png").unlink(),
            r"02\.jpg has no mask; expected .*02\.png",
        ),
        (
            lambda r: (r / "images/training/ADE_train_00000002.jpg").unlink(),
            r"02\.png has no photo; expected .*02\.jpg",
        ),
        (
            lambda r: [(r / f"images/training/ADE_train_0000000{i}.jpg").unlink() for i in (2, 4)],
            r"02\.png has no photo; .*the same holds for 2 of 4 files",
        ),
    ],
)
def test_errors_on_opening(ade20k, spoil, message):
    spoil(ade20k)
    with pytest.raises(UserError, match=message) as error:
        _open(ade20k)
    assert "\n" not in str(error.value)


def test_test_photos_have_no_masks(ade20k):
    with pytest.raises(UserError, match="dataset 'ade20k' has no labelled split 'test'; expected train or val"):
        _open(ade20k, "test")


def test_id_out_of_range(ade20k):
    write_png(ade20k / "annotations" / "training" / "ADE_train_00000001.png", np.full((64, 84), 151))
    with pytest.raises(UserError, match=r"01\.png holds id 151; expected 0 to 150, the ids of ADE20K"):
        _open(ade20k)[0]


def test_real_photos(shared_data):
    root = shared_data / "official-layouts" / "ADEChallengeData2016"
    for split, count in (("train", 1), ("val", 3)):
        source = _open(root, split)
        assert len(source) == count
        check_source(source, count)
    rows = [line.split("\t") for line in (root / "objectInfo150.txt").read_text().splitlines()[1:]]
    assert [int(number) for number, *_ in rows] == list(range(1, 151))
    assert source.classes == tuple(synonyms.split(",")[0].strip() for *_, synonyms in rows)
    stored = images.read_mask(root / "annotations" / "validation" / "ADE_val_00000001.png").astype(int)
    np.testing.assert_array_equal(source[0]["label"], stored - 1)
