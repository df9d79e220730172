"""Loading, overriding and comparing configs. A config is a locked ConfigDict; its JSON form lies in the workdir."""

import ast
import difflib
import math
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from mdp_jax import python_files, schema
from mdp_jax.configs import PARTS, FinetuneConfig, PretrainConfig, complete, loop_of, require_loop
from mdp_jax.errors import UserError
from mdp_jax.python_files import configs_parent
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.files import read_bytes
from mdp_jax.storage.json_files import read_json
from mdp_jax.storage.paths import expanded, is_there
from mdp_jax.words import some

Config: TypeAlias = ConfigDict | PretrainConfig | FinetuneConfig  # both forms


def shipped(path: str) -> str:
    """The absolute path of a shipped config.

    Args:
      path: such as configs/mini/pretrain.py.
    """
    return str(configs_parent() / path)


def load(path: str, loop: type | None = None) -> ConfigDict:
    """Loads the config that `get_config()` of a Python file returns.

    Args:
      path: a file, as given or relative to the folder that holds the shipped `configs/`.
      loop: PretrainConfig or FinetuneConfig, whose config it has to be; None = either.

    Returns:
      The config, complete and locked.

    Raises:
      UserError: no such file, a file without `get_config`, an error in it, a value of another type, or the config of
        the other loop.
    """
    where = f"--config {path}"
    config = _loaded(path, where)
    if loop is not None:
        require_loop(config, loop, f"{where}: ")
    return config


def _loaded(path: str, where: str) -> ConfigDict:
    file = expanded(path)
    if isinstance(file, BucketPath):
        return _of_bucket(file, where)
    if not file.is_file():
        file = configs_parent() / file
    if not file.is_file() or file.suffix != ".py":
        every = (configs_parent() / "configs").rglob("*.py")
        own = [found for found in every if "def get_config(" in found.read_text(encoding="utf-8", errors="replace")]
        known = sorted(found.relative_to(configs_parent()).as_posix() for found in own)
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        if expanded(path).is_file():
            raise UserError(f"{where}: expected a Python file with get_config(), as {(near or known)[0]}")
        raise UserError(f"{where}: no such Python file{python_files.nearest(near)}")
    return _called(file, where)


def _of_bucket(file: BucketPath, where: str) -> ConfigDict:
    """`load` of a bucket: copied with the Python files beside it, which it may import.

    The file that mdp edit-bank writes reads the config.json beside it.
    """
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"{where}: no such object, or no Python file; expected a .py file with get_config()")
    with tempfile.TemporaryDirectory(prefix="mdp-config-") as folder:
        for beside in file.parent.iterdir():
            if beside.suffix == ".py" or beside.name == "config.json":
                pathlib.Path(folder, beside.name).write_bytes(read_bytes(beside, "a Python file, or a config in JSON"))
        return _called(pathlib.Path(folder, file.name), where)


def _called(file: pathlib.Path, where: str) -> ConfigDict:
    config = python_files.call(file, "get_config", where)
    if not isinstance(config, ConfigDict):
        raise UserError(f"{where}: get_config() returned {config!r:.50}; expected what mdp_jax.configs makes")
    return complete(config, where)


