"""The commands of `mdp data`: each has help and is imported when it is used."""

import subprocess
import sys

import pytest

from mdp_jax import cli
from mdp_jax.commands import data as data_command


def status(arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["data", *arguments])
    return exit_.value.code


def test_help_lists_the_commands(capsys):
    assert status(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in data_command.COMMANDS)


@pytest.mark.parametrize("command", data_command.COMMANDS)
def test_every_command_has_help(command, capsys):
    assert status([command, "--help"]) == 0
    assert f"usage: mdp data {command}" in capsys.readouterr().out


def test_a_command_is_imported_when_it_is_used():
    code = "from mdp_jax.cli import run; run(['data', '--help'])"
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mdp_jax.commands.data" in modules
    assert not {"cv2", "tensorflow_datasets", *(f"mdp_jax.commands.data_{c}" for c in data_command.COMMANDS)} & {
        *modules
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see mdp data --help)"),
        (["prepar"], "invalid choice: 'prepar'"),
        (["prepare"], "the following arguments are required: NAME, --data_dir (see mdp data prepare --help)"),
        (
            ["prepare", "tfds", "--data_dir", "d"],
            "dataset 'tfds' is of kind tfds; expected one of folder, voc, ade20k, ",
        ),
        (["prepare", "voc", "--data_dir", "d", "--config.train_lst=x"], "no such key; the nearest is train_list"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments, message, capsys):
    assert status(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
