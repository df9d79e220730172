"""Weights & Biases, with a stand-in for the library: what it is given, and that a run survives it."""

import shutil
import sys
import types

import cv2
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.training import wandb_writer
from mdp_jax.training.monitor import Monitor
from mdp_jax.training.wandb_writer import WandbWriter


class Library(types.ModuleType):
    """`wandb`, as far as the writer uses it."""

    def __init__(self):
        super().__init__("wandb")
        self.rows, self.begun, self.finished, self.fails = [], [], 0, False
        self.Image = lambda picture: ("picture", picture.size)

    def init(self, **values):
        self.begun.append(values)
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, row):
        if self.fails:
            raise ConnectionError("no route to the server\nand more lines")
        self.rows.append(row)

    def finish(self):
        self.finished += 1


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Library())
    return sys.modules["wandb"]


def writer(folder):
    return WandbWriter(folder, project="fields", config={"steps": 4})


def test_numbers_and_pictures_by_step(library, tmp_path):
    png = cv2.imencode(".png", np.zeros((2, 3, 3), np.uint8))[1].tobytes()
    with Monitor(tmp_path, 0, 4, 8, lambda step: 0.1, also=writer) as monitor:
        monitor.write(2, {"loss": np.float32(0.5), "dataset_loss": [1.0, float("nan")]})
        monitor.show(2, {"photos": png})
    assert library.rows == [{"loss": 0.5, "dataset_loss/0": 1.0, "step": 2}, {"photos": ("picture", (3, 2)), "step": 2}]
    assert library.finished == 1
    (begun,) = library.begun
    assert (begun["project"], begun["config"], begun["dir"]) == ("fields", {"steps": 4}, str(tmp_path))


def test_a_run_that_goes_on_is_the_same_run_there(library, tmp_path):
    writer(tmp_path)
    writer(tmp_path)
    first, second = library.begun
    assert first["id"] == second["id"] and second["resume"] == "allow"
    (tmp_path / "other").mkdir()
    writer(tmp_path / "other")
    assert library.begun[2]["id"] != first["id"]


def test_a_copy_of_a_workdir_is_another_run_and_a_moved_one_is_not(library, tmp_path, capsys):
    first, link = tmp_path / "first", tmp_path / "link"
    first.mkdir()
    link.symlink_to(first)
    writer(first)
    writer(link)
    shutil.copytree(first, tmp_path / "copy")
    assert capsys.readouterr().err == ""
    writer(tmp_path / "copy")
    said = capsys.readouterr().err
    assert said.startswith(f"mdp: Weights & Biases: {tmp_path / 'copy'} is a copy of {first}") or str(link) in said
    writer(tmp_path / "copy")
    link.unlink()
    first.rename(tmp_path / "moved")
    writer(tmp_path / "moved")
    own, by_link, copy, copy_again, moved = (begun["id"] for begun in library.begun)
    assert own == by_link == moved and copy == copy_again != own
    assert capsys.readouterr().err == ""


def test_a_network_that_fails_ends_no_run(library, tmp_path, capsys):
    with Monitor(tmp_path, 0, 4, 8, lambda step: 0.1, also=writer) as monitor:
        library.fails = True
        monitor.write(2, {"loss": 0.5})
        monitor.write(4, {"loss": 0.4})
    said = capsys.readouterr().err
    assert said.count("mdp: Weights & Biases: no route to the server; going on without it") == 1


def test_without_the_library_or_a_login_a_run_does_not_begin(library, tmp_path, monkeypatch):
    def refuse(**values):
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(library, "init", refuse)
    with pytest.raises(UserError, match=r"config\.wandb='fields': api_key not configured; expected `wandb login`"):
        writer(tmp_path)
    monkeypatch.setattr(wandb_writer.importlib.util, "find_spec", lambda name: None)
    wandb_writer.require("")
    with pytest.raises(UserError, match=r"Weights & Biases is not installed; pip install 'mdp_jax\[wandb\]'"):
        wandb_writer.require("fields")
