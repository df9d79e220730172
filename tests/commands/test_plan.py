"""`mdp plan`: bad input is one line before anything is compiled; a whole plan, on virtual devices and with libtpu."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from mdp_jax import cli
from mdp_jax.commands import plan
from mdp_jax.errors import UserError
from mdp_jax.planning import topologies
from mdp_jax.planning.collectives import KINDS
from mdp_jax.reporting.tables import text_of
from tests import tiny

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
    monkeypatch.setattr(topologies, "devices", lambda name, slices=1: jax.devices()[: topologies.chips(name) * slices])
    monkeypatch.setattr(topologies, "has_compiler", lambda: True)


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
    shown = {name for name, value in small.items() if value is not None and name not in ("topology", "verdict")}
    of_slices = {"slices", "over ICI (MiB)", "over DCN (MiB)", "network (ms)"}
    assert {name for name in shown if name not in printed} == {f"{kind} (MiB)" for kind in KINDS[1:]} | of_slices
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
        (["--topology", "v5e:2x2", "--classes", "9" * 18], "9: expected from 2 to 32767, as in a run"),
        (["--topology", "v5e:2x2", "--json", "nowhere/x.json"], "--json nowhere/x.json: expected a file in a folder"),
        (["--topology", "v5e:2x2", "--config.fsdp=3"], "config.fsdp=3: expected a divisor of the 4 chips"),
        (["--topology", "v5e:2x2", "--config.fsdp=0"], "config.fsdp=0: expected a divisor of the 4 chips"),
        (["--topology", "v5e:2x2", "--config.fsdp=-2"], "config.fsdp=-2: expected a divisor of the 4 chips"),
        (
            ["--topology", "v5e:2x2", "--slices", "3", "--batch", "32"],
            "--topology v5e:2x2 --slices 3: config.batch=32: expected a multiple of 24",
        ),
        (["--topology", "v5e:2x2", "--slices", "0"], "argument --slices: 0: expected a whole number from 1"),
        (["--topology", "v5e:2x2", "--slices", "2", "--batch", "64", "--config.fsdp=8"], "config.fsdp=8: expected a"),
        (["--topology", "v5e:2x2", "--price", "free"], "argument --price: 'free'; expected a number"),
        (["--topology", "v5e:2x2", "--price", "-1"], "--price -1: expected what a chip costs for an hour"),
        (["--topology", "v5e:2x2", "--price", "1", "--deadline", "-3"], "--deadline -3: expected a number of hours"),
        (["--topology", "h100:8", "--network", "0"], "--network 0: expected Gbit/s of a node, more than 0"),
        (["--topology", "h100:8", "--part", "loss"], "--topology h100:8: the memory of the loss is known for TPUs"),
        (["--topology", "v5e:2x2", "--part", "loss", "--price", "1"], "--price: of the whole step; leave it out with"),
        (["--topology", "v5e:2x2", "--part", "loss", "--slices", "2"], "--slices 2: the loss of a chip is the same"),
    ],
)
def test_bad_input(arguments, message, config, virtual):
    with pytest.raises(UserError) as error:
        cli.run(["plan", "--config", config, *arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00026, "0.00026"),
        (0.0041235, "0.0041"),
        (0.0999, "0.1"),
        (5.9e-10, "< 0.0001"),
        (0.1, "0.10"),
        (12.345, "12.35"),
        (0.0, "0.00"),
        (7, "7"),
        (None, "–"),
        ("compute", "compute"),
    ],
)
def test_small_values_say_something(value, shown):
    row = {"topology": "a10g:1", "compute (ms)": value, "verdict": ["fits"]}
    assert [text_of(cell) for cell in plan._table([row, row | {"compute (ms)": 2.5}]).rows[0][1:]] == [shown, "2.50"]


def test_what_changes_nothing_is_said():
    def said(loop, *words):
        parser = argparse.ArgumentParser()
        plan.add_arguments(parser)
        args = parser.parse_args(["--config", "c.py", "--photos", "9", "--network", "400", *words])
        return [line.partition(":")[0] for line in plan._not_used(args, loop)]

    assert said(tiny.finetune_config(), "--topology", "h100:8") == ["--photos 9", "--network 400"]
    assert said(tiny.pretrain_config(steps=0), "--topology", "v5e:2x2", "--slices", "2") == ["--network 400"]
    assert said(tiny.pretrain_config(steps=0), "--topology", "h100:8", "--slices", "2") == []


def test_no_prototype_loss(tmp_path, virtual):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format("finetune"))
    with pytest.raises(UserError, match=r"--part loss: .* has no prototype loss"):
        cli.run(["plan", "--config", str(path), "--topology", "v5e:2x2", "--part", "loss"])


@pytest.mark.parametrize("objective", ["multi_head", "typo"])
def test_an_objective_without_the_loss(objective, config):
    words = ["--topology", "v5e:2x2", "--part", "loss", f"--config.objective={objective}"]
    with pytest.raises(UserError, match=f"config.objective='{objective}' has no prototype loss; expected one of mdp, "):
        cli.run(["plan", "--config", config, *words])


def test_no_compiler_says_which_extra(config, monkeypatch):
    monkeypatch.setattr(topologies, "has_compiler", lambda: False)
    with pytest.raises(UserError, match="make venv EXTRA=tpu"):
        cli.run(["plan", "--config", config, "--topology", "v5e:2x2", "--part", "loss"])


def test_plan_of_two_nodes_without_their_compiler(config, virtual, monkeypatch, tmp_path, capsys):
    """The gradients and statistics of a step leave a node once, whatever the number of nodes; a GPU sends its share."""
    monkeypatch.setattr(topologies, "has_compiler", lambda: False)
    rows_file = tmp_path / "plan.json"
    arguments = ["--topology", "h100:8", "--slices", "2", "--batch_per_chip", "4", "--json", str(rows_file)]
    arguments += ["--price", "2.5", "--deadline", "1", "--efficiency", "0.4", "--config.steps=1000000", "--quick"]
    assert cli.run(["plan", "--config", config, *arguments]) == 0
    printed = capsys.readouterr().out
    (row,) = json.loads(rows_file.read_text())
    assert (row["topology"], row["slices"], row["chips"], row["batch"]) == ("h100:8", 2, 16, 64)
    assert row["memory needed (MiB)"] is None and row["memory there (MiB)"] == round(80e9 / 2**20)
    assert row["over DCN (MiB)"] == pytest.approx(row["over ICI (MiB)"] / 8)
    assert row["over ICI (MiB)"] == row["all-reduce (MiB)"] > 0
    assert row["network (ms)"] is None
    assert row["cost at the efficiency"] == pytest.approx(row["hours at least"] / 0.4 * 16 * 2.5)
    assert "2 x h100:8, batch 64, 24 classes: compiled for CPUs: whether it fits is not known" in printed
    assert "real programs reach a share of it" in printed
    assert "cheapest within 1 h: 2 x h100:8, batch 64" in printed
    assert "--network says it" in printed


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
def test_plan_with_the_compiler_of_tpus(config, tmp_path):
    """In a process of its own, as libtpu takes hold of signals and of stderr."""
    rows_file = tmp_path / "loss.json"
    command = [sys.executable, "-c", "from mdp_jax.cli import main; main()", "plan", "--config", config]
    command += ["--part", "loss", "--topology", "v5e:2x2", "--batch_per_chip", "2", "--json", str(rows_file)]
    subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""})
    (row,) = json.loads(rows_file.read_text())
    assert row["temporaries (MiB)"] > 0


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
def test_what_leaves_a_slice_does_not_grow_with_their_number(config, tmp_path):
    """Compiled for 2 and for 4 slices of TPUs: the bytes over DCN are the same, and less than one copy of the state."""
    found = []
    for slices in ("2", "4"):
        rows_file = tmp_path / "plan.json"
        command = [sys.executable, "-c", "from mdp_jax.cli import main; main()", "plan", "--config", config, "--quick"]
        command += ["--topology", "v5e:2x2", "--slices", slices, "--batch_per_chip", "2", "--json", str(rows_file)]
        subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""})
        found += json.loads(rows_file.read_text())
    two, four = found
    assert (two["chips"], four["chips"]) == (8, 16)
    assert two["over DCN (MiB)"] == four["over DCN (MiB)"] > 0
    assert two["over DCN (MiB)"] < two["state (MiB)"]
    assert two["memory needed (MiB)"] == pytest.approx(four["memory needed (MiB)"], rel=0.1)
