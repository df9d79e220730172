"""The config that a case of `mdp bench` is measured with."""

import argparse

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax.errors import UserError


def config_of(args: argparse.Namespace, overrides: list[tuple[str, str]], default: ConfigDict | None) -> ConfigDict:
    """The config of --config, or `default` where there is none, with --data_dir and the overrides in it.

    Raises:
      UserError: no such config or value, or --data_dir or --classes without --config.
    """
    for name in ("data_dir", "classes"):
        if getattr(args, name) and not args.config:
            raise UserError(f"--{name} {getattr(args, name)}: belongs to --config, which names datasets")
    if args.data_dir:
        overrides = [*overrides, ("data_dir", args.data_dir)]
    return configs.apply_overrides(configs.load(args.config) if args.config else default, overrides)
