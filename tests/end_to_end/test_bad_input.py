"""A user's mistakes through the `mdp` command: exit status 2, one line that names file and value, nothing written."""

import pathlib
import re
import shutil

import numpy as np
import pytest

from mdp_jax import cli
from tests.data.fixtures import write_folder, write_jpeg, write_png

pytestmark = pytest.mark.usefixtures("shallow")
CONFIG = """
from mdp_jax import configs as base


def get_config():
    config = base.{loop}()
    {sources}
    config.model.backbone = "resnet18"
    config.model.width = 0.0625
    config.data.crop = (32, 32)
    config.batch = 8
    config.devices = 2
    config.steps = 2
    return config
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two folder datasets, configs of both loops, and the current directory beside them."""
    monkeypatch.chdir(tmp_path)
    write_folder(pathlib.Path("data/streets"), size=(40, 50))
    write_folder(pathlib.Path("data/rooms"), classes=("bed", "lamp"), size=(40, 50))
    both = 'config.sources = tuple(base.folder(name, root="data/" + name) for name in ("streets", "rooms"))'
    one = 'config.dataset = base.folder("streets", root="data/streets")'
    pathlib.Path("pretrain.py").write_text(CONFIG.format(loop="pretrain", sources=both))
    pathlib.Path("finetune.py").write_text(CONFIG.format(loop="finetune", sources=one))
    return pathlib.Path("data")


def no_data(data):
    shutil.rmtree(data / "streets")


def no_photos(data):
    for file in (data / "streets/images/train").iterdir():
        file.unlink()


def photo_without_mask(data):
    (data / "streets/masks/train/p2.png").unlink()


def mask_without_photo(data):
    (data / "streets/images/train/p2.jpg").unlink()


def truncated_photo(data):
    file = data / "rooms/images/train/p1.jpg"
    file.write_bytes(file.read_bytes()[:-20])


def no_photo_at_all(data):
    (data / "rooms/images/train/p1.jpg").write_text("not a photo")


def mask_of_another_size(data):
    write_png(data / "streets/masks/train/p3.png", np.zeros((40, 49)))


def id_without_class(data):
    write_png(data / "rooms/masks/train/p0.png", np.full((40, 50), 2))


def class_twice(data):
    (data / "rooms/classes.txt").write_text("bed\nbed\n")


MISTAKES = [
    (no_data, r"data/streets of dataset 'streets' is no folder; expected "),
    (no_photos, r"data/streets/images/train has no such file: expected "),
    (photo_without_mask, r"data/streets/images/train/p2\.jpg has no mask; expected data/streets/masks/train/p2\.png"),
    (mask_without_photo, r"streets/masks/train/p2\.png has no photo; expected data/streets/images/train/p2\.jpg"),
    (truncated_photo, r"rooms/images/train/p1\.jpg is truncated"),
    (no_photo_at_all, r"rooms/images/train/p1\.jpg is unreadable"),
    (
        mask_of_another_size,
        r"streets/masks/train/p3\.png is 40 x 49 pixels \(height x width\); expected 40 x 50 as its photo",
    ),
    (id_without_class, r"rooms/masks/train/p0\.png holds id 2; expected 0 to 1 or 255"),
    (class_twice, r"classes\.txt line 2 repeats class 'bed'"),
]

VALUES = [
    ("pretrain", "optim.lrr=1", "the nearest is optim.lr"),
    ("pretrain", "data.crop=(30,32)", "config.data.crop=(30, 32): expected height and width divisible"),
    ("pretrain", "batch=6", "config.batch=6: expected a multiple of 4"),
    ("pretrain", "devices=99", "config.devices=99: expected at most 8, the devices"),
    ("pretrain", "devices=-1", "config.devices=-1: expected a number of devices, or 0"),
    ("pretrain", "data.std=(1.0,2.0)", "config.data.std=(1.0, 2.0): expected three numbers"),
    ("finetune", "data.mean=1.0,", "config.data.mean=(1.0,): expected three numbers"),
    ("pretrain", "model.decoder.rates=(0,1)", "config.model.decoder.rates=(0, 1): expected whole numbers from 1"),
    ("pretrain", "epochs=1e999", "--config.epochs=1e999: expected a finite number"),
    ("pretrain", "sources.rooms.drop_classes=('sofa',)", "drop_classes has 'sofa'; expected one of bed, lamp"),
    ("pretrain", "sources.rooms.name=streets", "two datasets are named 'streets'; expected each name once"),
    ("finetune", "model.backbone=resnet19", "config.model.backbone=resnet19: expected one of"),
    ("finetune", "dataset.limit=99", "dataset 'streets': limit is 99; expected 0 for all, or 1 to "),
    ("finetune", "init=nowhere", "nowhere: no such file or folder"),
]


def run(loop, capsys, *more):
    """Exit status and stderr of a command that must not leave a workdir behind."""
    with pytest.raises(SystemExit) as exit_:
        cli.main([loop, "--config", f"{loop}.py", "--workdir", "run", *more])
    assert not pathlib.Path("run").exists()
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_bad_data(data, capsys, mistake, message):
    mistake(data)
    status, err = run("pretrain", capsys)
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("mdp: ")
    assert re.search(message, err)


@pytest.mark.parametrize(("loop", "assignment", "message"), VALUES, ids=[assignment for _, assignment, _ in VALUES])
def test_bad_value(data, capsys, loop, assignment, message):
    if assignment.startswith("init="):
        status, err = run(loop, capsys, "--init", assignment.removeprefix("init="))
    else:
        status, err = run(loop, capsys, f"--config.{assignment}")
    assert status == 2
    assert err.count("\n") == 1
    assert message in err


def test_photo_that_goes_bad_in_the_middle(data, capsys):
    """What was not opened at the start stops the run when it is read, with the same line."""
    write_jpeg(data / "rooms/images/train/p1.jpg", np.zeros((40, 50, 3)))
    file = data / "rooms/images/train/p1.jpg"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SystemExit) as exit_:
        unchecked = ["--config.data.check_files=0", "--config.steps=8"]
        cli.main(["pretrain", "--config", "pretrain.py", "--workdir", "run", *unchecked])
    assert exit_.value.code == 2
    assert "rooms/images/train/p1.jpg is truncated" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("loop", "other"), [("pretrain", "finetune"), ("finetune", "pretrain")])
def test_a_config_of_the_other_loop(data, capsys, loop, other):
    pathlib.Path(f"{loop}.py").write_text(pathlib.Path(f"{other}.py").read_text())
    status, err = run(loop, capsys)
    assert status == 2
    assert err == f"mdp: --config {loop}.py: the config of mdp {other}; expected one of mdp {loop}\n"
