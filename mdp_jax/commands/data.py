"""`mdp data`: work on a dataset before a run; a table of commands, each a module of mdp_jax/commands."""

import argparse
import importlib
import inspect
import types
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.data.kinds import DEFAULT_KIND, KINDS
from mdp_jax.data.kinds.kind import RootedConfig
from mdp_jax.errors import UserError

COMMANDS = {
    "import": "masks and annotations of any tool -> photos and masks of class ids",
    "prepare": "official release -> checked, sharded ArrayRecords",
    "check": "open every photo and mask once: sizes, ids, ignored pixels, classes, duplicates",
    "browse": "a contact sheet of what the network will see",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the commands of `mdp data` to a parser; the module of a command is imported when it is used."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        _add_when_used(commands.add_parser(name, help=summary, description=summary), name)


def _add_when_used(parser: argparse.ArgumentParser, name: str) -> None:
    parse = parser.parse_known_args

    def add_and_parse(*args: Any, **kwargs: Any) -> Any:
        _module(name).add_arguments(parser)
        return parse(*args, **kwargs)

    # The class of the parser is that of the one above it, which the caller makes.
    parser.parse_known_args = add_and_parse  # type: ignore[method-assign]


def _module(name: str) -> types.ModuleType:
    return importlib.import_module(f"mdp_jax.commands.data_{name}")


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    """Runs the command.

    Args:
      args: what the command declares.
      overrides: pairs of a dotted key and a text.

    Returns:
      Exit status.

    Raises:
      UserError: the command finds something wrong.
    """
    return _module(args.command).run(args, overrides) or 0


def kinds_with_root() -> tuple[str, ...]:
    """The names of the kinds whose datasets lie in a folder."""
    return tuple(name for name, kind in KINDS.items() if issubclass(kind.config_type, RootedConfig))


def kinds_with_masks() -> tuple[str, ...]:
    """The names of the kinds whose datasets are files of photos and masks."""
    return tuple(name for name, kind in KINDS.items() if kind.has_masks_on_disk)


def dataset_config(args: argparse.Namespace, kinds: Sequence[str], overrides: Sequence[tuple[str, str]]) -> ConfigDict:
    """Makes the config of the dataset that a command names.

    Args:
      args: `name`, `kind` and `root` are read. Where `kind` is None, the kind is `name` if that is a kind, otherwise
        the default kind. Where `root` is None, it is the kind's own.
      kinds: the kinds that the command accepts.
      overrides: of the dataset's config, pairs of a dotted key and a text.

    Returns:
      The config, locked.

    Raises:
      UserError: the kind is another, or an override is impossible.
    """
    kind = args.kind or (args.name if args.name in kinds_with_root() else DEFAULT_KIND)
    if kind not in kinds:
        raise UserError(f"dataset {args.name!r} is of kind {kind}; expected one of {', '.join(kinds)}")
    make, root = KINDS[kind].config, args.root
    if root is None and inspect.signature(make).parameters["root"].default is inspect.Parameter.empty:
        root = args.name  # of a kind whose datasets have no usual place
    config = make(args.name, **({} if root is None else {"root": root}))
    return configs.apply_overrides(config, list(overrides))
