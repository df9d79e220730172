"""`mdp bench`: the speed of this package, beside PyTorch's where PyTorch is installed."""

import argparse
import importlib
import math
import os
import sys

from mdp_jax import runtime
from mdp_jax.benchmarks import against
from mdp_jax.commands.arguments import add_platform, named, output_file, place, whole_number
from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json
from mdp_jax.storage.paths import as_path

# Six ratios to PyTorch on a busy machine lay within a tenth of their middle (docs/performance.md).
MARGIN = 0.15
CASES = {
    "step": "images/s of the whole step of pretraining and of fine-tuning",
    "loss": "thousand pixels/s of the prototype loss with its gradient, and of class means and bank",
    "data": "images/s of one core: reading, decoding, augmenting, batching, and all of it in the pipeline",
    "evaluation": "photos/s of an evaluation of many shapes, beside its forward passes alone",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp bench` to a parser; a case is the module of mdp_jax/benchmarks with its name."""
    parser.add_argument("case", nargs="?", choices=tuple(CASES), help="one of them (default: all, one after the other)")
    parser.add_argument(
        "--json",
        type=place,
        metavar="FILE",
        help="write the rows there too: case, ours, torch, ratio; the file of --against is replaced if no row fails",
    )
    parser.add_argument(
        "--against",
        type=named,
        metavar="FILE",
        help="what --json wrote before: exit status 1, with a line for each row that is missing or slower by more than "
        "--margin. The speed of the machine is divided out",
    )
    parser.add_argument("--margin", type=float, metavar="M", help=f"of --against; 0.1 is a tenth (default {MARGIN:g})")
    parser.add_argument("--config", type=named, metavar="FILE", help="of a run of your own, for one case")
    parser.add_argument("--data_dir", type=place, metavar="D", help="folder of its datasets")
    parser.add_argument("--classes", type=whole_number, metavar="N", help="step, loss: in place of its datasets")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement (default 5)")
    parser.add_argument(
        "--torch_compile", action="store_true", help="step: PyTorch's networks by torch.compile, not as they are"
    )
    add_platform(parser)
    cases = "; ".join(f"{name}: {summary}" for name, summary in CASES.items())
    parser.epilog = f"{cases}. Every config value can be set by --config.key=value."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    """Measures the cases, prints a table of each and writes all rows as JSON.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Returns:
      Exit status: 1 where a row is missing or slower than --against allows.

    Raises:
      UserError: an argument is wrong, data are bad, or a file cannot be written.
    """
    file = output_file(args.json)
    if not 0 < args.seconds < math.inf:
        raise UserError(f"--seconds {args.seconds}: expected a finite number above 0")
    if not args.case and (args.config or overrides):
        given = f"--config {args.config}" if args.config else f"--config.{overrides[0][0]}"
        raise UserError(f"{given}: belongs to one case; expected one of {', '.join(CASES)} before it")
    margin = MARGIN if args.margin is None else args.margin
    if not 0 < margin < 1:
        raise UserError(f"--margin {margin}: expected a number between 0 and 1, such as 0.1 for a tenth")
    if args.margin is not None and not args.against:
        raise UserError(f"--margin {margin}: belongs to --against; expected --against FILE too")
    if args.torch_compile and args.case not in (None, "step"):
        raise UserError("--torch_compile: belongs to the case step; expected mdp bench step, or no --torch_compile")
    cases = [args.case] if args.case else list(CASES)
    stored = against.read(as_path(args.against), cases) if args.against else []
    replaces = file is not None and args.against is not None and file.resolve() == as_path(args.against).resolve()
    # Otherwise JAX takes three quarters of a GPU's memory for itself, and PyTorch's side is to fit beside it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    runtime.start_devices(args.platform)
    print(runtime.described(), file=sys.stderr)
    screen, rows = console(), []
    for name in cases:
        case = importlib.import_module(f"mdp_jax.benchmarks.{name}")
        found, remark = case.measure(args, overrides)
        found = [row.columns() for row in found]
        rows += found
        if file and not replaces:  # before it is printed, and what was measured before a case that fails
            write_json(file, rows)
        screen.print(for_terminal(Table(list(found[0]), [list(row.values()) for row in found], CASES[name])))
        screen.print(remark, markup=False, highlight=False)
    failed = [found for found in against.compare(stored, rows) if found.fails(margin)]
    for found in failed:
        print(f"mdp: {args.against}: {found.line}", file=sys.stderr)
    if file and replaces and not failed:
        write_json(file, rows)
    if stored and not failed:
        said = "1 row is" if len(stored) == 1 else f"{len(stored)} rows are"
        print(f"{said} as fast as in {args.against}, within {100 * margin:.0f} %", file=sys.stderr)
    return 1 if failed else 0
