"""`mdp edit-bank`: other sets and classes for a pretrained checkpoint, which goes on training with them."""

import argparse
import shlex

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands.arguments import add_platform, named, workdir
from mdp_jax.configs import PretrainConfig
from mdp_jax.errors import UserError
from mdp_jax.training.editing import Edits, edit
from mdp_jax.words import some

_SHOWN = 12  # names in a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp edit-bank` to a parser."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=named,
        help="workdir of a pretraining (mdp pretrain, edit-bank or adopt --append); its newest checkpoint is read",
    )
    parser.add_argument("--workdir", required=True, type=workdir, help="new folder, like that of mdp pretrain")
    parser.add_argument(
        "--config",
        type=named,
        help="pretraining config of the run that goes on: its sources are the new list, and classes keep their rows by "
        "name (default: the config of the checkpoint, with the edits)",
    )
    parser.add_argument(
        "--adopt",
        action="append",
        default=[],
        metavar="SET",
        help="a set of --config whose new classes get prototypes from its training photos; without it new classes are "
        "unseen at first",
    )
    edits = parser.add_argument_group("edits of the classes, in this order; each may be given several times")
    edits.add_argument(
        "--drop", nargs="+", action="append", default=[], metavar=("SET", "CLASS"), help="a set, or classes of it"
    )
    edits.add_argument(
        "--rename", nargs=3, action="append", default=[], metavar=("SET", "CLASS", "NEW"), help="another name"
    )
    edits.add_argument(
        "--merge",
        nargs="+",
        action="append",
        default=[],
        metavar=("SET NEW", "CLASS"),
        help="one class, NEW, in the place of several of a set",
    )
    edits.add_argument(
        "--order", nargs="+", action="append", default=[], metavar=("SET", "CLASS"), help="these classes of a set first"
    )
    edits.add_argument("--order_sets", nargs="+", default=[], metavar="SET", help="these sets first")
    add_platform(parser)
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.steps=2000."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes the new workdir, says what became of the classes and how to go on.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text, of the config.

    Raises:
      UserError: no such workdir, edits that cannot be, or a config of another network.
    """
    edits = Edits(args.drop, args.rename, args.merge, args.order, args.order_sets)
    if edits == Edits([], [], [], [], []) and not args.config and not overrides:
        raise UserError(
            "nothing to edit; expected --config, or one of --drop, --rename, --merge, --order, --order_sets"
        )
    config = configs.load(args.config, PretrainConfig) if args.config else None
    runtime.start_devices(args.platform)
    found = edit(args.checkpoint, args.workdir, edits, config, args.adopt, overrides)
    print(f"classes with the rows that they had: {found.kept}")
    for what, names in (
        ("made of several", found.merged),
        ("with prototypes from photos", found.adopted),
        ("new, and unseen so far", found.unseen),
        ("gone", found.gone),
    ):
        if names:
            print(f"{what}: {len(names)} ({some(names, _SHOWN)})")
    at = f"step {found.step} of {found.steps}"
    if found.step < found.steps:
        file, folder = shlex.quote(str(found.config)), shlex.quote(args.workdir)
        print(f"{at}; mdp pretrain --config {file} --workdir {folder} goes on")
    else:
        print(f"{at}: no step is left; with a larger --config.steps mdp edit-bank makes a run that goes on")
