"""Functions of the user's own Python files, and their mistakes in one line; test_config.py has those of configs."""

import sys

import pytest

from mdp_jax import python_files
from mdp_jax.errors import UserError


def written(folder, text):
    file = folder / "mine.py"
    file.write_text(text)
    return file


def test_what_the_function_returns(tmp_path):
    text = "from configs import base\n\n\ndef answer():\n    return base.pretrain().method.temperature\n"
    assert python_files.call(written(tmp_path, text), "answer", "--config mine.py") == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("answer = 1 / 0\n", "--config mine.py, line 1: ZeroDivisionError: division by zero"),
        ("def answer():\n    raise ValueError\n", "--config mine.py, line 2: ValueError: no message"),
        ("def other():\n    return 1\n", "--config mine.py: expected a function answer() in the file"),
        ("def answer():\n    raise ValueError('one\\ntwo')\n", "--config mine.py, line 2: ValueError: one"),
    ],
)
def test_mistakes_are_one_line_and_leave_the_path_as_it_was(tmp_path, text, message):
    before = list(sys.path)
    with pytest.raises(UserError) as error:
        python_files.call(written(tmp_path, text), "answer", "--config mine.py")
    assert str(error.value) == message
    assert sys.path == before


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "mdp_jax_beside.py").write_text("VALUE = 3\n")
    file = written(tmp_path, "import mdp_jax_beside\n\n\ndef answer():\n    return mdp_jax_beside.VALUE\n")
    assert python_files.call(file, "answer", "--config mine.py") == 3


def test_a_relative_path_has_lines_too(tmp_path, monkeypatch):
    file = written(tmp_path, "answer = 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"mine\.py, line 1: ZeroDivisionError"):
        python_files.call(file.relative_to(tmp_path), "answer", "--config mine.py")


def test_nearest():
    assert python_files.nearest(["batch", "beta"]) == "; the nearest is batch"
    assert python_files.nearest([]) == ""
