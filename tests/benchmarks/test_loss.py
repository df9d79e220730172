"""`mdp bench loss`: what both sides are given, and its rows; no test looks at a speed."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from mdp_jax.benchmarks import loss, measure
from mdp_jax.method.losses import prototype_loss
from mdp_jax.objectives import mdp

TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "FIRST_ROUNDS", 1)


def _rows(tmp_path, *arguments) -> list[dict]:
    cli.run(["bench", "loss", "--seconds", "0.001", "--json", str(tmp_path / "rows.json"), *arguments])
    return json.loads((tmp_path / "rows.json").read_text())


def test_numbers_of_classes(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loss, "CLASSES", (6, 1500))
    monkeypatch.setattr(loss, "IMAGES", 2)
    monkeypatch.setattr(loss, "CROP", (32, 40))
    rows = _rows(tmp_path, "--config.method.loss_chunk=12")
    names = ("value and gradient", "class means and bank")
    assert [row["case"] for row in rows] == [f"loss: {name}, {c} classes" for c in ("6", "1,500") for name in names]
    for row in rows:
        columns = ["case", "ours", "torch", "ratio", "by processor", "time of plain form"]
        assert list(row) == columns and row["ours"] > 0
        assert (row["time of plain form"] is not None) == ("value" in row["case"])
        assert (row["torch"] is not None) == TORCH
        assert not TORCH or row["ratio"] == pytest.approx(row["ours"] / row["torch"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "of 40 pixels with 256 dimensions (cpu), float32; logits of 12 pixels at a time" in printed


def test_own_config(quick, tmp_path):
    values = ["--config.batch=2", "--config.data.crop=(16,16)", "--config.method.sparse_coding=no_push"]
    value, update = _rows(tmp_path, "--config", "configs/mini/pretrain.py", "--classes", "12", *values)
    assert value["case"] == "loss: value and gradient, 12 classes" and value["torch"] is None
    assert (update["torch"] is not None) == TORCH


OWN = ["--config", "configs/mini/pretrain.py", "--classes", "12", "--config.batch=2", "--config.data.crop=(16,16)"]
METHOD = "--config.method."


@pytest.mark.parametrize("values", [["negatives=own_set"], ["relations=names"], ["class_frequencies=True"]])
def test_masks_and_frequencies_are_part_of_the_loss(quick, tmp_path, monkeypatch, values):
    """The other sides have neither."""
    given = []

    def noted(embeddings, labels, weights, bank, options, chunk, related=None, sets=None, on_cpu=None):
        given.append((related, sets, bank.pixels))
        return prototype_loss(embeddings, labels, weights, bank, options, chunk, related, sets, on_cpu)

    monkeypatch.setattr(loss, "prototype_loss", noted)
    value, update = _rows(tmp_path, *OWN, *(METHOD + value for value in values))
    ((related, sets, pixels),) = given
    assert (related is not None) == (values == ["relations=names"]) and (related is None or related.shape == (12, 12))
    assert (sets is not None) == (values == ["negatives=own_set"]) and (sets is None or len(set(sets.tolist())) > 1)
    assert (pixels is not None) == (values == ["class_frequencies=True"])
    assert value["torch"] is None and value["time of plain form"] is None
    assert (update["torch"] is not None) == (TORCH and pixels is None)


def test_an_objective_without_sparse_coding(quick, tmp_path, monkeypatch):
    """Whatever `method.sparse_coding` says, PyTorch's side has none either, and the plain form is left out."""
    if TORCH:
        from mdp_jax.parity import torch_speed

        codings, real = set(), torch_speed.losses
        monkeypatch.setattr(torch_speed, "losses", lambda *args: codings.add(args[-1].sparse_coding) or real(*args))
    values = ["--config.objective=prototype", "--config.mixing.region=0", "--config.mixing.pixel=0"]
    value, _ = _rows(tmp_path, *OWN, *values, f"{METHOD}sparse_coding=pull")
    assert value["time of plain form"] is None
    assert not TORCH or (codings == {"off"} and value["torch"] is not None)


def test_the_warm_up_of_prototypes_is_part_of_the_update(quick, tmp_path):
    value, update = _rows(tmp_path, *OWN, f"{METHOD}prototype_warmup=True")
    assert update["torch"] is None and (value["torch"] is not None) == TORCH


def test_the_plain_form_is_the_same_loss():
    config = configs.load("configs/mini/pretrain.py")
    config.batch, config.data.crop = 2, (8, 8)
    options = mdp.loss_options(config.method)
    inputs = loss._inputs(config, classes=9)
    ours = jax.value_and_grad(lambda v: prototype_loss(v, *inputs[1:], options, chunk=5)[0])(inputs.v)
    plain = jax.value_and_grad(lambda v: loss._plain(v, *inputs[1:], options))(inputs.v)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_inputs():
    config = configs.load("configs/mini/pretrain.py")
    config.batch, config.data.crop = 6, (64, 64)
    inputs = loss._inputs(config, classes=5)
    assert inputs.v.shape == (6, 64, 64) and inputs.labels.shape == inputs.weights.shape == (6, 64, 2)
    np.testing.assert_allclose(np.linalg.norm(inputs.v, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(inputs.weights.sum(axis=-1), 1.0, rtol=1e-6)
    single = inputs.labels[..., 1] < 0
    assert (inputs.weights[single] == [1, 0]).all() and (inputs.weights[~single] < 1).all()
    assert set(np.unique(inputs.labels)) == {-1, 0, 1, 2, 3, 4} and 0.6 < single.mean() < 0.9
