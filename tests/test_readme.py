"""The README's own commands, as they stand there, on small data."""

import functools
import json
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess

import pytest

from mdp_jax import cli
from mdp_jax import config as configs
from mdp_jax.commands import reproduce
from mdp_jax.studies.engine import Engine
from tests.data.fixtures import write_folder
from tests.end_to_end import processes

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SMALL_NETWORK = ["--config.model.backbone=resnet18", "--config.model.width=0.0625"]
SMALL_NETWORK += ["--config.model.decoder.channels=8", "--config.data.crop=(32,32)", "--config.devices=1"]
SMALL_RUN = [*SMALL_NETWORK, "--config.batch=4", "--config.steps=2"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(*words):
    """The README's `mdp` commands that hold all these words, as lists of arguments, in order."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("mdp ")]
    return [shlex.split(line)[1:] for line in lines if all(word in line for word in words)]


def test_make_targets_exist():
    named = [line.split()[1] for block in blocks("bash") for line in block.splitlines() if line.startswith("make ")]
    assert named == ["quickstart", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: venv\n" in makefile for target in named)


def test_every_part_is_in_the_table():
    assert all(f"`mdp {part}`" in README for part in cli.PARTS)


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert all((ROOT / target).exists() for target in targets if not target.startswith("http"))


def test_own_data(shallow, plain_pages, tmp_path, monkeypatch):
    """The files and commands of "Your own data", with a small network and two steps."""
    monkeypatch.chdir(tmp_path)
    names = {"streets": ("road", "car"), "rooms": ("bed", "unknown", "lamp")}
    for name, classes in names.items():
        write_folder(pathlib.Path("data") / name, classes=classes, photos=3, size=(40, 50))
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        shutil.copy(f"data/streets/{kind}/val/p0.{suffix}", f"data/streets/{kind}/val/0001.{suffix}")
    for block in blocks("python"):
        pathlib.Path(block.split("\n")[0].removeprefix("# ")).write_text(block)
    (check,) = commands("data check streets")
    assert cli.run(check) == 0
    loops = commands("my_pretrain") + commands("my_finetune")
    assert [loop[0] for loop in loops] == ["pretrain", "finetune"]
    for command in loops:
        assert cli.run([*command, *SMALL_RUN]) == 0
    for command in commands("runs/streets"):
        if command[0] in ("evaluate", "predict", "convert"):
            assert cli.run(command) == 0
    assert pathlib.Path("runs/streets/evaluation.json").exists()
    assert pathlib.Path("predictions/0001.png").exists()
    assert pathlib.Path("streets.safetensors").exists()
    found = runpy.run_path("label.py")
    assert found["labels"].shape == found["photo"].shape[:2] and set(found["net"].classes) == set(names["streets"])


def test_own_suite(shallow, plain_pages, tmp_path, monkeypatch, capsys):
    """The command about settings lists all its runs, and one of them is run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "Engine", functools.partial(Engine, command=processes.command()))
    for name in ("streets", "rooms"):
        write_folder(pathlib.Path("data") / name, classes=("road", "unknown"), photos=3, size=(40, 50))
    values = [word.removeprefix("--config.").split("=") for word in SMALL_RUN]
    small = "".join(f"    config.{key} = {value!r}\n" for key, value in values if key == "model.backbone")
    small += "".join(f"    config.{key} = {value}\n" for key, value in values if key != "model.backbone")
    for block in blocks("python"):
        text = block.replace("    return config\n", f"{small}    return config\n").replace(
            'holdout": 50', 'holdout": 1'
        )
        pathlib.Path(block.split("\n")[0].removeprefix("# ")).write_text(text)
    (command,) = commands("my_suite.py")
    assert cli.run([*command, "--list"]) == 0
    assert "21 runs, 0 finished" in capsys.readouterr().err
    assert cli.run([*command, "--seeds", "1", "--only", "scratch"]) == 0
    assert "Not complete: 3 of 4 fine-tunings are missing." in capsys.readouterr().out
    (row,) = json.loads(pathlib.Path("runs/reproduce/streets/reproduce.json").read_text())[:1]
    assert (row["claim"], row["verdict"]) == ("mdp_over_scratch", "undecided")
    config = json.loads(pathlib.Path("runs/reproduce/streets/scratch/seed0/finetuned/config.json").read_text())
    assert (config["steps"], config["dataset"]["holdout"]) == (2, 1)


@pytest.mark.parametrize("command", commands("reproduce --suite mini"), ids=lambda command: command[2])
def test_studies_are_understood(command, tmp_path, capsys):
    """They take hours; here their runs are listed."""
    assert cli.run([*command, "--list", "--workdir", str(tmp_path)]) == 0
    assert "0 finished" in capsys.readouterr().err


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines() if "launch/" in line])
def test_launch_lines_say_what_they_would_do(line):
    said = subprocess.run(shlex.split(line), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "gcloud" in said


@pytest.mark.parametrize("command", commands("mdp plan"), ids=lambda command: command[0])
def test_plan_command_is_understood(command):
    """tests/commands/test_plan.py runs the part; here its config is read."""
    assert configs.load(command[command.index("--config") + 1]).sources


@pytest.mark.parametrize("command", commands("configs/mini"), ids=lambda command: command[0])
def test_mini_commands_are_understood(command):
    """They run on real photos in tests/end_to_end; here their configs and arguments are read."""
    rest, overrides = cli._split_overrides(command)
    config = configs.apply_overrides(configs.load(rest[rest.index("--config") + 1]), overrides)
    assert config.data_dir == "data"
