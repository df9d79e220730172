"""`mdp compare`: exit status, table and JSON; the whole command where PyTorch is installed."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import jax
import pytest

from mdp_jax import cli
from mdp_jax.commands import compare
from mdp_jax.errors import UserError
from mdp_jax.parity import comparison_case
from mdp_jax.parity.comparison import Row

ROWS = [
    Row("stem", 1e-7, 2e-16, 3.0, 1e-5, 1e-10, True, "shown: bn1", "sums in another order"),
    Row("loss", 0.5, 1e-12, 4.0, None, 1e-8, True, "", "sums in another order"),
]
WRONG = Row("bank", 0.0, 0.25, 1.0, 1e-5, 1e-10, False, "", "")


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """The rows that the command is made to find, to be changed by a test; it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    found = list(ROWS)
    monkeypatch.setattr(compare, "_comparison", lambda: SimpleNamespace(compare=lambda say, every_name: found))
    return found


def test_table_and_json_within_tolerance(rows, tmp_path, capsys):
    assert cli.run(["compare"]) == 0
    assert json.loads((tmp_path / "compare.json").read_text()) == [row.columns() for row in ROWS]
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("what difference difference scale tolerance tolerance ok note") + 1 :] == [
        "stem 1.0e-07 2.0e-16 3.0e+00 1.0e-05 1.0e-10 yes [1] shown: bn1",
        "loss 5.0e-01 1.0e-12 4.0e+00 – 1.0e-08 yes [1]",
        "[1] sums in another order",
        "2 rows, 0 out of tolerance (compare.json)",
    ]


def test_a_row_out_of_tolerance_is_exit_status_1(rows, tmp_path, capsys):
    rows.append(WRONG)
    assert cli.run(["compare", "--json", "rows.json"]) == 1
    assert [row["ok"] for row in json.loads((tmp_path / "rows.json").read_text())] == [True, True, False]
    printed = capsys.readouterr().out
    assert "bank 0.0e+00 2.5e-01 1.0e+00 1.0e-05 1.0e-10 NO" in " ".join(printed.split())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--json", "nowhere/rows.json"], "expected a file in a folder that exists"),
        (["--json", "."], "expected a file in a folder that exists"),
        (["--config.seed=1"], "takes no config"),
        (["--backbone", ""], "--backbone: an empty text; expected the name of a backbone"),
        (["--precision", "--backbone", ""], "--backbone: an empty text; expected the name of a backbone"),
    ],
)
def test_wrong_use_is_one_line(rows, arguments, message):
    with pytest.raises(UserError, match=message):
        cli.run(["compare", *arguments])


def test_without_pytorch_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("torch_network", "torch_reference", "comparison_torch"):
        monkeypatch.delitem(sys.modules, f"mdp_jax.parity.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="make venv EXTRA=torch"):
        cli.run(["compare"])


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed (extra torch)")
def test_the_whole_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # One network and less compilation: the whole takes minutes.
    monkeypatch.setattr(comparison_case, "NETWORKS", {"resnet18": comparison_case.NETWORKS["resnet18"]})
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert cli.run(["compare"]) == 0
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    rows = {row["what"]: row for row in json.loads((tmp_path / "compare.json").read_text())}
    for name in ("forward, embeddings", "gradient, projection", "bank after 1 step", "10 pretraining steps, bank"):
        assert rows[f"resnet18: {name}"]["ok"]
    assert rows["resnet18: gradient, backbone stem"]["tolerance"] == 1e-10
    assert rows["resnet18: 10 pretraining steps, losses, total"]["tolerance"] == 1e-8
    assert rows["resnet18: evaluation, logits"]["float32 tolerance"] == 1e-5
