"""`mdp inspect` on workdirs with two kept checkpoints, of prototypes and of a classifier for each set."""

import argparse
import csv
import dataclasses
import importlib
import json
import pathlib
import re
import shlex
import shutil
import types

import numpy as np
import pytest

import mdp_jax
from mdp_jax import cli, config
from mdp_jax.configs import typed
from mdp_jax.data import sources
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import TransientError, UserError
from mdp_jax.evaluation import banks
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.storage import checkpoints
from tests import earlier, tiny

PACKAGE = pathlib.Path(mdp_jax.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return earlier.unpacked(tmp_path_factory.mktemp("inspect"))


def rows(file):
    return list(csv.DictReader(file.open(encoding="utf-8")))


def test_a_run_over_time(folder, tmp_path, capsys):
    words = ["--checkpoint", str(folder / "pretrained"), "--out", str(tmp_path), "--pixels", "3"]
    assert cli.run(["inspect", *words]) == 0
    out = capsys.readouterr().out
    assert "nearest both ways" in out and f"tables, pictures and page: {tmp_path}" in out
    first, last = (saved.state["memory"]["bank"] for saved in checkpoints.each(folder / "pretrained"))
    classes = rows(tmp_path / "classes.csv")
    assert [int(row["images seen"]) for row in classes] == last["images_seen"].tolist()
    for row, before, after, count in zip(
        classes, first["vectors"], last["vectors"], last["images_seen"] - first["images_seen"], strict=True
    ):
        if before.any():
            angle = np.degrees(np.arccos(np.clip(before.astype(float) @ after.astype(float), -1, 1)))
            np.testing.assert_allclose(float(row["turned since 2 (°)"]), angle, atol=0.1)
        if after.any():
            assert row["steps since seen"] == ("0 to 1" if count else "at least 2")
    assert {row["nearest"] for row in rows(tmp_path / "neighbours.csv")} == {"both ways", "one way"}
    page = (tmp_path / "inspect.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "harbor/sea" in page
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["heatmap.png", "map.png", "over_time.png"]


def test_counts_of_a_workdir_that_has_none_of_its_last_set():
    """As those that earlier versions of mdp adopt --append made."""
    space = LabelSpace((("harbor", ("a", "b")), ("town", ("c",))))
    run = typed(tiny.pretrain_config())
    for join in (np.add, np.maximum):
        assert banks._of_classes([[9, 3, 7]], join, run, space).tolist() == [3, 7, 0]


def test_the_heads_of_a_classifier(folder, tmp_path, capsys):
    words = ["--checkpoint", str(folder / "multi_head"), "--out", str(tmp_path), "--map", "none"]
    assert cli.run(["inspect", *words]) == 0
    saved = checkpoints.load(folder / "multi_head")
    kernel = saved.state["params"]["classifier"]["conv"]["kernel"][0, 0]
    classes = rows(tmp_path / "classes.csv")
    np.testing.assert_allclose([float(row["norm"]) for row in classes], np.linalg.norm(kernel, axis=0), rtol=1e-5)
    sizes = [len([row for row in classes if row["set"] == name]) for name in ("harbor", "town")]
    pixels = [n for row, size in zip(saved.meta["ledger"], sizes, strict=True) for n in row[1 : 1 + size]]
    assert [int(row["pixels seen"]) for row in classes] == pixels
    assert not (tmp_path / "map.png").exists() and "earlier command" not in capsys.readouterr().err
    (tmp_path / "map.png").touch()
    assert cli.run(["inspect", *words, "--pixels", "0"]) == 0
    assert f"mdp: {tmp_path}/map.png: of an earlier command, and not written again" in capsys.readouterr().err


def test_a_pixel_has_the_class_of_more_than_a_half_of_its_cell():
    """Three cells: a half of class 0, more of class 1, and more of what is ignored."""
    net = types.SimpleNamespace(
        model=types.SimpleNamespace(output_stride=2),
        features_as_they_are=lambda photo, layers: np.arange(3.0).reshape(1, 3, 1),
    )
    label = np.array([[0, 1, 1, 1, -1, -1], [0, 1, 1, 0, -1, 0]], np.int16)
    sample = {"image": np.zeros((2, 6, 3), np.uint8), "label": label}
    features, own = banks._of_photo(net, sample, "projection", 2)
    assert (features.ravel().tolist(), own.tolist()) == ([0, 1, 2], [-1, 1, -1])


def test_pixels_of_each_class_and_photos_that_are_not_there(folder, monkeypatch):
    found = banks.history(folder / "pretrained")
    broken = [dataclasses.replace(s, images=6 if s.name == "town" else 0) for s in found.config.sources]
    found = found._replace(config=dataclasses.replace(found.config, sources=tuple(broken)))
    said = []
    pixels = banks.sample_pixels(folder / "pretrained", found, 4, None, said.append)
    assert len(said) == 1 and said[0].startswith("no pixels of harbor: ")
    assert pixels.vectors.shape == (len(pixels.ids), 8) and np.bincount(pixels.ids).max() == 4
    harbor = found.label_space.global_ids[0]

    def no_answer(*args, **kwargs):
        raise TransientError("the disk does not answer")

    monkeypatch.setattr(sources, "open_source", no_answer)
    with pytest.raises(TransientError):
        banks.sample_pixels(folder / "pretrained", found, 4, None, said.append)
    assert len(np.unique(pixels.ids)) > 5 and not set(pixels.ids.tolist()) & set(harbor)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--checkpoint", "finetuned"],
            r"finetuned/config\.json: the config of mdp finetune; expected one of mdp pretrain",
        ),
        (["--checkpoint", "nowhere"], r"nowhere/config\.json: missing; expected the workdir"),
        (["--checkpoint", "pretrained", "--pixels", "-1"], "--pixels -1: expected 0 for none, or a number"),
        (["--checkpoint", "pretrained", "--config.seed=1"], r"--config\.seed: mdp inspect changes no config"),
        (["--checkpoint", "pretrained", "--out", "file"], "--out /.*/file: a file; expected a folder"),
        (["--checkpoint", "pretrained", "--out", ""], "--out: an empty text; expected a path"),
        (["--checkpoint", "pretrained", "--pixels", "0", "--data_dir", "d"], "--data_dir d: of photos, and --pixels 0"),
    ],
)
def test_what_cannot_be(folder, words, message, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "file").touch()
    with pytest.raises(UserError, match=message):
        cli.run(["inspect", *words])
    assert not (folder / "pretrained" / "inspect").exists()


