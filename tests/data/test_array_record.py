"""Reading what `mdp data prepare` wrote; that the samples are right is in test_prepare.py."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mdp_jax import configs as base
from mdp_jax.data.kinds.array_record import ArrayRecordSource
from mdp_jax.data.kinds.folder import FolderSource
from mdp_jax.data.prepared.preparation import prepare
from mdp_jax.data.sources import open_source
from mdp_jax.errors import UserError
from tests.data.fixtures import write_folder

SHARD = "set-train.array_record-00001-of-00003"


@pytest.fixture
def folder(tmp_path):
    """6 photos in 3 shards of each split."""
    write_folder(tmp_path / "raw", photos=6)
    raw = {split: FolderSource(base.folder("set", "raw"), str(tmp_path), split) for split in ("train", "val")}
    files = [path for i in range(6) for path in raw["train"].files(i)]
    shard_bytes = sum(path.stat().st_size * (2 if path.suffix == ".png" else 1) for path in files) * 10 // 25
    prepare("set", "folder", raw, tmp_path / "prepared" / "set", 2, shard_bytes)
    return tmp_path / "prepared" / "set"


def _open(folder, split="train", name="set") -> ArrayRecordSource:
    return ArrayRecordSource(base.array_record(name, str(folder)), "", split)


def _edit(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_default_place_and_own_name(folder, tmp_path):
    source = ArrayRecordSource(base.array_record("set"), str(tmp_path), "val")
    assert (source.name, source.classes, len(source)) == ("set", ("sky", "tree", "road"), 6)
    assert source.palette is None
    _edit(folder, palette=[[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    other = _open(folder, name="other")
    assert other.name == "other"
    np.testing.assert_array_equal(other.palette, np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8), strict=True)


def test_as_any_other_kind_in_a_config(folder, tmp_path):
    config = base.array_record("set", drop_classes=("tree",), limit=2)
    source = open_source(config, base.finetune().data, str(tmp_path), "train", seed=1)
    assert (len(source), source.classes) == (2, ("sky", "road"))
    assert set(np.unique(source[0]["label"])) == {-1, 0, 1}


def test_threads_read_the_same(folder):
    source = _open(folder)
    alone = [source[i]["image"] for i in range(6)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: source[i % 6]["image"], range(120)))
    for i, image in enumerate(together):
        np.testing.assert_array_equal(image, alone[i % 6])


def _flip(folder, at: int):
    data = bytearray((folder / SHARD).read_bytes())
    data[at] ^= 1
    (folder / SHARD).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), r"manifest\.json is missing; expected a folder made by mdp data pr"),
        (
            lambda f: (f / "manifest.json").write_text("{"),
            r"manifest\.json: not valid JSON .*; run mdp data prepare ag",
        ),
        (
            lambda f: (f / "manifest.json").write_text("[]"),
            r"manifest\.json: the value is \[\]; expected an object",
        ),
        (lambda f: _edit(f, complete=False), "set was not prepared to the end; start mdp data prepare again"),
        (
            lambda f: _edit(f, splits={"val": {"records": 0, "bytes": 0, "shards": []}}),
            "dataset 'set' has no split 'train'; it has val",
        ),
        (lambda f: (f / SHARD).unlink(), f"{SHARD} is missing; start mdp data prepare again"),
        (lambda f: (f / SHARD).write_bytes(b""), f"{SHARD} has 0 bytes, expected 131072; start mdp data prepare again"),
        (lambda f: (f / SHARD).write_bytes(bytes(131072)), "a shard of train is damaged"),
    ],
)
def test_errors_on_opening(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        _open(folder)
    assert "\n" not in str(error.value)


def test_wrong_number_of_records(folder):
    splits = json.loads((folder / "manifest.json").read_text())["splits"]
    splits["train"]["records"] = 7
    _edit(folder, splits=splits)
    with pytest.raises(UserError, match="train holds 6 records, expected 7"):
        _open(folder)


def test_a_flipped_bit_is_found_on_reading(folder):
    _flip(folder, 200)
    source = _open(folder)
    source[0], source[1], source[4]
    with pytest.raises(UserError, match=r"set: record 2 is damaged .*; start mdp data prepare again") as error:
        source[2]
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="record 2 is damaged"):
        source.describe(2)


def test_masks_are_held_against_the_classes(folder):
    _edit(folder, classes=["sky", "tree"])
    with pytest.raises(
        UserError, match=r"set: p0\.jpg \(mask\) holds id 2; expected 0 to 1 or 255, the ids of its man"
    ):
        _open(folder)[0]
