"""`mdp adopt`: a segmenter of a new set in seconds, without a training step."""

import argparse

from mdp_jax import config as configs
from mdp_jax.commands.arguments import path, workdir
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.training.adopting import HEADS, LAYERS, adopt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp adopt`."""
    parser.add_argument("--checkpoint", required=True, type=path, help="workdir of a run, or a file of weights")
    parser.add_argument(
        "--config", required=True, type=path, help="a fine-tuning config; its dataset and data are read"
    )
    parser.add_argument("--workdir", required=True, type=workdir, help="new folder, like that of mdp finetune")
    parser.add_argument("--layer", choices=LAYERS, default=LAYERS[0], help="features under the classifier")
    parser.add_argument(
        "--head", choices=tuple(HEADS), default="lda", help="lda: class means and one covariance; or nearest prototypes"
    )
    parser.add_argument("--shrinkage", type=float, default=0.01, help="of the covariance (default 0.01)")
    parser.add_argument("--no_frequencies", action="store_true", help="all classes are equally likely beforehand")
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.dataset.limit=40."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Adopts a set, prints what it was made from and says where the workdir is."""
    config = configs.apply_overrides(configs.load(args.config), overrides)
    found = adopt(args.checkpoint, config, args.workdir, args.layer, args.head, args.shrinkage, not args.no_frequencies)
    rows: list[list[str | int | float | None]] = [
        [name, int(photos), float(weight)]
        for name, photos, weight in zip(found.classes, found.photos, found.weight, strict=True)
    ]
    console().print(for_terminal(Table(["class", "photos", "features"], rows, "What it was made from")))
    if found.unseen():
        print(f"never predicted, since no pixel of theirs is labelled: {', '.join(found.unseen())}")
    print(f"adopted in {found.seconds:.1f} s; mdp evaluate and mdp predict take {args.workdir}")
