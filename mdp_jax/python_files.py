"""Calls a function of a user's Python file, and gives a mistake in that file as one line."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import pathlib
import re
import sys
import threading
import traceback
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mdp_jax.errors import UserError

_NUMBERS = itertools.count()
# sys.path, sys.meta_path and sys.modules are those of all threads; a file may call another, in its own thread.
_ONE_AT_A_TIME = threading.RLock()


def configs_parent() -> pathlib.Path:
    """The folder that holds `configs/`: one in this package in an installed wheel, the repository otherwise."""
    package = pathlib.Path(__file__).resolve().parent
    return package / "shipped" if (package / "shipped").is_dir() else package.parent


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `configs` and its modules for files that import them, where the user has no package of that name.

    `configs.base`, `configs.mini.common` and `configs.mini.finetune` are what files written for earlier versions
    import: what they held is in mdp_jax.configs now.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a shipped module, as importlib asks for it; None for all other modules."""
        del path, target
        if name.split(".")[0] != "configs":
            return None
        if name in _EARLIER:
            return importlib.machinery.ModuleSpec(name, _Earlier())
        place = configs_parent().joinpath(*name.split("."))
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        file = place.with_name(f"{place.name}.py")
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None


class _Earlier(importlib.abc.Loader):
    """Loads a module of an earlier version."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Gives None, so that importlib makes the module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Gives the module what mdp_jax.configs has, and what it had besides."""
        configs = importlib.import_module("mdp_jax.configs")
        module.__dict__.update({name: value for name, value in vars(configs).items() if not name.startswith("_")})
        module.__dict__.update(_EARLIER[module.__name__])
        module.__dict__["__getattr__"] = lambda name: getattr(configs, name)


def _mini_finetune(name: str, limit: int = 0) -> Any:
    """The config of fine-tuning at the mini size on `limit` training photos of the folder `name` of the data_dir."""
    configs = importlib.import_module("mdp_jax.configs")
    config = importlib.import_module("mdp_jax.config").load("configs/mini/camvid11.py")
    config.dataset = configs.folder(name, root=name, limit=limit)
    return config


_EARLIER: dict[str, dict] = {
    "configs.base": {},
    "configs.mini.common": {},
    "configs.mini.finetune": {"finetune": _mini_finetune},
}


@contextlib.contextmanager
def _importable(file: pathlib.Path) -> Iterator[None]:
    """Makes the shipped configs and the modules beside `file` importable, and forgets both afterwards.

    What was importable before goes first. The modules are forgotten because another file, in another folder, may have
    other modules of the same names beside it.
    """
    # Of several folders `configs` the one that was imported first need not be that of this file.
    before = [name for name in sys.modules if name == "configs" or name.startswith("configs.")]
    others = {name: sys.modules.pop(name) for name in before}
    path, finder, known = list(sys.path), _Finder(), set(sys.modules)
    beside = str(file.parent)
    sys.path.append(beside)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.path[:] = path
        sys.meta_path.remove(finder)
        new = sys.modules.keys() - known
        tops = {name for name in new if "." not in name and beside not in path and _lies_in(name, beside)}
        for name in [name for name in new if name.split(".")[0] in tops | {"configs"}]:
            module, (parent, _, own) = sys.modules.pop(name), name.rpartition(".")
            if parent in known and vars(sys.modules[parent]).get(own) is module:
                delattr(sys.modules[parent], own)
        sys.modules.update(others)


def _lies_in(name: str, folder: str) -> bool:
    """Whether a module or package was loaded from a folder."""
    spec = getattr(sys.modules[name], "__spec__", None)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return any(place and str(pathlib.Path(place).parent) == folder for place in places)


def call(file: pathlib.Path, function: str, where: str) -> Any:
    """Calls a function of a Python file, without arguments.

    The file may import shipped configs (`from configs.mini import pretrain`) and modules that lie beside it. Of several
    threads one runs its file at a time.

    Args:
      file: a file that exists.
      function: the function's name.
      where: what errors begin with, such as "--config mine.py".

    Returns:
      What the function returns.

    Raises:
      UserError: there is no such function, or the file has an error. The message names its line where that is known.
    """
    file = file.resolve()
    # Dataclasses and postponed annotations look for the module of a class in sys.modules.
    spec = importlib.util.spec_from_file_location(f"mdp_jax_file_{next(_NUMBERS)}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"{where}: expected a Python file, whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        with _ONE_AT_A_TIME, _importable(file):
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return getattr(module, function)() if hasattr(module, function) else _missing(function)
    except (Exception, SystemExit) as error:  # the file is the user's, and may raise anything
        raise UserError(f"{where}{_line_of(error, file)}: {_first_line(error)}") from error
    finally:
        sys.modules.pop(spec.name, None)


def _missing(function: str) -> None:
    raise UserError(f"expected a function {function}() in the file")


def nearest(names: Iterable[str]) -> str:
    """The end of a message about an unknown name.

    Args:
      names: known names that are like it, the nearest first.

    Returns:
      Text that names the first of them; "" where there are none.
    """
    first = next(iter(names), None)
    return f"; the nearest is {first}" if first else ""


def _line_of(error: BaseException, file: pathlib.Path) -> str:
    """Where an error came from, as ", line N": the last line of a file that it came through; "" where none is known."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        lines = [error.lineno]
    return f", line {lines[-1]}" if lines else ""


def _first_line(error: BaseException) -> str:
    """An error in one line; of those that a config makes of a slip, what is to be written."""
    text = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    if isinstance(error, UserError):
        return text
    if isinstance(error, SystemExit):
        return f"sys.exit({text}) was called; expected the file to return"
    if text[:1] == text[-1:] and text[:1] in ("'", '"'):  # as errors about keys have them around their texts
        text = text[1:-1]
    if missing := re.match(r'Key "(\w+)" does not exist', text):
        meant = re.findall(r'Did you mean "(\w+)"', text)
        return f"no such key: {missing[1]}{nearest(meant)}"
    if slip := re.match(r"Could not override field '(\w+)' \(reference\)\. (.*) is of original type", text, re.DOTALL):
        types_ = re.findall(r"<class '(?:\w+\.)*(\w+)'>", text)
        return f"TypeError: {_of_another_type(slip[1], slip[2], *types_[-2:])}"
    if text == "'ConfigDict' object is not callable":
        return "TypeError: brackets behind a dataset or config; is a comma missing between two of them?"
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no message'}"


def _of_another_type(key: str, value: str, given: str, expected: str) -> str:
    """What is to be written in place of a value of another type."""
    if (given, expected) == ("ConfigDict", "tuple"):
        return f"{key} is one dataset; expected a tuple of datasets: write a comma behind it, as in {key} = (dataset,)"
    if expected == "tuple":
        shown = repr(value[:60]) if given == "str" else value[:60]
        return f"{key} = {shown}; expected a tuple: write {key} = ({shown},), with a comma"
    shown = "a group of values" if given == "ConfigDict" else repr(value[:60]) if given == "str" else value[:60]
    expected = "a group of values" if expected == "ConfigDict" else expected
    return f"{key} = {shown}; expected {expected}"
