"""`mdp bench step`: which steps are timed, on which batches, and its rows; no test looks at a speed."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from mdp_jax.benchmarks import measure, peak, step
from mdp_jax.planning import programs
from mdp_jax.training import sharding
from tests import tiny

pytestmark = pytest.mark.usefixtures("shallow")
TORCH = importlib.util.find_spec("torch") is not None
TINY = "from tests import tiny\n\ndef get_config():\n    return tiny.{}_config(devices=1)\n"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "FIRST_ROUNDS", 1)
    monkeypatch.setitem(peak._SIDE, "cpu", 64)
    monkeypatch.setattr(peak, "_LEAST", 2**10)
    monkeypatch.setattr(peak, "_MOST", 2**12)


@pytest.fixture
def files(tmp_path):
    """Config files of the tiny runs, by loop."""
    for loop in ("pretrain", "finetune"):
        (tmp_path / f"{loop}.py").write_text(TINY.format(loop))
    return {loop: str(tmp_path / f"{loop}.py") for loop in ("pretrain", "finetune")}


def _rows(tmp_path, *arguments) -> list[dict]:
    cli.run(["bench", "step", "--seconds", "0.001", "--json", str(tmp_path / "rows.json"), *arguments])
    rows = json.loads((tmp_path / "rows.json").read_text())
    for row in rows:
        of_passes = ["time of passes", "operations of passes"]
        assert list(row)[:4] == ["case", "ours", "torch", "ratio"]
        assert list(row)[4:] == ["at most", "limited by", "peak (MiB)", "by processor", *of_passes]
        assert row["ours"] > 0 and row["at most"] > 0 and row["limited by"] in ("compute", "memory")
    return rows


def test_the_sizes_of_the_house(quick, files, tmp_path, monkeypatch, capsys):
    sizes = (
        step.Size(files["pretrain"], None, {"batch": "6"}),
        step.Size(files["finetune"], 5, {"model.compute_dtype": "bfloat16"}),
    )
    monkeypatch.setitem(step.SIZES, "cpu", sizes)
    pretraining, finetuning = _rows(tmp_path)
    name = "resnet18 of width 0.0625, 32 x 32 px, batch"
    assert pretraining["case"] == f"step: pretraining, {name} 6"
    assert finetuning["case"] == f"step: fine-tuning, {name} 8, bfloat16"
    for row in (pretraining, finetuning):
        assert (row["torch"] is not None) == TORCH
        assert not TORCH or row["ratio"] == pytest.approx(row["ours"] / row["torch"])
    assert pretraining["time of passes"] > 0 and 1 < pretraining["operations of passes"] < 2
    assert finetuning["time of passes"] is None and finetuning["operations of passes"] is None
    assert "Images/s of the whole training step on 1 cpu device" in " ".join(capsys.readouterr().out.split())


def test_own_config_that_pytorch_has_no_match_for(quick, files, tmp_path):
    (row,) = _rows(tmp_path, "--config", files["finetune"], "--classes", "9", "--config.trainable=head")
    assert row["torch"] is None and row["ratio"] is None


def test_the_options_of_the_readme(quick, files, tmp_path):
    options = ["--config.method.class_frequencies=True", "--config.model.projection.final_norm=True"]
    (row,) = _rows(tmp_path, "--config", files["pretrain"], *options)
    assert row["torch"] is None and row["time of passes"] > 0


def test_an_objective_with_a_classifier(quick, files, tmp_path):
    """Its network has no projection, and a step has no second view."""
    (row,) = _rows(tmp_path, "--config", files["pretrain"], "--config.objective=multi_head")
    assert row["torch"] is None and row["time of passes"] > 0 and row["operations of passes"] > 1


def test_relations_of_classes_are_part_of_the_step(monkeypatch):
    class Made(Exception):
        """Ends the measurement before anything is compiled."""

    found = []

    def pretraining(*_, names):
        found.append(names.related)
        raise Made

    monkeypatch.setattr(step.training, "pretraining", pretraining)
    for relations in ("none", "names"):
        config = tiny.pretrain_config(devices=1, method__relations=relations)
        with pytest.raises(Made):
            step._ours(config, programs.label_space(config, 4), sharding.make_mesh(1, 1), {}, None)
    assert found[0] is None and found[1].shape == (4, 4)


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed (extra torch)")
def test_comparable():
    pretraining, finetuning = tiny.pretrain_config(), tiny.finetune_config()
    assert step.comparable(pretraining, 1) and step.comparable(finetuning, 1)
    assert not step.comparable(pretraining, 2)
    for value in (
        "trainable=head",
        "accumulate=2",
        "model.remat=blocks",
        "model.compute_dtype=float64",
        "model.param_dtype=float64",
        "model.backbone=resnet34",
        "model.output_stride=32",
        "model.reads=('backbone', 'decoder')",
        "model.auxiliary.weight=0.4",
        "optim.ema_decay=0.999",
    ):
        other = configs.apply_overrides(tiny.finetune_config(), [tuple(value.split("="))])
        assert not step.comparable(other, 1)
    for value in (
        "objective=multi_head",
        "method.sparse_coding=no_push",
        "method.label_stride=1",
        "method.momentum_view=mixed",
        "method.class_frequencies=True",
        "model.projection.final_norm=True",
        "model.output_stride=32",
    ):
        other = configs.apply_overrides(tiny.pretrain_config(), [tuple(value.split("="))])
        assert not step.comparable(other, 1)


@pytest.mark.parametrize("platform", ["cpu", "accelerator"])
def test_every_size_can_run(platform):
    for size in step.SIZES[platform]:
        config = configs.apply_overrides(configs.load(size.config), list(size.values.items()))
        programs.check(config, devices=1)
        assert programs.label_space(config, size.classes).num_classes > 1


@pytest.mark.parametrize("loop", ["pretrain", "finetune"])
def test_batches_are_of_the_pipelines_shape(loop):
    config = getattr(tiny, f"{loop}_config")()
    space = programs.label_space(config, None)
    batch = step.random_batch(np.random.default_rng(0), config, space.num_classes)
    expected = programs.program(config, jax.devices()[:2], space).batch
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }
    assert batch["label"].min() == -1 and batch["label"].max() == space.num_classes - 1
    if loop == "pretrain":
        assert {0, 1, 2} <= set(batch["mix_kind"])


def test_bank_is_full():
    bank = step.random_bank(np.random.default_rng(0), 7, 3)
    np.testing.assert_allclose(np.linalg.norm(bank.vectors, axis=1), np.ones(7), rtol=1e-6)
    assert bank.seen.all()