def test_a_workdir_with_files_of_two_runs(folder, tmp_path):
    run = shutil.copytree(folder / "pretrained", tmp_path / "run")
    names, values = (json.loads((run / name).read_text()) for name in ("label_space.json", "config.json"))
    (run / "label_space.json").write_text(json.dumps([names[0] | {"class": "moon"}, *names[1:]]))
    with pytest.raises(UserError, match=r"run/checkpoints: class 0 of dataset 'harbor' is 'air', expected 'moon'"):
        banks.history(run)
    (run / "label_space.json").write_text(json.dumps(names))
    (run / "config.json").write_text(json.dumps(values | {"sources": values["sources"][:1]}))
    with pytest.raises(UserError, match=r"run/label_space\.json: dataset 1 is 'town', expected none"):
        banks.history(run)


def test_metrics_that_cannot_be_read_leave_nothing(folder, tmp_path, monkeypatch):
    run = shutil.copytree(folder / "pretrained", tmp_path / "run")
    (run / "metrics.jsonl").write_text("{}\n{")
    monkeypatch.setattr(banks, "sample_pixels", lambda *_: pytest.fail("photos were read"))
    with pytest.raises(UserError, match=r"metrics\.jsonl line 1"):
        cli.run(["inspect", "--checkpoint", str(run)])
    assert not (run / "inspect").exists()


def test_vectors_that_are_not_finite(folder, monkeypatch):
    broken = dataclasses.replace(OBJECTIVES["mdp"].class_rows, directions=lambda _: np.full((24, 8), np.nan))
    monkeypatch.setitem(OBJECTIVES, "mdp", dataclasses.replace(OBJECTIVES["mdp"], class_rows=broken))
    with pytest.raises(UserError, match="pretrained/checkpoints/2: vectors of classes that are not finite; expected"):
        banks.history(folder / "pretrained")


def test_an_objective_without_vectors_of_classes(folder, monkeypatch):
    bare = OBJECTIVES["pixel_to_pixel"]
    assert bare.class_rows is None
    monkeypatch.setitem(OBJECTIVES, "mdp", bare)
    with pytest.raises(UserError, match="objective mdp has neither prototypes nor a classifier; expected one that has"):
        banks.history(folder / "pretrained")


def test_the_commands_of_the_page_are_ones():
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "inspect.md").read_text()
    lines = [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
        if line.startswith("mdp ")
    ]
    assert len(lines) == 6
    for line in lines:
        part, *rest = shlex.split(line)[1:]
        words, overrides = cli._split_overrides(rest)
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(f"mdp_jax.commands.{part.replace('-', '_')}").add_arguments(parser)
        parser.parse_args(words)
        if part in ("pretrain", "edit-bank"):
            config.apply_overrides(tiny.pretrain_config(), overrides)
    options = set(re.findall(r"`(--\w+)", text))
    own = "".join(
        (PACKAGE / "commands" / f"{name}.py").read_text() for name in ("inspect", "edit_bank", "predict", "adopt")
    )
    assert options and all(f'"{option}"' in own for option in options)
