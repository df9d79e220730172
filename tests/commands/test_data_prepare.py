"""`mdp data prepare` from end to end: the same bits as the directories, kept after a kill, read by TFDS."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import configs as base
from mdp_jax.data.batches.pipeline import pretrain_batches
from mdp_jax.data.kinds import KINDS
from mdp_jax.data.kinds.array_record import ArrayRecordSource
from mdp_jax.data.kinds.folder import FolderSource
from mdp_jax.data.label_space import build
from mdp_jax.data.prepared import preparation
from mdp_jax.data.sources import open_source
from mdp_jax.errors import UserError
from mdp_jax.storage.locks import locked
from tests.data import official
from tests.data.fixtures import write_folder, write_jpeg, write_png

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Prepares a folder in 6 shards of 2 photos for each split, and kills itself in the middle of the third, which it does
# not leave before the manifest knows of the first two.
KILLED = """
import json, os, signal, sys, time
from mdp_jax.data.kinds.folder import FolderSource
from tests.commands.test_data_prepare import prepare

def dying(self, index):
    if index == 5:
        while len(json.load(open(sys.argv[1] + "/out/manifest.json"))["splits"]["train"]["shards"]) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, index)

read = FolderSource.__getitem__
FolderSource.__getitem__ = dying
prepare(sys.argv[1], shards=6, jobs=1)
"""


@pytest.fixture
def folder(tmp_path):
    root = write_folder(tmp_path / "set", photos=12)
    mask = np.random.default_rng(1).integers(0, 4, (20, 24))
    write_png(root / "masks" / "train" / "p0.png", np.where(mask == 3, 255, mask))
    return root


def sources(data_dir, name="set"):
    return {split: FolderSource(base.folder(name, "set"), str(data_dir), split) for split in ("train", "val")}


def prepare(data_dir, shards=1, jobs=2, name="set") -> dict:
    """Prepares the folder `set` of the fixture into `out`, with about as many shards for each split."""
    opened = sources(data_dir, name)
    files = {split: [source.files(i) for i in range(len(source))] for split, source in opened.items()}
    size = max(sum(p.stat().st_size + 2 * m.stat().st_size for p, m in rows) for rows in files.values())
    return preparation.prepare(name, "folder", opened, pathlib.Path(data_dir, "out"), jobs, -(-size // shards))


def records(data_dir, split="train", name="set") -> ArrayRecordSource:
    return ArrayRecordSource(base.array_record(name, "out"), str(data_dir), split)


def assert_same_samples(found, expected):
    assert (len(found), found.classes) == (len(expected), expected.classes)
    for i in range(len(expected)):
        assert found.describe(i) == expected.describe(i)
        one, other = found[i], expected[i]
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], strict=True)


def status(arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(argument) for argument in arguments])
    return exit_.value.code


def tree(folder) -> dict:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_records_are_the_same_samples_in_the_same_order(folder, tmp_path):
    for shards in (1, 5):
        prepare(tmp_path, shards)
        for split, source in sources(tmp_path).items():
            assert_same_samples(records(tmp_path, split), source)
    assert (records(tmp_path)[0]["label"] == -1).any()


@pytest.mark.parametrize("kind", ["voc", "ade20k", "coco_stuff", "cityscapes"])
def test_official_directories_are_the_same_samples(kind, tmp_path, capsys):
    getattr(official, f"make_{kind}")(tmp_path)
    assert status(["data", "prepare", kind, "--data_dir", tmp_path]) == 0
    for split in ("train", "val"):
        raw = KINDS[kind].source(getattr(base, kind)(), str(tmp_path), split)
        prepared = ArrayRecordSource(base.array_record(kind), str(tmp_path), split)
        assert_same_samples(prepared, raw)
        np.testing.assert_equal(prepared.palette, raw.palette)


@pytest.mark.parametrize("splits", ["", "train,", "train, val", "../set/images"])
def test_splits_are_names(splits, folder, tmp_path, capsys):
    assert status(["data", "prepare", "set", "--data_dir", tmp_path, "--splits", splits]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"mdp: --splits {splits}: ") and "expected names of splits" in err and err.count("\n") == 1
    assert not (tmp_path / "prepared").exists()


def test_an_official_archive_is_unpacked_first(tmp_path, capsys):
    raw_dir, data_dir = tmp_path / "raw", tmp_path / "data"
    root = official.make_ade20k(raw_dir)
    archive = shutil.make_archive(tmp_path / root.name, "zip", root.parent, root.name)
    assert status(["data", "prepare", "ade20k", "--data_dir", data_dir, "--archive", archive]) == 0
    prepared = ArrayRecordSource(base.array_record("ade20k"), str(data_dir), "train")
    assert_same_samples(prepared, KINDS["ade20k"].source(base.ade20k(), str(raw_dir), "train"))


def test_pretraining_batches_are_bit_equal(folder, tmp_path):
    prepare(tmp_path, shards=3)
    preparation.prepare("other", "folder", sources(tmp_path, "other"), tmp_path / "prepared" / "other", 2, 1 << 20)
    config = base.pretrain()
    config.data.crop, config.batch, config.seed = (16, 16), 8, 5
    batches = {}
    for kind, of_kind in {
        "folder": (base.folder("set", "set"), base.folder("other", "set", drop_classes=("tree",), limit=5)),
        "array_record": (base.array_record("set", "out"), base.array_record("other", "", ("tree",), 5)),
    }.items():
        opened = [open_source(source, config.data, str(tmp_path), "train", config.seed) for source in of_kind]
        batches[kind] = pretrain_batches(config, opened, build(opened), start_batch=3)
    for _ in range(4):
        raw, prepared = next(batches["folder"]), next(batches["array_record"])
        assert raw.keys() == prepared.keys()
        for key in raw:
            np.testing.assert_array_equal(raw[key], prepared[key], strict=True)
    for iterator in batches.values():
        iterator.close()


def test_manifest_says_what_is_there(folder, tmp_path):
    found = prepare(tmp_path, shards=4)
    out = tmp_path / "out"
    assert found == json.loads((out / "manifest.json").read_text())
    assert {key: found[key] for key in ("version", "name", "kind", "complete", "classes")} == {
        "version": "1.0.0",
        "name": "set",
        "kind": "folder",
        "complete": True,
        "classes": ["sky", "tree", "road"],
    }
    assert {split: part["records"] for split, part in found["splits"].items()} == {"train": 12, "val": 12}
    files = set()
    for part in found["splits"].values():
        assert len(part["shards"]) >= 4
        for key in ("records", "bytes"):
            assert part[key] == sum(shard[key] for shard in part["shards"])
        for shard in part["shards"]:
            data = (out / shard["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
            files.add(shard["file"])
    beside = {".lock", "manifest.json", "dataset_info.json", "features.json"}
    assert {path.name for path in out.iterdir()} == files | beside


def test_goes_on_after_a_kill(folder, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    out = tmp_path / "out"
    left = tree(out)
    assert "set-train.array_record-00002-of-00006.partial" in left
    finished = {name: content for name, content in left.items() if name.endswith("of-00006")}
    assert len(finished) == 2
    with pytest.raises(UserError, match="not prepared to the end; start mdp data prepare again, it goes on"):
        records(tmp_path)
    resumed = prepare(tmp_path, shards=6)
    now = tree(out)
    assert {name: now[name] for name in finished} == finished
    assert not any(name.endswith(".partial") for name in now)
    shutil.rmtree(out)
    assert prepare(tmp_path, shards=6) == resumed


def test_redoes_what_is_damaged_or_changed_and_nothing_else(folder, tmp_path):
    first = prepare(tmp_path, shards=4)
    out = tmp_path / "out"
    before = tree(out)
    damaged, changed = first["splits"]["train"]["shards"][1]["file"], first["splits"]["val"]["shards"][0]["file"]
    with open(out / damaged, "r+b") as file:
        file.seek(200)
        file.write(b"x")
    write_png(folder / "masks" / "val" / "p1.png", np.ones((20, 24)))
    prepare(tmp_path, shards=4)
    now = tree(out)
    shards = {name for name in now if "array_record" in name}
    assert {name for name in shards if now[name][0] != before[name][0]} == {damaged, changed}
    assert now[damaged][1] == before[damaged][1]
    assert records(tmp_path, "val")[1]["label"].tolist() == [[1] * 24] * 20
    prepare(tmp_path, shards=2)
    assert not shards & tree(out).keys()
    assert_same_samples(records(tmp_path), sources(tmp_path)["train"])


def test_neither_writing_nor_reading_imports_tensorflow(folder, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    code = f"""
import tensorflow_datasets as tfds
from tests.commands.test_data_prepare import prepare, records
prepare({str(tmp_path)!r}, shards=3)
records({str(tmp_path)!r})[0]
data = tfds.builder_from_directory({str(tmp_path / "out")!r}).as_data_source("train")
print(len(data), data[0]["image"].shape, data[0]["mask"].shape, data[3]["file_name"].decode())
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stdout == "12 (20, 24, 3) (20, 24, 1) p11.jpg\n", ran.stderr
    assert not (tmp_path / "imported").exists()


