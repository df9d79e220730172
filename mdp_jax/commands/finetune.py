"""`mdp finetune`: one dataset, pretrained or from scratch, or further than a finished run."""

import argparse

from mdp_jax.commands import arguments
from mdp_jax.errors import UserError
from mdp_jax.training.finetuning import finetune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp finetune` to a parser."""
    arguments.add_run(parser)
    parser.add_argument(
        "--continue_from",
        type=arguments.path,
        metavar="WORKDIR",
        help="workdir of mdp finetune from whose whole state this run goes on, with momenta and step, in a --workdir "
        "of its own: more --config.steps, or another --config.optim.lr",
    )
    parser.add_argument(
        "--step",
        type=arguments.checkpoint_step,
        metavar="best|last|N",
        help="checkpoint of --continue_from (default: last)",
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Runs the part.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: --step without --continue_from, or what `finetune` raises.
    """
    if args.step and not args.continue_from:
        raise UserError(f"--step {args.step}: which checkpoint of --continue_from; expected that too, or neither")
    if args.continue_from:
        overrides = [*overrides, ("continue_from", args.continue_from), ("continue_step", args.step or "last")]
    profile = arguments.profile_of_run(args)
    finetune(arguments.config_of_run(args, overrides), args.workdir, exits=True, profile=profile)
