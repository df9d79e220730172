"""A whole run in stages, over merged classes, with an unlabelled set."""

import json
import shutil

import jax
import numpy as np
import pytest

from mdp_jax import config as configs
from mdp_jax import configs as base
from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training.pretraining import pretrain
from tests import small, tiny


def assert_goes_on_after_step_7(config, run, again):
    """Stopped in the second stage, the run ends with the same state."""
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "9")
    with small.pages():
        pretrain(config, again)
    (expected, _), (found, _) = checkpoint.load(run), checkpoint.load(again)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert read_metrics(again)[-1]["dataset_images"] == read_metrics(run)[-1]["dataset_images"]


def test_stages_merged_classes_and_unlabelled_photos(shallow, shared_programs, tmp_path):
    config = tiny.pretrain_config(
        devices=1, steps=9, log_every=1, checkpoint_every=7, optim__warmup_epochs=10.0, label_space="merged"
    )
    config.unlock()
    config.sources = tuple(base.synthetic(name, images=6, size=(40, 48)) for name in ("town", "harbor", "meadow"))
    config.lock()
    values = [("sources.harbor.labels", "none"), ("stages", "(('town','harbor'),('meadow',))")]
    config = configs.apply_overrides(config, [*values, ("method.pseudo_threshold", "0.2")])
    pretrain(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    # Twelve of 18 photos in the first stage, with steps 1 to 6, and so without any of meadow.
    assert [row["dataset_images"][2] for row in rows] == [0] * 6 + [8, 16, 24]
    assert [row["dataset_images"][:2] for row in rows[6:]] == [rows[5]["dataset_images"][:2]] * 3
    assert [row["lr"] for row in rows[6:]] == pytest.approx([1 / 32, 0.75 / 32, 0.25 / 32])  # half a cosine of 3 steps
    assert rows[0]["lr"] == pytest.approx(1 / 32) and rows[5]["lr"] < 0.003
    assert rows[0]["pseudo_fraction"] in (0.0, None) and rows[5]["pseudo_fraction"] > 0  # at first no class was seen
    assert all(row["pseudo_fraction"] is None for row in rows[6:])
    assert all(row["dataset_valid_pixels"][1] == 0 for row in rows)
    space = json.loads((tmp_path / "run" / "label_space.json").read_text())
    assert [row["global_id"] for row in space if row["class"] == "sky"] == [0, 0]
    assert {row["dataset"] for row in space} == {"town", "meadow"} and len(space) == 14 + 12
    state, _ = checkpoint.load(tmp_path / "run")
    assert state["memory"]["bank"]["vectors"].shape == (25, 8)
    assert_goes_on_after_step_7(config, tmp_path / "run", tmp_path / "again")
    assert "Prototypes" in (tmp_path / "run" / "report.html").read_text()
