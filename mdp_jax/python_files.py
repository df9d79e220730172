"""Python files of the user's: what a function of theirs returns, and their mistakes in one line."""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import pathlib
import re
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mdp_jax.errors import UserError

_NUMBERS = itertools.count()


def configs_parent() -> pathlib.Path:
    """The folder that holds `configs/`: one in this package in an installed wheel, the repository otherwise."""
    package = pathlib.Path(__file__).resolve().parent
    return package / "shipped" if (package / "shipped").is_dir() else package.parent


class _Finder:
    """Finds `configs` and what is in it, for files that import it, where no package of the user's has it.

    `configs.base`, `configs.mini.common` and `configs.mini.finetune` are what files written for earlier versions
    import: what they held is in mdp_jax.configs now.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None):
        """The spec of a module, as importlib asks for it; None where it is not a shipped one."""
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


class _Earlier:
    """Loads a module of an earlier version."""

    def create_module(self, spec):
        """None: importlib makes it."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Gives it what mdp_jax.configs has, and what it had beside that."""
        configs = importlib.import_module("mdp_jax.configs")
        module.__dict__.update({name: value for name, value in vars(configs).items() if not name.startswith("_")})
        module.__dict__.update(_EARLIER[module.__name__])
        module.__getattr__ = lambda name: getattr(configs, name)


def _mini_finetune(name: str, limit: int = 0):
    """Fine-tuning at the mini size on the folder `name` under config.data_dir, on `limit` of its training photos."""
    configs = importlib.import_module("mdp_jax.configs")
    config = importlib.import_module("mdp_jax.config").load("configs/mini/camvid11.py")
    config.dataset = configs.folder(name, root=name, limit=limit)
    return config


_EARLIER = {"configs.base": {}, "configs.mini.common": {}, "configs.mini.finetune": {"finetune": _mini_finetune}}


@contextlib.contextmanager
def _importable(file: pathlib.Path) -> Iterator[None]:
    """While it lasts, shipped configs and what lies beside `file` can be imported; both are forgotten afterwards.

    What was importable before goes before both. They are forgotten since another file, in another folder, may have
    other modules of the same names beside it.
    """
    # Of several folders `configs` the one that was imported first need not be that of this file.
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "configs"}
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
    """What a function without arguments of a Python file returns.

    Shipped configs (`from configs.mini import pretrain`) and what lies beside the file can be imported in it.

    Args:
      file: that exists.
      function: its name.
      where: what errors begin with, such as "--config mine.py".

    Raises:
      UserError: no such function, or an error in the file, with its line where that is known.
    """
    file = file.resolve()
    # Dataclasses and postponed annotations look for the module of a class in sys.modules.
    spec = importlib.util.spec_from_file_location(f"mdp_jax_file_{next(_NUMBERS)}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with _importable(file):
            spec.loader.exec_module(module)
            return getattr(module, function)() if hasattr(module, function) else _missing(function)
    except (Exception, SystemExit) as error:  # the file is the user's, and may raise anything
        raise UserError(f"{where}{_line_of(error, file)}: {_first_line(error)}") from error
    finally:
        del sys.modules[spec.name]


def _missing(function: str) -> None:
    raise UserError(f"expected a function {function}() in the file")


def nearest(names: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the first of those that come near; "" where none does."""
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
