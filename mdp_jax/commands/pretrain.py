"""`mdp pretrain`: one network on several datasets."""

import argparse

from mdp_jax import config as configs
from mdp_jax.training.pretraining import pretrain

add_arguments = configs.add_run_arguments


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.
    """
    pretrain(configs.of_arguments(args, overrides), args.workdir)
