"""Selects the datasets of `mdp data check` and `mdp data browse`: those of a config, or one by name."""

import argparse

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.commands import data as data_command
from mdp_jax.commands.arguments import place
from mdp_jax.configs import finetune
from mdp_jax.data import sources
from mdp_jax.data.kinds import DEFAULT_KIND
from mdp_jax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments NAME with its folder, and --config, to a parser."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a dataset; also its kind, if it is one")
    parser.add_argument("--data_dir", type=place, metavar="D", help="folder of the datasets")
    default = f"its form (default: NAME if it is one, otherwise {DEFAULT_KIND})"
    parser.add_argument("--kind", choices=data_command.kinds_with_root(), help=default)
    parser.add_argument(
        "--root", type=place, metavar="R", help="its folder, under D unless absolute (default: that of the kind)"
    )
    parser.add_argument(
        "--config", type=place, metavar="FILE", help="in place of NAME: a pretraining or fine-tuning config"
    )
    parser.epilog = (
        "Every value of the config, or of NAME's part of one (mdp_jax/configs.py), can be set by --config.key=value."
    )


def config_of(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> ConfigDict:
    """Makes the config that --config names, or a fine-tuning config of the dataset NAME.

    Args:
      args: what `add_arguments` declares, and `command`.
      overrides: of the config, or of the dataset's part of it: pairs of a dotted key and a text.

    Returns:
      The config, locked.

    Raises:
      UserError: neither or both are given, an argument does not fit to --config, or the config is wrong.
    """
    if (args.name is None) == (args.config is None):
        raise UserError(f"mdp data {args.command}: expected NAME or --config FILE, one of them")
    if args.name is not None:
        config = finetune()
        config.dataset = data_command.dataset_config(args, data_command.kinds_with_root(), overrides)
        config.data_dir = args.data_dir or ""
        config.lock()
        return config
    for option in ("kind", "root"):
        if getattr(args, option) is not None:
            raise UserError(f"--{option} {getattr(args, option)}: belongs to NAME; a config is changed by --config.key")
    if args.data_dir is not None:
        overrides = [*overrides, ("data_dir", args.data_dir)]
    config = configs.apply_overrides(configs.load(args.config), overrides)
    if not sources.datasets_of(config):
        raise UserError(f"--config {args.config}: no sources in it; expected at least one dataset")
    return config
