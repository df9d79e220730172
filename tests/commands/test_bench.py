"""`mdp bench`: its cases, its arguments, and what it refuses."""

import importlib.util
import json
from argparse import Namespace

import pytest

from mdp_jax import cli
from mdp_jax.benchmarks.measure import Row
from mdp_jax.commands import bench
from mdp_jax.errors import UserError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "invalid choice: 'speed'"),
        (["--json", "nowhere/rows.json"], "--json nowhere/rows.json: expected a file in a folder that exists"),
        (["--seconds", "0"], r"--seconds 0.0: expected a finite number above 0"),
        (["--seconds", "inf"], r"--seconds inf: expected a finite number above 0"),
        (["--margin", "0.2"], r"--margin 0.2: belongs to --against; expected --against FILE too"),
        (["--against", ""], "--against: an empty text; expected a path"),
        (["data", "--torch_compile"], "--torch_compile: belongs to the case step; expected mdp bench step, or no"),
        (["data", "--data_dir", "x"], "--data_dir x: belongs to --config"),
        (["data", "--classes", "7"], "--classes 7: belongs to step and loss"),
        (["step", "--classes", "7"], "--classes 7: belongs to --config"),
        (["evaluation", "--classes", "7"], "--classes 7: belongs to step, loss or data"),
        (["evaluation", "--config", "configs/pretrain/voc.py"], "of mdp pretrain; expected a config of mdp finetune"),
        (["loss", "--classes", "0"], "argument --classes: 0: expected a whole number from 1"),
        (["loss", "--config", "configs/finetune/voc.py"], "--config configs/finetune/voc.py: no prototype loss in it"),
        (
            ["loss", "--config.objective=multi_head"],
            "no prototype loss in it; expected a config of mdp pretrain with config.objective=mdp",
        ),
        (["loss", "--config.objective=typo"], "config.objective=typo: no prototype loss in it"),
        (["step", "--config.batch=3"], r"config.batch=3: expected a multiple of 2 \(pairs of samples"),
        (
            ["step", "--config", "configs/pretrain/voc.py", "--config.devices=1"],
            "give the number of classes: --classes N",
        ),
        (
            ["--config", "configs/pretrain/voc.py"],
            "--config configs/pretrain/voc.py: belongs to one case; expected one of",
        ),
        (
            ["--config.batch=4"],
            "--config.batch: belongs to one case; expected one of step, loss, data, evaluation before it",
        ),
        (["data", "--config.data.crp=1"], "--config.data.crp: no such key; the nearest is data.crop"),
        (["--margin", "1"], r"--margin 1\.0: expected a number between 0 and 1"),
        (["--against", "nowhere.json"], r"nowhere\.json cannot be read .*; expected what mdp bench --json wrote"),
        (["--against", "README.md"], r"README\.md: not valid JSON .*; expected what mdp bench --json wrote"),
        (["data", "--config", "nowhere.py"], "--config nowhere.py: no such Python file"),
    ],
)
def test_wrong_use_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        cli.run(["bench", *arguments])
    assert "\n" not in str(error.value)


def test_all_cases_one_after_the_other(tmp_path, monkeypatch):
    asked = []

    class Case:
        @staticmethod
        def measure(args, overrides):
            asked.append(args.seconds)
            return [Row(f"case {len(asked)}", 2.0, 4.0), Row("ours alone", 1.0, None)], "said below the table"

    monkeypatch.setattr(bench.importlib, "import_module", lambda name: Case)
    args = {
        "case": None,
        "config": None,
        "seconds": 0.5,
        "platform": None,
        "against": None,
        "margin": None,
        "torch_compile": False,
    }
    assert bench.run(Namespace(**args, json=str(tmp_path / "rows.json")), []) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert asked == [0.5] * len(bench.CASES) and len(rows) == 2 * len(asked)
    assert rows[:2] == [
        {"case": "case 1", "ours": 2.0, "torch": 4.0, "ratio": 0.5},
        {"case": "ours alone", "ours": 1.0, "torch": None, "ratio": None},
    ]


def test_every_case_has_a_module():
    for name in bench.CASES:
        assert importlib.util.find_spec(f"mdp_jax.benchmarks.{name}")
