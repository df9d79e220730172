"""`mdp adopt`: a segmenter of a new set in seconds, without a training step."""

import argparse

from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands.arguments import add_platform, add_step, add_weights, named, place, whole_number, workdir
from mdp_jax.configs import FinetuneConfig
from mdp_jax.errors import UserError
from mdp_jax.evaluation.closed_form import AUTO, HEADS, Head
from mdp_jax.models.network import LAYERS
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.training.adopting import Adopted, adopt, adopt_budgets
from mdp_jax.training.appending import LAYER, append_to_bank
from mdp_jax.words import some

_MADE_FROM = "What it was made from (a feature that covers pixels of several classes counts in parts for each)"


def _shrinkage(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text:.80}: expected a number above 0, or {AUTO}") from None


def _photos(text: str) -> int:
    return 0 if text == "all" else whole_number(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp adopt`."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=named,
        help="workdir of a run, a file of weights, or scratch: the config's network with its initial weights",
    )
    add_step(parser, "a workdir")
    add_weights(parser, "a workdir")
    parser.add_argument("--config", required=True, type=place, help="fine-tuning config; its dataset and data are read")
    parser.add_argument("--workdir", required=True, type=workdir, help="new folder, like that of mdp finetune")
    parser.add_argument(
        "--layer",
        nargs="+",
        default=[LAYERS[0]],
        metavar="LAYER",
        help=f"features under the classifier: {', '.join(LAYERS)}, or several, as backbone+decoder (default backbone)",
    )
    parser.add_argument(
        "--head",
        choices=tuple(HEADS),
        default="lda",
        help="lda: class means and one covariance (default); or nearest prototypes",
    )
    parser.add_argument(
        "--shrinkage",
        type=_shrinkage,
        default=AUTO,
        help=f"of the covariance: a number above 0, or {AUTO}: the best for photos left out in turn (default {AUTO})",
    )
    parser.add_argument("--no_frequencies", action="store_true", help="all classes are equally likely beforehand")
    parser.add_argument(
        "--append",
        action="store_true",
        help="with --head prototypes: a new set in the bank of a pretrained network, in a workdir like its own; of the "
        "newest checkpoint",
    )
    budgets = parser.add_argument_group("scores by the number of labelled photos, in place of a segmenter")
    budgets.add_argument(
        "--photos", nargs="+", type=_photos, metavar="N", help="numbers of photos, or all; each --layer is scored alone"
    )
    budgets.add_argument(
        "--draws", type=whole_number, metavar="K", help="of the photos, of each number (default 10); by config.seed"
    )
    add_platform(parser)
    parser.epilog = "Every config value can be set by --config.key=value, e.g. --config.dataset.limit=40."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Adopts a set, prints what it was made from and says where the workdir is."""
    if not args.photos and (len(args.layer) > 1 or args.draws):
        wrong = "--draws" if args.draws else f"--layer {' '.join(args.layer)}"
        raise UserError(f"{wrong}: expected --photos too; several layers under one classifier are --layer A+B")
    if args.append and (args.head != "prototypes" or args.photos or args.layer not in ([LAYERS[0]], [LAYER])):
        raise UserError(f"--append: expected --head prototypes, no --photos, and --layer {LAYER} or none")
    if args.append and args.step:
        raise UserError(f"--append: takes the newest checkpoint; expected no --step {args.step}")
    if args.append and args.weights:
        raise UserError(f"--append: keeps the network as it is; expected no --weights {args.weights}")
    config = configs.apply_overrides(configs.load(args.config, FinetuneConfig), overrides)
    runtime.start_devices(args.platform)
    if args.photos:
        return _budgets(args, config)
    if args.append:
        found = append_to_bank(args.checkpoint, config, args.workdir)
    else:
        (layer,), frequencies = args.layer, not args.no_frequencies
        found = adopt(
            args.checkpoint,
            config,
            args.workdir,
            layer,
            args.head,
            args.shrinkage,
            frequencies,
            args.step or "",
            args.weights,
        )
    _say(found, args.workdir, args.shrinkage == AUTO)


def _say(found: Adopted, folder: str, chosen: bool) -> None:
    """Says what a set was made from, with a shrinkage that was chosen or given, and what will never be predicted."""
    rows: list[list[str | int | float | None]] = [
        [name, int(photos), float(weight)]
        for name, photos, weight in zip(found.classes, found.photos, found.weight, strict=True)
    ]
    console().print(for_terminal(Table(["class", "photos", "features"], rows, _MADE_FROM)))
    unseen = found.unseen()
    if unseen:
        print(f"never predicted, since no pixel of theirs is labelled: {some(unseen)}")
    if len(unseen) == len(found.classes) - 1:
        (only,) = set(found.classes) - set(unseen)
        print(f"warning: {only} is the only class with a labelled pixel; every pixel will be {only}")
    if found.shrinkage is not None:
        how = "the best for photos left out in turn" if chosen else "as given"
        print(f"shrinkage: {found.shrinkage:.2g} of the covariance, {how}")
    print(f"adopted in {found.seconds:.1f} s; mdp evaluate and mdp predict take {folder}")


def _budgets(args: argparse.Namespace, config: ConfigDict) -> None:
    head = Head(args.head, args.shrinkage, not args.no_frequencies)
    photos = list(dict.fromkeys(args.photos))
    found = adopt_budgets(
        args.checkpoint, config, args.workdir, args.layer, photos, args.draws or 10, head, args.step or "", args.weights
    )
    rows: list[list[str | int | float | None]] = []
    for name, cell in found["cells"].items():
        layers, number = name.split("/")
        scores = cell["draws"]
        rows.append([layers, number, cell["mIoU"], min(scores), max(scores), len(scores)])
    table = Table(["layers", "photos", "mIoU (%)", "least", "most", "draws"], rows, "Scores by labelled photos")
    console().print(for_terminal(table))
    print(f"mean of the rows: {found['mIoU']:.1f} % mIoU; scored in {found['seconds']:.1f} s")