def test_tfds_reads_the_masks_with_255_as_ignore(folder, tmp_path):
    import tensorflow_datasets as tfds

    prepare(tmp_path, shards=3)
    data = tfds.builder_from_directory(tmp_path / "out").as_data_source("train")
    label = sources(tmp_path)["train"][0]["label"]
    np.testing.assert_array_equal(data[0]["mask"][..., 0], np.where(label == -1, 255, label))
    assert data[0]["file_name"] == b"p0.jpg"


def test_the_builder_is_one_that_tfds_itself_can_run(folder, tmp_path):
    from mdp_jax.data.prepared.builder import SegmentationBuilder

    prepare(tmp_path, shards=3)
    builder = SegmentationBuilder("set", sources(tmp_path), {"train": 2, "val": 1}, str(tmp_path / "tfds"))
    builder.download_and_prepare()
    theirs, ours = builder.as_data_source("train"), records(tmp_path)
    assert [example["file_name"].decode() for example in theirs] == [ours.describe(i) for i in range(12)]
    for i in range(12):
        np.testing.assert_array_equal(theirs[i]["image"], ours[i]["image"], strict=True)
        np.testing.assert_array_equal(theirs[i]["mask"][..., 0].astype(np.int8), ours[i]["label"])  # 255 as int8 is -1


