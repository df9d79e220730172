"""Loading, overriding and comparing configs. A config is a locked ConfigDict; its JSON form lies in the workdir."""

import argparse
import ast
import difflib
import json
import math
import os
import pathlib

from ml_collections import ConfigDict

from mdp_jax import python_files
from mdp_jax.errors import UserError
from mdp_jax.python_files import configs_parent

_NO_CONFIGS = ("__init__.py", "base.py", "common.py")  # of the files in configs/: what others are made of
# Values that say where and how a run goes on, not what it computes: they may differ when a workdir is resumed.
FREE_ON_RESUME = (
    "data_dir",
    "data.cache",
    "data.threads",
    "data.check_files",
    "data.on_bad_image",
    "data.bad_image_share",
    "devices",
    "fsdp",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "evaluate_every",
)


def shipped(path: str) -> str:
    """The absolute path of a shipped config, such as configs/mini/pretrain.py, wherever the process was started."""
    return str(configs_parent() / path)


def load(path: str) -> ConfigDict:
    """The config that `get_config()` of a Python file returns, locked.

    Args:
      path: a file, as given or relative to the folder that holds the shipped `configs/`.

    Raises:
      UserError: no such file, a file without `get_config`, an error in it, or a value of another type.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        file = configs_parent() / path
    if not file.is_file() or file.suffix != ".py":
        found = (p.relative_to(configs_parent()).as_posix() for p in (configs_parent() / "configs").rglob("*.py"))
        known = sorted(path for path in found if pathlib.Path(path).name not in _NO_CONFIGS)
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        raise UserError(f"--config {path}: no such Python file{python_files.nearest(near)}")
    config = python_files.call(file, "get_config", f"--config {path}")
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config {path}: get_config() returned {config!r:.50}; expected what configs/base.py makes")
    return config.lock()


def base():
    """The module configs/base.py, which has a function for each loop and for each kind of dataset."""
    return python_files.execute(configs_parent() / "configs" / "base.py")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every part which trains has."""
    parser.add_argument("--config", required=True, help="Python file with get_config(), e.g. configs/mini/pretrain.py")
    parser.add_argument("--init", help="workdir of mdp pretrain, .pth or .safetensors file, or scratch (default)")
    parser.add_argument("--workdir", required=True, help="folder of the run; started again on it, the run goes on")
    from mdp_jax import distributed  # with JAX, which parts that do not train have no need of

    distributed.add_arguments(parser)
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.optim.lr=0.05."


