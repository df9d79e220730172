import itertools
import shutil
import unicodedata

import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data.drawn import scenes as synthetic
from mdp_jax.data.kinds.folder import FolderSource
from mdp_jax.data.sources import check_source, open_source, photos_of, require_photos
from mdp_jax.errors import UserError
from tests.data.fixtures import write_folder, write_jpeg, write_png


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set", photos=9)


def _open(folder, split="train", seed=0, drop_classes=(), limit=0, scored=False, **data):
    data_config = base.finetune().data
    data_config.update(data)
    source_config = base.folder("mine", "set", drop_classes, limit)
    return open_source(source_config, data_config, str(folder.parent), split, seed, scored)


def test_dropped_classes_become_ignored_and_the_rest_moves_together(folder):
    mask = np.zeros((20, 24))
    mask[5:10], mask[10:15], mask[15:] = 1, 2, 255
    write_png(folder / "masks" / "train" / "p0.png", mask)
    source = _open(folder, drop_classes=("tree",))
    assert source.classes == ("sky", "road")
    np.testing.assert_array_equal(
        source[0]["label"][[0, 5, 10, 15], 0], np.array([0, -1, 1, -1], np.int16), strict=True
    )


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (("car",), "dataset 'mine': drop_classes has 'car'; expected one of sky, tree, road"),
        (("sky", "tree", "road"), "dataset 'mine': drop_classes names every class"),
    ],
)
def test_drop_errors(folder, drop, message):
    with pytest.raises(UserError, match=message):
        _open(folder, drop_classes=drop)


def _names(source) -> list[str]:
    return [source.describe(i) for i in range(len(source))]


def test_limit_is_nested_seeded_and_for_training_alone(folder):
    chosen = [set(_names(_open(folder, limit=limit, seed=3))) for limit in range(1, 10)]
    assert [len(names) for names in chosen] == list(range(1, 10))
    assert all(small < large for small, large in itertools.pairwise(chosen))
    assert len({tuple(_names(_open(folder, limit=4, seed=seed))) for seed in range(8)}) > 4
    assert _names(_open(folder, limit=9)) == _names(_open(folder)) == [f"p{i}.jpg" for i in range(9)]
    assert len(_open(folder, split="val", limit=2)) == 9
    few = _open(folder, limit=2, seed=3)
    everything = _open(folder)
    for i in range(2):
        same = everything[_names(everything).index(few.describe(i))]
        np.testing.assert_array_equal(few[i]["image"], same["image"])


def _with_holdout(folder, holdout, split, seed=0, limit=0):
    config = base.folder("mine", "set", limit=limit)
    config.holdout = holdout
    return open_source(config, base.finetune().data, str(folder.parent), split, seed)


def test_holdout_takes_training_photos_for_validation(folder):
    parts = [_names(_with_holdout(folder, 4, split)) for split in ("train", "val")]
    assert [len(part) for part in parts] == [5, 4]
    assert sorted(parts[0] + parts[1]) == [f"p{i}.jpg" for i in range(9)]
    assert all(_names(_with_holdout(folder, 4, "val", seed=seed)) == parts[1] for seed in range(4))
    chosen = {tuple(_names(_with_holdout(folder, 4, "train", seed=seed, limit=3))) for seed in range(6)}
    assert len(chosen) > 1
    assert all(set(names) < set(parts[0]) for names in chosen)


@pytest.mark.parametrize("holdout", [-1, 9])
def test_holdout_errors(folder, holdout):
    with pytest.raises(UserError, match=f"dataset 'mine': holdout is {holdout}; expected 0 for none, or 1 to 8"):
        _with_holdout(folder, holdout, "train")


@pytest.mark.parametrize("limit", [-1, 10])
def test_limit_errors(folder, limit):
    with pytest.raises(UserError, match=f"dataset 'mine': limit is {limit}; expected 0 for all, or 1 to 9"):
        _open(folder, limit=limit)


def _unlabelled(folder, split="train", **values):
    config = base.folder("mine", "set")
    config.update({"labels": "none"} | values)
    return open_source(config, base.finetune().data, str(folder.parent), split, 0)


def test_unlabelled_folder_needs_photos_alone(folder):
    shutil.rmtree(folder / "masks")
    (folder / "classes.txt").unlink()
    source = _unlabelled(folder, limit=4)
    assert (source.classes, len(source)) == ((), 4)
    assert (source[3]["label"] == -1).all()