def test_command_prints_a_table(folder, tmp_path, capsys):
    arguments = ["data", "prepare", "set", "--data_dir", tmp_path, "--splits", "val", "--jobs", "1"]
    assert status(arguments) == 0
    shown = capsys.readouterr()
    assert "set: 3 classes, prepared in" in shown.out and "12" in shown.out
    assert "photo 12/12" in shown.err
    assert status(arguments) == 0
    assert "1 of 1 shards are there and whole" in capsys.readouterr().err
    assert len(ArrayRecordSource(base.array_record("set"), str(tmp_path), "val")) == 12


def test_bad_sample_stops_it_and_the_rest_stays(folder, tmp_path):
    prepare(tmp_path, shards=6)
    mask = folder / "masks" / "train" / "p7.png"
    good = mask.read_bytes()
    write_png(mask, np.full((20, 24), 9))
    with pytest.raises(UserError, match=r"p7\.png holds id 9") as error:
        prepare(tmp_path, shards=6)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="not prepared to the end"):
        records(tmp_path)
    assert not list((tmp_path / "out").glob("*.partial"))
    left = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]
    assert len(left["val"]["shards"]) >= 6
    mask.write_bytes(good)
    prepare(tmp_path, shards=6)
    assert_same_samples(records(tmp_path), sources(tmp_path)["train"])


