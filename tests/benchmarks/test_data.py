"""`mdp bench data`: what is timed and how, its table and JSON; no test looks at a speed."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import configs as base
from mdp_jax.benchmarks import data, measure
from mdp_jax.data.batches import augment
from mdp_jax.data.doctor import scan
from mdp_jax.data.sources import open_source

TORCH = importlib.util.find_spec("torch") is not None
PRETRAINING = """
from mdp_jax import configs as base

def get_config():
    config = base.pretrain()
    config.sources = tuple(base.synthetic(name, images=2, size=(40, 48)) for name in ("harbor", "town"))
    config.data.crop, config.batch, config.model.backbone = (32, 32), 16, "resnet18"
    return config
"""


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(data, "PHOTOS", 3)
    monkeypatch.setattr(data, "SIZE", (60, 80))
    monkeypatch.setattr(measure, "TURNS", 1)
    monkeypatch.setattr(measure, "WARM_UP", 1)


def _rows(path: pathlib.Path, *arguments: str) -> list[dict]:
    cli.run(["bench", "data", "--seconds", "0.01", "--json", str(path), *arguments])
    return json.loads(path.read_text())


def test_drawn_photos(small, tmp_path, capsys):
    rows = _rows(tmp_path / "rows.json", "--config.data.crop=64,64")
    together = ["all together", "all together, by processor time", "all together, on all cores"]
    names = ["read", "decode", "augment", "batch", "to device", *together]
    assert [row["case"] for row in rows] == [f"data: {name}" for name in names]
    for row in rows:
        assert list(row) == ["case", "ours", "torch", "ratio"] and row["ours"] > 0
        if TORCH and row["case"] not in ("data: read", "data: to device", "data: all together, on all cores"):
            assert row["ratio"] == pytest.approx(row["ours"] / row["torch"])
        else:
            assert row["torch"] is None and row["ratio"] is None
    printed = " ".join(capsys.readouterr().out.split())
    assert "data: all together" in printed and "60 x 80 pixels; 1 view of each, 64 x 64; batches of 16" in printed
    assert f"of one core, but for the last row, of {scan.cores()} core" in printed


def test_own_config(small, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(PRETRAINING)
    rows = _rows(tmp_path / "rows.json", "--config", str(file))
    assert [row["case"] for row in rows][:2] == ["data: read and decode", "data: augment"]
    assert all(row["ours"] > 0 and row["torch"] is None for row in rows)


def test_drawn_folder_is_a_dataset(small, tmp_path):
    data.draw_folder(tmp_path, photos=2)
    config = base.finetune()
    source = open_source(base.folder("drawn", str(tmp_path)), config.data, "", "train", 0)
    assert len(source) == 2
    assert source[1]["image"].shape == (60, 80, 3) and source[1]["label"].max() > 0


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed (extra torch)")
def test_the_other_side_does_the_same_work(tmp_path):
    from mdp_jax.parity import torch_loader

    data.draw_folder(tmp_path, photos=2)
    config = base.finetune()
    config.data.category_ratio = 1.0
    source = open_source(base.folder("drawn", str(tmp_path)), config.data, "", "train", 0)
    files = [source.files(i) for i in range(2)]
    decoded = torch_loader.decode(*(path.read_bytes() for path in files[0]))
    np.testing.assert_array_equal(np.asarray(decoded[0]), source[0]["image"])
    other = torch_loader.View(config.data)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image, label = augment.finetune_view(source[0]["image"], source[0]["label"], rng, config.data)
        theirs = other(*decoded, np.random.default_rng(seed))
        assert theirs[0].numpy().shape == image.shape and theirs[1].numpy().dtype == label.dtype
        # One factor in both, as it is drawn first; so both have the same pixels of the crop to fill.
        assert abs((theirs[1].numpy() >= 0).mean() - (label >= 0).mean()) < 0.25
    crops = next(torch_loader.batches(files, other, 4))
    assert [tuple(part.shape) for part in crops] == [(4, 512, 512, 3), (4, 512, 512)]
    photo = source[0]["image"]
    for seed in range(20):
        ours = augment.photometric(photo, np.random.default_rng(seed), config.data.photometric)
        pillow = np.asarray(other._photometric(decoded[0], np.random.default_rng(seed)))
        assert np.abs(ours.astype(int) - pillow).mean() < 3  # hue and saturation have other units in Pillow
