"""`mdp bench evaluation`: its photos and its row; no test looks at a speed."""

import json

import pytest

from mdp_jax import cli
from mdp_jax.benchmarks import evaluation, measure


def test_the_row(shallow, tmp_path, monkeypatch, capsys):
    for name, value in (("ROUNDS", 1), ("FIRST_ROUNDS", 1)):
        monkeypatch.setattr(measure, name, value)
    for name, value in (("PHOTOS", 5), ("SHAPES", 2), ("HEIGHT", 32), ("WIDTH", 32)):
        monkeypatch.setattr(evaluation, name, value)
    words = ["--config.model.width=0.0625", "--config.model.decoder.channels=8"]
    file = tmp_path / "rows.json"
    assert cli.run(["bench", "evaluation", "--seconds", "0.001", "--json", str(file), *words]) == 0
    (row,) = json.loads(file.read_text())
    assert list(row) == ["case", "ours", "torch", "ratio", "forward passes alone", "first (s)"]
    assert row["case"] == "evaluation: 5 photos of 2 shapes" and row["torch"] is None
    assert row["ratio"] == pytest.approx(row["ours"] / row["forward passes alone"]) and row["first (s)"] > 0
    assert "Photos/s of 32 x 32 pixels" in capsys.readouterr().out


def test_shapes_take_turns():
    photos = evaluation.Photos(5, 2)
    sizes = [photos[i]["image"].shape[:2] for i in range(len(photos))]
    assert sizes == [(96, 128), (98, 128)] * 2 + [(96, 128)]
    assert all(photos[i]["label"].shape == size for i, size in enumerate(sizes))