def test_photos_of_the_training_are_made_smaller(folder, tmp_path, capsys):
    """Lossless ones as a run resizes them, bit for bit; JPEGs nearly so; small ones and other splits not at all."""
    rng = np.random.default_rng(2)
    exact, small = rng.integers(0, 256, (31, 48, 3)), rng.integers(0, 256, (10, 37, 3))
    rows, columns = np.mgrid[:40, :64]
    smooth = np.stack([rows * 6, columns * 3, 255 - rows * 2 - columns], axis=-1)
    for name, photo in {"p0": exact, "p1": small, "p2": smooth}.items():
        (folder / "images" / "train" / f"{name}.jpg").unlink()
        write_png(folder / "masks" / "train" / f"{name}.png", rng.integers(0, 3, photo.shape[:2]))
        if name == "p0":
            write_png(folder / "images" / "train" / "p0.png", photo)
        else:
            write_jpeg(folder / "images" / "train" / f"{name}.jpg", photo, cv2.IMWRITE_JPEG_QUALITY, 100)
    arguments = ["data", "prepare", "set", "--data_dir", tmp_path, "--out", tmp_path / "out", "--short_side", "12"]
    assert status(arguments) == 0
    assert "short side of at most 12" in capsys.readouterr().out
    stored, raw = records(tmp_path), sources(tmp_path)["train"]
    data = base.finetune().data
    data.short_side = 12
    resized = open_source(base.folder("set", "set"), data, str(tmp_path), "train", 0)
    from_records = open_source(base.array_record("set", "out"), data, str(tmp_path), "train", 0)
    at = {stored.describe(i).split(".")[0]: i for i in range(len(stored))}
    assert stored[at["p0"]]["image"].shape == (12, 19, 3)  # 48 x 12 / 31 is 18.6
    for i in (at["p0"], at["p1"]):
        for key in ("image", "label"):
            np.testing.assert_array_equal(from_records[i][key], resized[i][key], strict=True)
    np.testing.assert_array_equal(stored[at["p1"]]["image"], raw[at["p1"]]["image"], strict=True)
    assert stored[at["p1"]]["image"].shape == (10, 37, 3)
    one, other = from_records[at["p2"]], resized[at["p2"]]
    np.testing.assert_array_equal(one["label"], other["label"], strict=True)
    assert one["image"].shape == (12, 19, 3) and stored.files(0) == ()
    assert np.abs(one["image"].astype(int) - other["image"]).max() <= 6
    assert_same_samples(records(tmp_path, "val"), sources(tmp_path)["val"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["short_side"] == 12 == stored.stored_short_side and records(tmp_path, "val").stored_short_side == 0
    val = [shard["file"] for shard in manifest["splits"]["val"]["shards"]]
    before = tree(tmp_path / "out")
    assert status(arguments[:-2]) == 0  # without the option: all of the training anew
    now = tree(tmp_path / "out")
    assert "short_side" not in json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {name: now[name] for name in val} == {name: before[name] for name in val}
    assert_same_samples(records(tmp_path), sources(tmp_path)["train"])


@pytest.mark.parametrize("command", ["pretrain", "finetune", "adopt"])
@pytest.mark.parametrize("short_side", [0, 13])
def test_a_run_sees_validation_photos_in_the_size_of_the_training(command, short_side, folder, tmp_path, capsys):
    preparation.prepare("set", "folder", sources(tmp_path), tmp_path / "prepared" / "set", 2, 1 << 20, short_side=12)
    loop = "pretrain" if command == "pretrain" else "finetune"
    (tmp_path / "config.py").write_text(
        "from mdp_jax import configs\n\n\ndef get_config():\n"
        f"    config = configs.shrink(configs.{loop}())\n    dataset = configs.array_record('set')\n"
        + ("    config.sources = (dataset,)\n" if loop == "pretrain" else "    config.dataset = dataset\n")
        + f"    config.data.short_side = {short_side}\n    config.steps = 2\n    return config\n"
    )
    more = ["--checkpoint", "scratch"] if command == "adopt" else []
    arguments = [command, "--config", tmp_path / "config.py", "--data_dir", tmp_path, "--workdir", tmp_path / "run"]
    arguments[3:5] = [f"--config.data_dir={tmp_path}"]
    assert status([*arguments, *more]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1] == (
        f"mdp: config.data.short_side={short_side}: dataset 'set' was prepared with --short_side 12; expected 1 to 12, "
        "or records that are prepared without it"
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_short_side_without_the_training(folder, tmp_path, capsys):
    arguments = ["data", "prepare", "set", "--data_dir", tmp_path, "--splits", "val", "--short_side", "12"]
    assert status(arguments) == 2
    assert capsys.readouterr().err == "mdp: --short_side 12: belongs to the split train; expected it in --splits\n"
    assert not (tmp_path / "prepared").exists()


def test_no_space_is_said_before_anything_is_written(folder, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=64 << 20))
    with pytest.raises(UserError, match=r"out: preparing set needs about 65 MiB, of which 64 MiB are free there"):
        prepare(tmp_path)
    assert not (tmp_path / "out").exists()


def test_full_disk_in_the_middle(folder, tmp_path, monkeypatch):
    from mdp_jax.data.prepared import shards

    class Full:
        def __init__(self, path, options):
            pathlib.Path(path).write_bytes(b"x")

        def write(self, record):
            raise RuntimeError("write() failed:\nNo space left on device")

        def close(self):
            pass

    monkeypatch.setattr(shards.array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(UserError, match=r"cannot be written: write\(\) failed: No space left on device$"):
        prepare(tmp_path)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "manifest.json"}


def test_goes_on_where_the_first_write_was_broken_off(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json.partial").write_text("{")
    (tmp_path / "out" / ".lock").write_text("")
    assert prepare(tmp_path)["complete"]


def test_one_at_a_time(folder, tmp_path):
    with (
        locked(tmp_path / "out", ".lock", "--out", "the first"),
        pytest.raises(UserError, match=r"--out .*out: in use by another mdp data prepare"),
    ):
        prepare(tmp_path)
    assert prepare(tmp_path)["complete"]


def test_files_of_no_bytes_are_bad_and_not_left_out(folder, tmp_path):
    for file in [*(folder / "images" / "val").iterdir(), *(folder / "masks" / "val").iterdir()]:
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"images/val/p0\.jpg is unreadable \(0 bytes\)"):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "--jobs: 0: expected a whole number from 1"),
        (["--shard_mib", "0"], "--shard_mib: 0: expected a whole number from 1"),
        (["--splits", "train,test"], "images/test is no folder"),
        (["--config.limit=3"], "--config.limit: prepare writes the whole dataset"),
        (["--config.labels=none"], "--config.labels: prepare writes the whole dataset"),
        (["--kind", "tfds"], "--kind: invalid choice: 'tfds'"),
        (["--root", "nowhere"], "nowhere of dataset 'set' is no folder"),
        (["--out", "other"], "other: not empty and without manifest.json"),
        (["--out", "file"], "file: a file; expected a folder"),
        (["--out", "second"], "second: holds other of kind folder; expected another folder"),
        (["--out", "only_val", "--splits", "train"], "only_val: holds the split val, too; expected it in --splits"),
        (["--archive", "file"], "--archive file: neither zip nor tar"),
    ],
)
def test_wrong_use(folder, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "second").mkdir()
    keys = {
        "version": "1.0.0",
        "name": "other",
        "kind": "folder",
        "complete": True,
        "classes": ["sky"],
        "palette": None,
    }
    (tmp_path / "second" / "manifest.json").write_text(json.dumps(keys | {"splits": {}}))
    (tmp_path / "only_val").mkdir()
    (tmp_path / "only_val" / "manifest.json").write_text(
        json.dumps(keys | {"name": "set", "splits": {"val": {"records": 0, "bytes": 0, "shards": []}}})
    )
    assert status(["data", "prepare", "set", "--data_dir", ".", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) == 1 + ("--archive" in arguments)  # which says what it unpacks
    assert not (tmp_path / "prepared").exists()


def test_names_that_tfds_does_not_take(folder, tmp_path, capsys):
    assert status(["data", "prepare", "my-set", "--root", "set", "--data_dir", tmp_path]) == 2
    assert "dataset 'my-set': expected a name of letters, digits and _" in capsys.readouterr().err


def test_real_photos(shared_data, tmp_path):
    prepare_arguments = ["--data_dir", shared_data, "--out", tmp_path / "out", "--splits", "val", "--shard_mib", "1"]
    assert status(["data", "prepare", "msrc_v2", *prepare_arguments]) == 0
    raw = FolderSource(base.folder("msrc_v2", "msrc_v2"), str(shared_data), "val")
    prepared = ArrayRecordSource(base.array_record("msrc_v2", "out"), str(tmp_path), "val")
    assert len(list((tmp_path / "out").glob("*array_record*"))) > 2
    for i in range(0, len(raw), 9):
        for key, value in raw[i].items():
            np.testing.assert_array_equal(prepared[i][key], value, strict=True)
