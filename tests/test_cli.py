"""The `mdp` command: help everywhere, exit statuses, one line for a user's mistake."""

import errno
import importlib
import os
import subprocess
import sys
from importlib import metadata

import jax
import pytest

from mdp_jax import cli
from mdp_jax.errors import NonFiniteError, UserError


def status(arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    return exit_.value.code


def test_help_lists_the_parts(capsys):
    assert status(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in cli.PARTS)


def test_the_version(capsys):
    assert status(["--version"]) == 0
    assert capsys.readouterr().out == f"mdp_jax {metadata.version('mdp_jax')}, JAX {jax.__version__}\n"


@pytest.mark.parametrize("part", cli.PARTS)
def test_every_part_has_help(part, capsys):
    assert status([part, "--help"]) == 0
    assert f"usage: mdp {part}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: PART"),
        (["pretrian"], "invalid choice: 'pretrian'"),
        (["pretrain"], "the following arguments are required: --config, --workdir"),
        (["pretrain", "--config", "x.py", "--workdir", "w"], "--config x.py: no such Python file"),
        (["pretrain", "--config", "configs/mini/pretrain.py", "--workdir", "w", "--config.epoch=3"], "is epochs"),
        (
            ["adopt", "--checkpoint", "scratch", "--config", "configs/quickstart/pretrain.py", "--workdir", "w"],
            "mdp: --config configs/quickstart/pretrain.py: the config of mdp pretrain; expected one of mdp finetune",
        ),
        (["pretrain", "--config", "configs/mini/pretrain.py", "--workdir", "w", "--config.batch"], "expected a value"),
        (["evaluate", "--checkpoint", "nowhere"], "nowhere/config.json: missing"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments, message, capsys):
    assert status(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_non_finite_is_exit_3(monkeypatch, capsys):
    def explode(arguments):
        raise NonFiniteError("step 7: loss is nan")

    monkeypatch.setattr(cli, "run", explode)
    assert status([]) == 3
    assert capsys.readouterr().err == "mdp: step 7: loss is nan\n"


def test_a_full_disk_is_one_line_and_other_errors_are_not_hidden(monkeypatch, capsys):
    found = iter([OSError(errno.ENOSPC, "No space left on device", "run/metrics.jsonl"), OSError(errno.EBADF, "Bad")])

    def explode(arguments):
        raise next(found)

    monkeypatch.setattr(cli, "run", explode)
    assert status([]) == 2
    assert capsys.readouterr().err == "mdp: run/metrics.jsonl: No space left on device\n"
    with pytest.raises(OSError, match="Bad"):
        cli.main([])


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (
            ["data", "import", "in", "--out", "x", "--classes", "1=a", "--classes", "2=b", "3=c"],
            "classes",
            "1=a 2=b 3=c",
        ),
        (["evaluate", "--checkpoint", "w", "--scales", "0.5", "--flip", "--scales", "2", "4"], "scales", "0.5 2.0 4.0"),
        (["evaluate", "--checkpoint", "w", "--scales", "0.5"], "scales", "0.5"),
        (["evaluate", "--checkpoint", "w"], "scales", "1.0"),
        (["reproduce", "--suite", "s", "--only", "a", "--only", "b"], "only", "a b"),
        (["evaluate", "--checkpoint", "w", "--mode", "slide", "--crop", "1", "2", "--crop", "3", "4"], "crop", "3 4"),
    ],
)
def test_an_option_of_several_values_that_is_given_again_loses_none(words, name, expected, monkeypatch):
    found = []
    module = importlib.import_module(f"mdp_jax.commands.{words[0]}")
    monkeypatch.setattr(module, "run", lambda args, overrides: found.append(args))
    assert cli.run(words) == 0
    assert " ".join(map(str, getattr(found[0], name))) == expected


def test_overrides_in_both_forms():
    rest, overrides = cli._split_overrides(["--config", "x.py", "--config.a.b=1", "--config.c", "-2", "--workdir", "w"])
    assert rest == ["--config", "x.py", "--workdir", "w"]
    assert overrides == [("a.b", "1"), ("c", "-2")]
    for words in (["--config.wandb", "--config.seed=3"], ["--config.wandb", "--workdir", "w"], ["--config.wandb"]):
        with pytest.raises(UserError, match=r"^--config\.wandb: expected a value, as in --config\.wandb=VALUE$"):
            cli._split_overrides(words)
    assert cli._split_overrides(["--config.wandb=--x", "--config.seed="]) == ([], [("wandb", "--x"), ("seed", "")])


def ran(*words, cwd, **environment):
    """A process of Python with these words."""
    words = [sys.executable, *words]
    return subprocess.run(words, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["mdp_jax", "mdp_jax.cli"])
def test_as_a_module(module, tmp_path, pytestconfig):
    found = ran("-m", module, "--help", cwd=tmp_path, PYTHONPATH=str(pytestconfig.rootpath))
    assert found.stdout.startswith("usage: mdp ") and not found.returncode


def test_the_import_sets_nothing_and_help_waits_for_nothing_on_a_machine_without_a_home(tmp_path, pytestconfig):
    code = """
import os, pwd, sys
os.environ.pop("HOME", None)
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
before = dict(os.environ)
import mdp_jax, mdp_jax.configs, mdp_jax.config
assert os.environ == before and "jax" not in sys.modules
from mdp_jax import cli, runtime
runtime.prepare()
for words in ([], ["pretrain"], ["finetune"]):
    try:
        cli.main([*words, "--help"])
    except SystemExit as end:
        assert not end.code
assert not {"jax", "cv2", "numpy"} & set(sys.modules)
import mdp_jax.reporting.contact_sheet, mdp_jax.reporting.bank_figures
assert not {"matplotlib", "scipy"} & set(sys.modules)
"""
    found = ran("-c", code, cwd=tmp_path, PYTHONPATH=str(pytestconfig.rootpath), JAX_PLATFORMS="")
    assert found.returncode == 0, found.stderr
    assert [part in found.stdout for part in ("usage: mdp [-h]", "usage: mdp pretrain", "usage: mdp finetune")] == [
        True
    ] * 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_letter(encoding, tmp_path, pytestconfig):
    words = ["-m", "mdp_jax", "pretrain", "--config", "\u5317\u4eac.py", "--workdir", "w"]
    found = ran(*words, cwd=tmp_path, PYTHONPATH=str(pytestconfig.rootpath), PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert found.returncode == 2
    assert found.stderr.startswith("mdp: --config \\u5317\\u4eac.py: no such Python file")
    assert found.stderr.count("\n") == 1


def test_a_newline_in_a_value_is_no_second_line(capsys):
    assert status(["pretrain", "--config", "a\nb.py", "--workdir", "w"]) == 2
    assert capsys.readouterr().err.startswith("mdp: --config a\\nb.py: no such Python file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "--tile", "²"], "argument --tile: '²'; expected a whole number (see mdp predict --help)"),
        (["evaluate", "--scales", "half"], "argument --scales: 'half'; expected a number (see mdp evaluate --help)"),
    ],
)
def test_texts_that_are_no_number(words, said):
    with pytest.raises(UserError) as error:
        cli.run(words)
    assert str(error.value) == said
