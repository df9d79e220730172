"""`mdp plan`: bad input is one line before anything is compiled; a whole plan, on virtual devices and with libtpu."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from mdp_jax import cli
from mdp_jax.errors import UserError
from mdp_jax.planning import topologies
from mdp_jax.planning.collectives import KINDS

CONFIG = """from tests import tiny


def get_config():
    return tiny.{}_config()
"""


@pytest.fixture
def config(tmp_path):
    """Path of a config file of pretraining, at the size of tests."""
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format("pretrain"))
    return str(path)


@pytest.fixture
def virtual(monkeypatch, shallow):
    """The chips of a topology are virtual devices of the CPU."""
    monkeypatch.setattr(topologies, "devices", lambda name: jax.devices()[: topologies.chips(name)])
    monkeypatch.setattr(topologies, "require_compiler", lambda: None)


def test_plan_of_pretraining_on_two_slices(config, virtual, tmp_path, capsys):
    """The larger slice moves as many bytes, all of them in all-reduces. The loss is computed in four chunks."""
    rows_file = tmp_path / "plan.json"
    arguments = ["--topology", "v5e:2x2", "v5e:2x4", "--batch_per_chip", "2", "--quick", "--json", str(rows_file)]
    assert cli.run(["plan", "--config", config, *arguments, "--config.method.loss_chunk=8"]) == 0
    printed = capsys.readouterr().out
    small, large = json.loads(rows_file.read_text())
    assert [(row["topology"], row["batch"], row["classes"]) for row in (small, large)] == [
        ("v5e:2x2", 8, 24),
        ("v5e:2x4", 16, 24),
    ]
    assert {kind for kind in KINDS if large[f"{kind} (MiB)"]} == {"all-reduce"}
    assert large["all-reduce (MiB)"] == small["all-reduce (MiB)"]
    assert large["GFLOP"] == small["GFLOP"]
    outside = small["FLOPs outside the query encoder (%)"]
    assert 20 < small["FLOPs of the momentum encoder (%)"] < outside < 50
    shown = {name for name in small if name not in ("topology", "verdict")}
    assert {name for name in shown if name not in printed} == {f"{kind} (MiB)" for kind in KINDS[1:]}
    assert "v5e:2x4, batch 16, 24 classes: fits" in printed


def test_plan_of_finetuning(virtual, tmp_path, capsys):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format("finetune"))
    arguments = ["--topology", "v6e:2x2", "--batch", "4", "--classes", "150", "--quick"]
    assert cli.run(["plan", "--config", str(path), *arguments]) == 0
    assert "v6e:2x2, batch 4, 150 classes: fits" in capsys.readouterr().out


def test_plan_of_the_loss(config, virtual, tmp_path):
    rows_file = tmp_path / "loss.json"
    arguments = ["--topology", "v5e:2x2", "--part", "loss", "--batch_per_chip", "2", "4", "--classes", "40"]
    arguments += ["--config.method.loss_chunk=16", "--json", str(rows_file)]
    assert cli.run(["plan", "--config", config, *arguments]) == 0
    rows = json.loads(rows_file.read_text())
    assert [(row["pixels on a chip"], row["classes"]) for row in rows] == [(32, 40), (64, 40)]
    assert [row["logits of a chunk (MiB)"] * 2**20 for row in rows] == [16 * 4 * 40] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5e:3x3"], "--topology v5e:3x3: no such topology"),
        (["--topology", "v5e:2x2", "--batch", "12"], "config.batch=12: expected a multiple of 8"),
        (["--topology", "v5e:2x2", "--batch_per_chip", "3"], "config.batch=12: expected a multiple of 8"),
        (["--topology", "v5e:2x2", "--batch", "0"], "argument --batch: 0: expected a whole number from 1"),
        (["--topology", "v5e:2x2", "--classes", "many"], "argument --classes: many: expected a whole number from 1"),
        (["--topology", "v5e:2x2", "--classes", "1"], "--classes 1: expected at least one for each of the 2 datasets"),
        (["--topology", "v5e:2x2", "--json", "nowhere/x.json"], "--json nowhere/x.json: expected a file in a folder"),
        (["--topology", "v5e:2x2", "--config.fsdp=3"], "config.fsdp=3: expected a divisor of the 4 chips"),
    ],
)
def test_bad_input(arguments, message, config, virtual):
    with pytest.raises(UserError) as error:
        cli.run(["plan", "--config", config, *arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_prototype_loss(tmp_path, virtual):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format("finetune"))
    with pytest.raises(UserError, match=r"--part loss: .* has no prototype loss"):
        cli.run(["plan", "--config", str(path), "--topology", "v5e:2x2", "--part", "loss"])


def test_no_compiler_says_which_extra(config, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="make venv EXTRA=tpu"):
        cli.run(["plan", "--config", config, "--topology", "v5e:2x2"])


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
def test_plan_with_the_compiler_of_tpus(config, tmp_path):
    """In a process of its own, as libtpu takes hold of signals and of stderr."""
    rows_file = tmp_path / "loss.json"
    command = [sys.executable, "-c", "from mdp_jax.cli import main; main()", "plan", "--config", config]
    command += ["--part", "loss", "--topology", "v5e:2x2", "--batch_per_chip", "2", "--json", str(rows_file)]
    subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""})
    (row,) = json.loads(rows_file.read_text())
    assert row["temporaries (MiB)"] > 0
