"""`mdp export`: a trained network as StableHLO or ONNX, with a model card (docs/export.md)."""

import argparse

from mdp_jax import runtime
from mdp_jax.commands import arguments
from mdp_jax.evaluation.chosen_weights import EMA, PLAIN
from mdp_jax.exporting import exporting, stablehlo
from mdp_jax.exporting.program import OUTPUTS, Form


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp export` to a parser."""
    parser.add_argument(
        "--checkpoint", required=True, type=arguments.named, help="workdir of mdp finetune or mdp adopt"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=arguments.named,
        help="new folder for the files, the class names and the model card",
    )
    arguments.add_step(parser)
    arguments.add_weights(parser, choices=(PLAIN, EMA))
    parser.add_argument(
        "--format",
        nargs="+",
        metavar="FORMAT",
        default=list(exporting.FORMATS[:1]),
        help=f"{', '.join(exporting.FORMATS)}, or both (default {exporting.FORMATS[0]}); onnx needs the extra export",
    )
    parser.add_argument(
        "--output",
        choices=OUTPUTS,
        default=OUTPUTS[0],
        help="labels: the class of each pixel (default); logits: a number for each class in each pixel",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=arguments.whole_number,
        metavar=("HEIGHT", "WIDTH"),
        help="of the photos, in pixels (default any size)",
    )
    parser.add_argument("--batch", type=arguments.whole_number, help="number of photos at one time (default any)")
    parser.add_argument(
        "--platforms",
        nargs="+",
        metavar="PLATFORM",
        default=list(stablehlo.PLATFORMS),
        help=f"where the StableHLO file runs: some of {', '.join(stablehlo.PLATFORMS)} (default all)",
    )
    parser.add_argument("--license", default="", help="of the network, for the card; those of data are in the config")
    parser.add_argument(
        "--no_check", action="store_true", help="do not run the files and compare their answers with the network's"
    )
    parser.epilog = "Config values of the data can be set by --config.key=value, e.g. --config.dataset.license=CC0."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Exports a checkpoint of a workdir.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text; only keys that say how photos are read.

    Raises:
      UserError: as mdp_jax.exporting.exporting.export.
    """
    runtime.start_devices()
    found = exporting.export(
        args.checkpoint,
        args.out,
        Form(args.output, args.batch, tuple(args.size) if args.size else None),
        args.format,
        args.platforms,
        args.license,
        not args.no_check,
        overrides,
        args.step or "",
        args.weights,
    )
    for kind, file in found.files.items():
        print(f"{file}: {file.stat().st_size:,} bytes; {found.checked[kind]}".replace("`", ""))
    print(f"the card says how to load them: {found.folder / exporting.CARD}")
