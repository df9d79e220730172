"""Python files of the user's: what a function of theirs returns, and their mistakes in one line."""

import importlib.util
import pathlib
import re
import sys
import traceback
from collections.abc import Iterable

from mdp_jax.errors import UserError


def configs_parent() -> pathlib.Path:
    """The folder that holds `configs/`: this package in an installed wheel, the repository otherwise."""
    package = pathlib.Path(__file__).resolve().parent
    return package if (package / "configs").is_dir() else package.parent


def execute(file: pathlib.Path):
    """A Python file as a module; `from configs import base` works in it, and so does what lies beside it."""
    spec = importlib.util.spec_from_file_location("mdp_config", file)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.path[:] = [str(configs_parent()), *before, str(file.parent)]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def call(file: pathlib.Path, function: str, where: str):
    """What a function without arguments of a Python file returns.

    Args:
      file: that exists.
      function: its name.
      where: what errors begin with, such as "--config mine.py".

    Raises:
      UserError: no such function, or an error in the file, with its line where that is known.
    """
    file = file.resolve()
    try:
        module = execute(file)
        if not hasattr(module, function):
            raise UserError(f"{where}: expected a function {function}() in the file")
        return getattr(module, function)()
    except UserError:
        raise
    except Exception as error:  # the file is the user's, and may raise anything
        raise UserError(f"{where}{_line_of(error, file)}: {_first_line(error)}") from error


def nearest(names: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the first of those that come near; "" where none does."""
    first = next(iter(names), None)
    return f"; the nearest is {first}" if first else ""


def _line_of(error: Exception, file: pathlib.Path) -> str:
    """Where an error came from, as ", line N": the last line of a file that it came through; "" where none is known."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""


def _first_line(error: Exception) -> str:
    """An error in one line; of one about a key that a locked config has not, the key and the nearest one."""
    text = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    if text[:1] == text[-1:] and text[:1] in ("'", '"'):  # as errors about keys have them around their texts
        text = text[1:-1]
    if missing := re.match(r'Key "(\w+)" does not exist', text):
        meant = re.findall(r'Did you mean "(\w+)"', text)
        return f"no such key: {missing[1]}{nearest(meant)}"
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no message'}"
