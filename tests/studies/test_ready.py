"""What is said before the first run of a suite: bad data, bad values, photos that were set aside or have changed."""

import dataclasses
import json
import shutil

import pytest

from mdp_jax.errors import UserError
from mdp_jax.studies import ready, runs
from mdp_jax.studies.experiments import Pretraining, Suite, Target
from tests.data.fixtures import write_folder
from tests.studies.tiny import suite


def test_data_must_be_there(tmp_path):
    row = Pretraining("scratch", "", seeds=1, targets=("t",))
    real = Suite("s", "", (row,), (Target("t", "", "configs/mini/camvid11.py"),), ())
    with pytest.raises(UserError, match="--data_dir: missing; expected the folder that holds camvid11"):
        ready.require_ready(runs.of_suite(real))
    with pytest.raises(UserError, match=f"--data_dir {tmp_path}: no folder camvid11 in it"):
        ready.require_ready(runs.of_suite(real, str(tmp_path)))
    write_folder(tmp_path / "camvid11", photos=2)
    with pytest.raises(UserError, match=r"dataset 'camvid11': holdout is 2; expected 0 for none, or 1 photo"):
        ready.require_ready(runs.of_suite(_one_target(real, ("dataset.holdout", "2")), str(tmp_path)))
    ready.require_ready(runs.of_suite(real, str(tmp_path)))
    ready.require_ready(runs.of_suite(suite()))  # drawn


def _one_target(whole, *overrides):
    (target,) = whole.targets
    return dataclasses.replace(whole, targets=(dataclasses.replace(target, overrides=overrides),))


def test_what_a_later_run_cannot_do_is_said_before_the_first(tmp_path):
    whole = suite()
    bad = dataclasses.replace(whole.pretrainings[2], overrides=(("method.sparse_coding", "pul"),))
    found = runs.of_suite(dataclasses.replace(whole, pretrainings=(*whole.pretrainings[:2], bad)))
    with pytest.raises(UserError, match=r"config.method.sparse_coding='pul': expected"):
        ready.require_ready(found)


@pytest.fixture
def three_sets(tmp_path):
    for name in ("msrc_v2", "labelmefacade", "ccp"):
        write_folder(tmp_path / name, photos=4)
    return tmp_path


def _pretrained(data_dir, *overrides, init=""):
    """Two photos of labelmefacade set aside in the fine-tuning, after a pretraining and perhaps one before it."""
    target = Target("t", "", "configs/mini/labelmefacade_40.py", (("dataset.holdout", "2"), ("dataset.limit", "0")))
    first = Pretraining("a", "", "configs/mini/pretrain.py", seeds=1)
    last = Pretraining("b", "", "configs/mini/pretrain.py", overrides, init, 1, ("t",))
    rows = (first, last) if init else (last,)
    return ready.require_ready(runs.of_suite(Suite("s", "", rows, (target,), ()), str(data_dir)))


def test_photos_set_aside_are_so_in_all_pretrainings(three_sets):
    """In first stages too, and where the same folder has another name."""
    aside = ("sources.labelmefacade.holdout", "2")
    message = r"b/seed0/t: dataset.holdout is 2, and {}/seed0/pretrain has sources.labelmefacade.holdout=0 for the same"
    _pretrained(three_sets, aside)
    for overrides in ((), (("sources.labelmefacade.root", str(three_sets / "labelmefacade")),)):
        with pytest.raises(UserError, match=message.format("b")):
            _pretrained(three_sets, *overrides)
    with pytest.raises(UserError, match=message.format("a")):
        _pretrained(three_sets, aside, init="a")


def test_photos_set_aside_of_others_are_trained_on(three_sets):
    """Without masks the pretraining has more photos to choose from, and sets others aside."""
    root = three_sets / "labelmefacade" / "images" / "train"
    aside = ("sources.labelmefacade.holdout", "2"), ("sources.labelmefacade.labels", "none")
    noted = {key for key in _pretrained(three_sets, *aside) if "labelmefacade" in key}
    assert noted == {f"folder labelmefacade, {of}" for of in ("train", "train, labels=none", "val")}
    (root / "more").mkdir()
    for number in range(40):
        shutil.copy(root / "p0.jpg", root / "more" / f"{number}.jpg")
    message = r"b/seed0/t: 2 of the 2 photos that dataset.holdout sets aside are training photos of b/seed0/pretrain, "
    with pytest.raises(UserError, match=f"{message}such as .*p[0-3].jpg; expected the same labels in dataset and"):
        _pretrained(three_sets, *aside)
    _pretrained(three_sets, aside[0])


def test_photos_that_changed_since_the_study_began(tmp_path):
    write_folder(tmp_path / "data" / "camvid11", photos=3)
    row = Pretraining("scratch", "", seeds=1, targets=("t",))
    real = Suite("s", "", (row,), (Target("t", "", "configs/mini/camvid11.py"),), ())

    def photos():
        return ready.require_ready(runs.of_suite(real, str(tmp_path / "data")))

    first = photos()
    assert {key: value["count"] for key, value in first.items()} == {
        "folder camvid11, train": 3,
        "folder camvid11, val": 3,
    }
    ready.require_same_photos(first, tmp_path)
    ready.require_same_photos(photos(), tmp_path)
    ready.require_same_photos({"other, train": first["folder camvid11, val"]}, tmp_path)
    assert sorted(json.loads((tmp_path / "photos.json").read_text())) == [*sorted(first), "other, train"]
    for file in ("images/train/p0.jpg", "masks/train/p0.png"):
        file = tmp_path / "data" / "camvid11" / file
        shutil.copy(file, file.with_stem("p9"))
    with pytest.raises(
        UserError, match=r"folder camvid11, train: 4 photos, and the runs in .* began with other ones, 3; ex"
    ):
        ready.require_same_photos(photos(), tmp_path)
    (tmp_path / "photos.json").write_text("{")
    with pytest.raises(UserError, match=r"photos.json: not valid JSON"):
        ready.require_same_photos(photos(), tmp_path)
