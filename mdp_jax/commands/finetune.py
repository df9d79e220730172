"""`mdp finetune`: one dataset, pretrained or from scratch, or further than a finished run."""

import argparse

from mdp_jax.commands import arguments
from mdp_jax.configs import FinetuneConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp finetune` to a parser."""
    arguments.add_run(
        parser,
        "finetune",
        "configs/quickstart/finetune.py",
        "the parts that config.transfer names (backbone and decoder)",
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.
    """
    profile, config = arguments.profile_of_run(args), arguments.config_of_run(args, overrides, FinetuneConfig)
    from mdp_jax.training.finetuning import finetune  # takes seconds; --help and wrong configs do without

    finetune(config, args.workdir, exits=True, profile=profile)
