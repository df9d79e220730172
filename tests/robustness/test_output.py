"""What is found is written before it is printed, and no terminal ends a command."""

import json
import os
import subprocess
import sys
import types

import pytest

from mdp_jax import cli
from mdp_jax.commands import bench, compare, data_check, plan, reproduce
from tests.evaluation import finetuned


class NoTerminalError(Exception):
    """Printing failed."""


def refuse(*_, **__):
    raise NoTerminalError


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A workdir that a stand-in for a network was trained in."""
    monkeypatch.setattr("mdp_jax.models.network.segmenter", lambda *_: finetuned.StridedNetwork())
    finetuned.write_dataset(tmp_path / "noise")
    finetuned.write_workdir(tmp_path / "run", tmp_path)
    return tmp_path / "run"


def test_evaluate_writes_first(made, monkeypatch):
    monkeypatch.setattr("mdp_jax.commands.evaluate.console", refuse)
    with pytest.raises(NoTerminalError):
        cli.run(["evaluate", "--checkpoint", str(made)])
    assert json.loads((made / "evaluation.json").read_text())["datasets"]["noise"]["images"] == 3


def test_data_check_writes_first(made, tmp_path, monkeypatch):
    monkeypatch.setattr(data_check, "console", refuse)
    with pytest.raises(NoTerminalError):
        cli.run(
            ["data", "check", "noise", "--kind", "folder", "--data_dir", str(tmp_path), "--json", f"{tmp_path}/c.json"]
        )
    assert json.loads((tmp_path / "c.json").read_text())["parts"]


def test_bench_writes_first(tmp_path, monkeypatch):
    row = types.SimpleNamespace(columns=lambda: {"case": "x", "ours": 1.0})
    monkeypatch.setattr(
        bench.importlib, "import_module", lambda name: types.SimpleNamespace(measure=lambda *_: ([row], ""))
    )
    monkeypatch.setattr(bench, "for_terminal", refuse)
    with pytest.raises(NoTerminalError):
        bench.run(_parsed(bench, ["loss", "--json", str(tmp_path / "b.json")]), [])
    assert json.loads((tmp_path / "b.json").read_text()) == [{"case": "x", "ours": 1.0}]


def test_plan_writes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.steps, "prepare", lambda cases: None)
    monkeypatch.setattr(plan.steps, "rows", lambda *_: [{"topology": "v5e:2x2", "verdict": ["fits"]}])
    monkeypatch.setattr(plan.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(plan, "console", refuse)
    words = ["--config", "configs/quickstart/pretrain.py", "--topology", "v5e:2x2", "--json", str(tmp_path / "p.json")]
    with pytest.raises(NoTerminalError):
        plan.run(_parsed(plan, words), [])
    assert json.loads((tmp_path / "p.json").read_text())[0]["topology"] == "v5e:2x2"


def test_compare_writes_first(tmp_path, monkeypatch):
    row = types.SimpleNamespace(ok=True, columns=lambda: {"what": "x"}, cause="", remark="")
    monkeypatch.setattr(compare, "_comparison", lambda: types.SimpleNamespace(compare=lambda *_: [row]))
    monkeypatch.setattr(compare, "console", refuse)
    with pytest.raises(NoTerminalError):
        compare.run(_parsed(compare, ["--json", str(tmp_path / "c.json")]), [])
    assert json.loads((tmp_path / "c.json").read_text()) == [{"what": "x"}]


def test_reproduce_writes_first(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(reproduce.score_files, "read", lambda *_: {("scratch", "few"): {}})
    monkeypatch.setattr(reproduce, "_carry_out", lambda *_: {})
    monkeypatch.setattr(reproduce, "collect", lambda *_: "results")
    monkeypatch.setattr(reproduce.pages, "rows", lambda results: [results])
    monkeypatch.setattr(reproduce.pages, "write_page", lambda *_: written.append("page"))
    monkeypatch.setattr(reproduce, "_print", refuse)
    words = ["--suite", "mini-synthetic", "--results", "--workdir", str(tmp_path), "--json", str(tmp_path / "r.json")]
    (tmp_path / "mini-synthetic").mkdir()
    with pytest.raises(NoTerminalError):
        reproduce.run(_parsed(reproduce, words), [])
    assert written == ["page"] and json.loads((tmp_path / "r.json").read_text()) == ["results"]


def _parsed(module, words):
    parser = cli._OneLineParser()
    module.add_arguments(parser)
    return parser.parse_args(words)


SHOW = """
import sys
from mdp_jax import cli
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.reporting.progress import Progress

def run(arguments):
    console().print(for_terminal(Table(["\\u7c7b", "n"], [["\\u4eba \\u2013 \\udcff", None]], "\\u00e9")))
    with Progress(3) as progress:
        progress.update(1, loss=1.0)
    print("\\u5317\\u4eac \\udcff")
    print("written", file=sys.stderr)

cli.run = run
cli.main([])
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_terminals_that_cannot_show_it(encoding, pytestconfig):
    environment = os.environ | {"PYTHONPATH": str(pytestconfig.rootpath), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr.rstrip().endswith(b"written")


def test_a_reader_that_goes_away(pytestconfig):
    code = "from mdp_jax import cli\ncli.run = lambda _: print('x\\n' * 10**6)\ncli.main([])"
    environment = os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()
