"""The config that a case of `mdp bench` is measured with."""

import argparse

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.errors import UserError


def config_of(args: argparse.Namespace, overrides: list[tuple[str, str]], default: ConfigDict | None) -> ConfigDict:
    """Makes the config that a case is measured with.

    Args:
      args: `config`, `data_dir` and `classes` are read.
      overrides: pairs of a dotted key and a text.
      default: the config where --config is not given; None where it is.

    Raises:
      UserError: there is no such config or value, or --data_dir or --classes is given without --config.
    """
    for name in ("data_dir", "classes"):
        if getattr(args, name) and not args.config:
            raise UserError(f"--{name} {getattr(args, name)}: belongs to --config, which names datasets")
    if args.data_dir:
        overrides = [*overrides, ("data_dir", args.data_dir)]
    config = configs.load(args.config) if args.config else default
    return configs.apply_overrides(config, overrides)
