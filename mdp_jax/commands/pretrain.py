"""`mdp pretrain`: one network on several datasets, from the beginning or further than a finished run."""

import argparse

from mdp_jax.commands import arguments
from mdp_jax.configs import PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp pretrain` to a parser."""
    arguments.add_run(parser, "pretrain", "configs/quickstart/pretrain.py", "backbone and decoder")


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.
    """
    profile, config = arguments.profile_of_run(args), arguments.config_of_run(args, overrides, PretrainConfig)
    from mdp_jax.training.pretraining import pretrain  # takes seconds; --help and wrong configs do without

    pretrain(config, args.workdir, exits=True, profile=profile)