def of_arguments(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> ConfigDict:
    """The config of a run: the file, then the overrides, then --init where it is given. Joins the other processes."""
    from mdp_jax import distributed

    distributed.start(args)
    if args.init is not None:
        overrides = [*overrides, ("init", args.init)]
    return apply_overrides(load(args.config), overrides)


def _all_keys(node, prefix: str = "") -> list[str]:
    """Dotted names of every leaf; items of a tuple of configs go by their `name`."""
    keys = []
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


def _child(node, key: str):
    """The value under one part of a dotted key, or None."""
    if isinstance(node, ConfigDict):
        return node.get(key)
    if isinstance(node, tuple):
        return next((item for item in node if isinstance(item, ConfigDict) and item.name == key), None)
    return None


def _parse(key: str, text: str, old):
    """`text` as a value of the type of `old`."""
    expected = type(old).__name__
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        lowered = text.lower()
        value = {"true": True, "false": False}.get(lowered, text)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        if old and isinstance(old[0], float):
            value = tuple(float(item) if type(item) is int else item for item in value)
        if old and any(type(item) is not type(old[0]) for item in value):
            raise UserError(f"--config.{key}={text}: expected {expected} of {type(old[0]).__name__}, like {old}")
    if type(value) is not type(old):
        raise UserError(f"--config.{key}={text}: expected {expected}, like {old!r}")
    if any(isinstance(item, float) and not math.isfinite(item) for item in (value if expected == "tuple" else [value])):
        raise UserError(f"--config.{key}={text}: expected a finite number")
    return value


def apply_overrides(config: ConfigDict, overrides: list[tuple[str, str]]) -> ConfigDict:
    """Sets values by dotted key, in place, keeping their types; sources go by name, e.g. `sources.msrc_v2.limit`.

    Args:
      config: a locked ConfigDict.
      overrides: (dotted key, text of the value).

    Raises:
      UserError: a key that does not exist (naming the nearest one that does), or a value of another type.
    """
    for key, text in overrides:
        *parents, last = key.split(".")
        node = config
        for part in parents:
            node = _child(node, part)
        if not isinstance(node, ConfigDict) or last not in node:
            near = difflib.get_close_matches(key, _all_keys(config), n=1, cutoff=0.0)
            raise UserError(f"--config.{key}: no such key{python_files.nearest(near)}")
        if isinstance(node[last], ConfigDict):
            inside = ", ".join(f"{key}.{name}" for name in node[last])
            raise UserError(f"--config.{key}={text}: a group of values, set one of {inside}")
        if isinstance(node[last], tuple) and node[last] and isinstance(node[last][0], ConfigDict):
            names = ", ".join(f"{key}.{item.name}" for item in node[last])
            raise UserError(f"--config.{key}={text}: a list of datasets, set values inside {names}")
        node[last] = _parse(key, text, node[last])
    return config


def to_dict(config: ConfigDict) -> dict:
    """Plain dicts, lists and scalars: what `config.json` holds."""

    def plain(value):
        if isinstance(value, ConfigDict):
            return {key: plain(value[key]) for key in value}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return plain(config)


def from_dict(values: dict) -> ConfigDict:
    """The locked ConfigDict of a `config.json`."""

    def rich(value):
        if isinstance(value, dict):
            return ConfigDict({key: rich(item) for key, item in value.items()})
        return tuple(rich(item) for item in value) if isinstance(value, list) else value

    config = rich(values)
    config.lock()
    return config


def load_json(path: pathlib.Path) -> ConfigDict:
    """The config of a workdir's `config.json`.

    Raises:
      UserError: the file is missing, or not a JSON object.
    """
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: missing; expected a workdir made by mdp pretrain or mdp finetune") from None
    except ValueError as error:  # of the JSON, or of its encoding
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no JSON object; expected the config of a run")
    return from_dict(values)


def _flat(value, prefix: str = "") -> dict:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{prefix}{item.get('name', i)}.").items()}
    return {prefix[:-1]: value}


def require_keys(config: ConfigDict, expected: ConfigDict, where) -> None:
    """Checks that a config read from a file has all keys of this version of the package.

    Args:
      config: as read.
      expected: of configs/base.py; of the keys of its datasets those are looked at that all kinds have.
      where: the file.

    Raises:
      UserError: naming the first key that is missing.
    """
    have = _flat(to_dict(config))
    for key in _flat(to_dict(expected)):
        if key not in have and not any(name.startswith(f"{key}.") for name in have):
            raise UserError(f"{where}: no {key} in it; expected the workdir of a run of this version of mdp_jax")
    of_all_kinds = set(base().folder("", "")) & set(base().synthetic("", 0))
    for dataset in config.sources if "sources" in config else (config.dataset,):
        for key in sorted(of_all_kinds - set(dataset)):
            raise UserError(
                f"{where}: no {key} in dataset {dataset.name!r}; expected the workdir of a run of this version"
            )


def identity(config: ConfigDict) -> dict:
    """{dotted key: value} of what a run computes: all values but those of FREE_ON_RESUME."""
    return {key: value for key, value in _flat(to_dict(config)).items() if key not in FREE_ON_RESUME}


def _place(init: str | None) -> str | pathlib.Path | None:
    return init if init in (None, "scratch") else pathlib.Path(os.path.expanduser(init)).resolve()


def require_same(old: ConfigDict, new: ConfigDict, workdir) -> None:
    """Checks that a workdir is resumed with the config that it was started with, FREE_ON_RESUME aside.

    Raises:
      UserError: naming the first value that differs.
    """
    before, now = identity(old), identity(new)
    if _place(before.get("init")) == _place(now.get("init")):  # which may be named in several ways
        before["init"] = now.get("init")
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{workdir}: started with config.{key}={before.get(key)!r}, now {now.get(key)!r}; "
                "use another workdir or the config it was started with"
            )
