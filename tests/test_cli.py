"""The `mdp` command: help everywhere, exit statuses, one line for a user's mistake."""

import errno

import pytest

from mdp_jax import cli
from mdp_jax.errors import NonFiniteError


def status(arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    return exit_.value.code


def test_help_lists_the_parts(capsys):
    assert status(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in cli.PARTS)


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


def test_overrides_in_both_forms():
    rest, overrides = cli._split_overrides(["--config", "x.py", "--config.a.b=1", "--config.c", "-2", "--workdir", "w"])
    assert rest == ["--config", "x.py", "--workdir", "w"]
    assert overrides == [("a.b", "1"), ("c", "-2")]
