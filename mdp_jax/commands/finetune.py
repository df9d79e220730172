"""`mdp finetune`: one dataset, pretrained or from scratch."""

import argparse

from mdp_jax import config as configs
from mdp_jax.training.finetuning import finetune

add_arguments = configs.add_run_arguments


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.
    """
    finetune(configs.of_arguments(args, overrides), args.workdir)