def test_labels_of_other_kinds_are_not_used():
    config = base.synthetic("town", images=2, size=(24, 32))
    config.labels = "none"
    source = open_source(config, base.finetune().data, "", "train", 0)
    image, _ = synthetic.draw("town", "train", 1, (24, 32))
    assert source.classes == ()
    np.testing.assert_array_equal(source[1]["image"], image)
    np.testing.assert_array_equal(source[1]["label"], np.full((24, 32), -1, np.int16), strict=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": "some"}, "dataset 'mine' has labels='some'; expected one of masks, none"),
        ({"split": "val"}, "dataset 'mine': labels='none', so there is no split 'val'"),
        ({"drop_classes": ("sky",)}, "dataset 'mine': drop_classes with labels='none'"),
    ],
)
def test_labels_errors(folder, values, message):
    with pytest.raises(UserError, match=message):
        _unlabelled(folder, **values)


def test_short_side(folder):
    train, val = (_open(folder, split=split, short_side=10)[0] for split in ("train", "val"))
    assert (train["image"].shape, train["label"].shape) == ((10, 12, 3), (10, 12))
    assert (val["image"].shape, val["label"].shape) == ((10, 12, 3), (20, 24))
    assert train["label"].dtype == val["label"].dtype == np.int16
    assert _open(folder, short_side=10, scored=True)[0]["label"].shape == (20, 24)
    with pytest.raises(UserError, match=r"config\.data\.short_side=-1: expected"):
        _open(folder, short_side=-1)


def test_a_split_without_photos():
    """As of VOC with an empty list."""

    class Empty:
        name = "mine"

        def __len__(self):
            return 0

    with pytest.raises(UserError, match="dataset 'mine': no photo in its split 'val'; expected at least one"):
        require_photos(Empty(), "val")


def test_photos_of_a_run(folder):
    whole, few = photos_of(_open(folder)), photos_of(_open(folder, limit=8))
    assert (whole["count"], few["count"]) == (9, 8) and whole["names"] != few["names"]
    assert photos_of(_open(folder)) == whole
    (folder / "images" / "train" / "p0.jpg").rename(folder / "images" / "train" / "q.jpg")
    (folder / "masks" / "train" / "p0.png").rename(folder / "masks" / "train" / "q.png")
    renamed = photos_of(_open(folder))
    assert renamed["count"] == 9 and renamed["names"] != whole["names"]