def _all_keys(node: ConfigDict, prefix: str = "") -> list[str]:
    """Dotted names of every leaf; an item of a tuple of configs has its `name` in them."""
    keys: list[str] = []
    for key in node:
        value = node[key]
        if isinstance(value, ConfigDict):
            keys += _all_keys(value, f"{prefix}{key}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], ConfigDict):
            for item in value:
                keys += _all_keys(item, f"{prefix}{key}.{item.name}.")
        else:
            keys.append(prefix + key)
    return keys


def _group_of(node: Any, key: str) -> ConfigDict | None:
    """The group in which the last part of a dotted key stands, or None; names of datasets may have dots too."""
    if isinstance(node, ConfigDict):
        first, dot, rest = key.partition(".")
        return _group_of(node.get(first), rest) if dot else node if first in node else None
    items = [item for item in node if isinstance(item, ConfigDict)] if isinstance(node, tuple) else []
    inside = (_group_of(item, key[len(item.name) + 1 :]) for item in items if key.startswith(f"{item.name}."))
    return next((group for group in inside if group is not None), None)


def _parse(key: str, text: str, old: Any) -> Any:
    """`text` as a value of the type of `old`."""
    given, expected = f"--config.{key}={schema.shown(text)[1:-1]}", type(old).__name__
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if isinstance(old, float) or (isinstance(old, tuple) and old and isinstance(old[0], float)):
        items = tuple(_float(item) if type(item) is int else item for item in items)
    if isinstance(old, tuple):
        if old and any(type(item) is not type(old[0]) for item in items):
            raise UserError(f"{given}: expected {expected} of {type(old[0]).__name__}, like {old}")
        value = items
    elif not isinstance(value, list | tuple):
        value = items[0]
    if type(value) is not type(old):
        raise UserError(f"{given}: expected {expected}, like {old!r}")
    if any(isinstance(item, float) and not math.isfinite(item) for item in items):
        raise UserError(f"{given}: expected a finite number")
    if any(type(item) is int and abs(item) > schema.LARGEST for item in items):
        raise UserError(f"{given}: expected a whole number of at most 18 digits")
    return value


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def apply_overrides(config: ConfigDict, overrides: list[tuple[str, str]]) -> ConfigDict:
    """Sets values by dotted key, in place, and keeps their types.

    Args:
      config: a locked ConfigDict.
      overrides: (dotted key, text of the value). A dataset has its name in the key: `sources.msrc_v2.limit`.

    Returns:
      The config.

    Raises:
      UserError: a key that does not exist (naming the nearest one that does), or a value of another type.
    """
    for key, text in overrides:
        node, last = _group_of(config, key), key.rpartition(".")[2]
        if node is None:
            raise UserError(
                f"--config.{key}: no such key{python_files.nearest(schema.nearest(key, _all_keys(config)))}"
            )
        if isinstance(node[last], ConfigDict):
            inside = ", ".join(f"{key}.{name}" for name in node[last])
            raise UserError(
                f"--config.{key}={schema.shown(text)[1:-1]}: a group of values; expected one of its keys: {inside}"
            )
        if isinstance(node[last], tuple) and node[last] and isinstance(node[last][0], ConfigDict):
            names = ", ".join(f"{key}.{item.name}" for item in node[last])
            raise UserError(
                f"--config.{key}={schema.shown(text)[1:-1]}: a list of datasets; expected a key of one of them, "
                f"inside {names}"
            )
        node[last] = _parse(key, text, node[last])
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """A config as plain dicts, lists and scalars: what `config.json` holds."""
    return schema.plain(config)


def from_dict(values: dict) -> ConfigDict:
    """Makes the locked ConfigDict of a `config.json`.

    Args:
      values: what the file holds.
    """

    def rich(value: Any) -> Any:
        if isinstance(value, dict):
            return ConfigDict({key: rich(item) for key, item in value.items()})
        return tuple(rich(item) for item in value) if isinstance(value, list) else value

    config = rich(values)
    config.lock()
    return config


def load_json(path: pathlib.Path) -> ConfigDict:
    """Loads the config of a workdir's `config.json`.

    Args:
      path: the file.

    Returns:
      The config, locked. It may lack keys that came after it was written (`configs.complete`).

    Raises:
      UserError: the file is missing, cannot be read, or is not the JSON object of a config.
    """
    if not is_there(path):
        workdir = "the workdir of a run (of mdp pretrain, finetune or adopt)"
        if path.parent.is_file():
            raise UserError(f"{path.parent}: a file; expected {workdir}")
        raise UserError(f"{path}: missing; expected {workdir}")
    values = read_json(path, "the config of a run", dict)
    try:
        return from_dict(values)
    except (ValueError, TypeError) as error:  # a key with a dot, or one that ConfigDict keeps for itself
        raise UserError(f"{path}: {error}; expected the config of a run") from None


def free_keys(config: Config) -> set[str]:
    """The dotted keys that do not change what a run computes: those declared with `free`.

    Args:
      config: complete, in either form.
    """
    values, loop = to_dict(config), loop_of(config)
    return schema.flat(loop, values).keys() - schema.flat(loop, values, without=("free",)).keys()


def identity(config: Config, places: bool = False) -> dict[str, Any]:
    """What decides what a run computes.

    Keys that are declared as `free` are left out. So are keys that have their value "as before": a key that came
    later does not change what was made without it.

    Args:
      config: complete, in either form.
      places: whether keys that say where files lie are included.

    Returns:
      {dotted key: value}.
    """
    without = ("free",) if places else ("free", "place")
    return schema.flat(loop_of(config), to_dict(config), without, all_keys=False)


def results_from(config: Config) -> dict[str, Any]:
    """All values that change a result, also those that are "as before".

    Args:
      config: complete, in either form.

    Returns:
      {dotted key: value}, without the keys that are declared as `free` or `place`.
    """
    return schema.flat(loop_of(config), to_dict(config), ("free", "place"))


def _place(init: str) -> str | pathlib.Path:
    return init if init == "scratch" else expanded(init).resolve()


def require_same(old: ConfigDict, new: Config, workdir: str | pathlib.Path) -> None:
    """Checks that a workdir is resumed with the config that it was started with.

    Keys that are declared as `free` or `place` may differ.

    Args:
      old: the config of the workdir; an earlier version may have written it. It is completed in place.
      new: the config of this run, complete, in either form.
      workdir: the folder.

    Raises:
      UserError: a key differs, or `old` lacks one. The message names the first.
    """
    complete(old, f"{workdir}/config.json")
    loop, other = loop_of(old), loop_of(new)
    if loop is not other:
        raise UserError(f"{workdir}: the workdir of {PARTS[loop]}; expected one of {PARTS[other]}, or a new --workdir")
    before, now = results_from(old), results_from(new)
    for key in ("init", "continue_from"):  # workdirs and files, which may be named in several ways
        if key in before and before[key] and now[key] and _place(before[key]) == _place(now[key]):
            before[key] = now[key]
    for difference in (_other_sets(old, new), *_other_values(before, now)):
        if difference:
            raise UserError(f"{workdir}: started {difference}; use another workdir or the config it was started with")


def _dataset_names(config: Config) -> list[str]:
    sources = config.sources if hasattr(config, "sources") else (config.dataset,)
    return [source.name for source in sources if source]


def _other_sets(old: Config, new: Config) -> str:
    """How the datasets differ by name, in words; "" where they do not."""
    before, now = _dataset_names(old), _dataset_names(new)
    return "" if before == now else f"with the sets {', '.join(before)}; now {', '.join(now)}"


def _other_values(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """How values differ, in words; those of the same key one after the other."""
    for key in sorted(before.keys() | now.keys()):
        old, new = (values.get(key) for values in (before, now))
        if old == new:
            continue
        if key == "steps":
            yield f"as a run of {old} steps, now of {new} (config.steps)"
        elif key.endswith(".drop_classes"):
            names = (some(classes or ()) or "none" for classes in (old, new))
            yield "with config.{} leaving out the classes {}; now {}".format(key, *names)
        else:
            yield f"with config.{key}={schema.shown(old)}, now {schema.shown(new)}"
