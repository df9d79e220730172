"""mdp_jax/commands/arguments.py: what is taken, and the one line for what is not."""

import argparse
import os
import pathlib

import pytest

from mdp_jax import config
from mdp_jax.commands import finetune, pretrain
from mdp_jax.commands.arguments import output_file, whole_number
from mdp_jax.configs import FinetuneConfig, PretrainConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation.chosen_weights import WEIGHTS
from mdp_jax.weights.files import SUFFIXES


def test_whole_number():
    assert whole_number("12") == 12


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", ""])
def test_no_whole_number(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number from 1"):
        whole_number(text)


def test_output_file(tmp_path):
    assert output_file(None) is None
    assert output_file("rows.json") == pathlib.Path("rows.json")
    assert output_file(str(tmp_path / "rows.json")) == tmp_path / "rows.json"


@pytest.mark.parametrize(("text", "message"), [("", "--json: an empty text"), (os.devnull, "is a character device")])
def test_what_a_file_would_not_be_written_to(text, message):
    with pytest.raises(UserError, match=f"{message}; expected a file"):
        output_file(text)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"x\.json: the folder cannot be written to; expected a file in one that can"):
        output_file(str(tmp_path / "x.json"))


@pytest.mark.parametrize("name", ["", "missing/rows.json"])
def test_no_output_file(tmp_path, name):
    with pytest.raises(UserError, match=r"--json .*: expected a file in a folder that exists"):
        output_file(str(tmp_path / name))


@pytest.mark.parametrize(("part", "loop"), [(pretrain, PretrainConfig), (finetune, FinetuneConfig)])
def test_the_help_of_a_run_is_true(part, loop):
    parser = argparse.ArgumentParser()
    part.add_arguments(parser)
    said = {action.option_strings[0]: action.help for action in parser._actions}
    assert all(form in said["--init"] for form in (*SUFFIXES, "scratch", "workdir of a run", "newest checkpoint"))
    config.load(said["--config"].split("e.g. ")[1], loop)  # one that this part takes
    assert all(f"{name}: " in said["--weights"] for name in WEIGHTS)