def test_photos_of_a_run_whatever_form_of_unicode_a_file_system_keeps(tmp_path):
    forms = [unicodedata.normalize(form, "Stra\u00dfe-\u00e9.jpg") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    for form in forms:
        (tmp_path / form).write_bytes(b"a photo")
    found = [photos_of(MemoryFiles(tmp_path / form)) for form in forms]
    assert found[0] == found[1]


class MemoryFiles:
    """A source of one photo with a given file."""

    content = ""

    def __init__(self, path):
        self._path = path

    def __len__(self):
        return 1

    def files(self, index):
        return (self._path,)


def test_no_other_photo_is_scored_in_place_of_a_bad_one(folder):
    (folder / "images" / "train" / "p0.jpg").write_text("not a photo")
    assert _open(folder, on_bad_image="skip", bad_image_share=0.5)[0]["image"].shape == (20, 24, 3)
    with pytest.raises(UserError, match=r"p0\.jpg is unreadable"):
        _open(folder, on_bad_image="skip", bad_image_share=0.5, scored=True)[0]


def test_cache_reads_each_sample_once(folder, monkeypatch):
    read = []
    whole = FolderSource.__getitem__
    monkeypatch.setattr(FolderSource, "__getitem__", lambda self, i: (read.append(i), whole(self, i))[1])
    kept, fresh = _open(folder, cache=True, short_side=10), _open(folder, short_side=10)
    for _ in range(2):
        for i in (1, 4):
            for key, value in fresh[i].items():
                np.testing.assert_array_equal(kept[i][key], value, strict=True)
    with pytest.raises(ValueError, match="read-only"):
        kept[1]["image"][0] = 0
    read.clear()
    kept[1], kept[4], kept[5], fresh[1]
    assert read == [5, 1]


def test_check_opens_evenly_spaced_samples(folder, monkeypatch):
    read = []
    sample = {"image": np.zeros((20, 24, 3), np.uint8), "label": np.zeros((20, 24), np.int16)}
    monkeypatch.setattr(FolderSource, "__getitem__", lambda self, i: read.append(i) or sample)
    source = FolderSource(base.folder("mine", "set"), str(folder.parent), "train")
    for limit, expected in ((3, [0, 3, 6]), (9, list(range(9))), (5000, list(range(9))), (0, [])):
        read.clear()
        check_source(source, limit)
        assert sorted(read) == expected


def test_check_raises_the_first_error_in_order(folder):
    for i in (8, 2, 5):
        (folder / "images" / "train" / f"p{i}.jpg").write_bytes(b"?")
    for _ in range(5):
        with pytest.raises(UserError, match=r"p2\.jpg is unreadable"):
            check_source(_open(folder), 5000)
    check_source(_open(folder, split="val"), 5000)


def test_unknown_kind():
    config = base.folder("mine", "set")
    config.kind = "folders"
    with pytest.raises(UserError, match=r"dataset 'mine' is of kind 'folders'; expected one of folder, .*, synthetic"):
        open_source(config, base.finetune().data, "", "train", 0)


def test_synthetic_source_draws_its_scenes():
    config = base.synthetic("town", images=3, val_images=2, size=(24, 32))
    train, val = (open_source(config, base.finetune().data, "", split, 0) for split in ("train", "val"))
    assert (len(train), len(val), train.classes) == (3, 2, synthetic.classes("town"))
    image, label = synthetic.draw("town", "train", 2, (24, 32))
    np.testing.assert_array_equal(train[2]["image"], image, strict=True)
    np.testing.assert_array_equal(train[2]["label"], label, strict=True)
    assert len({*_names(train), *_names(val)}) == 5


def test_synthetic_errors():
    with pytest.raises(UserError, match="'city'"):
        open_source(base.synthetic("city", images=3), base.finetune().data, "", "train", 0)
    with pytest.raises(UserError, match="'town' has images = 0"):
        open_source(base.synthetic("town", images=0), base.finetune().data, "", "train", 0)


def test_real_photos(shared_data):
    for name, classes, photos in (("camvid11", 11, 367), ("msrc_v2", 23, 477), ("ccp", 59, 804)):
        config, data = base.folder(name, name), base.finetune().data
        source = open_source(config, data, str(shared_data), "train", 0)
        assert (len(source.classes), len(source)) == (classes, photos)
        check_source(source, 8)
        sample = source[0]
        assert sample["image"].shape == (*sample["label"].shape, 3)
        assert -1 <= sample["label"].min() <= sample["label"].max() < classes


def _said(folder, **changes) -> list[str]:
    lines: list[str] = []
    check_source(_open(folder, **changes), 5000, lines.append)
    return lines


def _fill_masks(folder, value, split="train"):
    for file in (folder / "masks" / split).iterdir():
        write_png(file, np.full((20, 24), value) if np.isscalar(value) else value)


def test_a_run_on_masks_without_a_labelled_pixel_is_refused(folder):
    _fill_masks(folder, 255)
    with pytest.raises(UserError, match=r"dataset 'mine' train: no pixel of any class in 9 masks; expected labelled"):
        check_source(_open(folder), 5000)
    lines = []
    check_source(_open(folder), 4, lines.append)  # others may have some
    assert lines == ["dataset 'mine' train: no pixel of any class in 4 masks; expected labelled pixels"]
    check_source(_open(folder), 0)


def test_masks_of_0_and_255_are_spoken_of_before_a_run(folder, capsys):
    both = np.zeros((20, 24))
    both[:5] = 255
    _fill_masks(folder, both)
    check_source(_open(folder), 5000)
    err = capsys.readouterr().err
    assert "mdp: warning: dataset 'mine' train: the masks hold nothing but class 0 and ignored pixels; is 255" in err
    assert "never seen: tree, road" in err


def test_masks_of_one_class_and_classes_that_are_never_seen(folder):
    _fill_masks(folder, 1)
    lines = _said(folder)
    assert "dataset 'mine' train: all labelled pixels of 9 masks are of one class, tree" in lines
    assert "dataset 'mine' train: never seen: sky, road" in lines
    assert _said(folder, drop_classes=("sky", "road")) != []


def test_nothing_is_said_of_a_sound_dataset(folder):
    assert _said(folder) == []


def test_a_damaged_jpeg_is_counted_and_named(folder):
    file = folder / "images" / "train" / "p3.jpg"
    write_jpeg(file, np.random.default_rng(0).integers(0, 256, (20, 24, 3)))
    data = file.read_bytes()
    scan = data.index(b"\xff\xda") + 100
    file.write_bytes(data[:scan] + data[scan + 200 :])
    (line,) = _said(folder)
    assert "damaged JPEGs, with pixels that are made up: 1 of 9 (p3.jpg: Corrupt JPEG data" in line


def test_a_photo_that_short_side_makes_huge_is_named(tmp_path):
    folder = write_folder(tmp_path / "set", photos=1, size=(4, 20_000))
    for split in ("train", "val"):
        with pytest.raises(UserError, match=r"dataset 'mine': p0\.jpg: a photo of 4 x 20000 .* becomes 480 x 2400000"):
            _open(folder, split=split, short_side=480)[0]
