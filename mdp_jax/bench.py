"""`mdp bench`: the speed of this package, beside PyTorch's where PyTorch is installed."""

import argparse
import importlib
import pathlib

import rich.console

from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table, for_terminal
from mdp_jax.training.workdir import write_json

CASES = {"data": "images/s of one core: reading, decoding, augmenting, batching, and all of it in the pipeline"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mdp bench`; a case is the module of mdp_jax/benchmarks of its name."""
    parser.add_argument("case", nargs="?", choices=tuple(CASES), help="one of them (default: all, one after the other)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too: case, ours, torch, ratio")
    parser.add_argument("--config", metavar="FILE", help="a config of your own in place of drawn photos")
    parser.add_argument("--data_dir", metavar="D", help="folder of its datasets")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement (default 5)")
    parser.epilog = "; ".join(f"{name}: {summary}" for name, summary in CASES.items()) + "."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Measures the cases, prints a table of each and writes all rows as JSON.

    Raises:
      UserError: a wrong argument, bad data, or a file that cannot be written.
    """
    path = pathlib.Path(args.json) if args.json else None
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise UserError(f"--json {path}: expected a file in a folder that exists")
    if not args.seconds > 0:
        raise UserError(f"--seconds {args.seconds}: expected more than 0")
    console, rows = rich.console.Console(), []
    for name in [args.case] if args.case else CASES:
        case = importlib.import_module(f"mdp_jax.benchmarks.{name}")
        found, remark = case.measure(args, overrides)
        found = [row.columns() for row in found]
        console.print(for_terminal(Table(list(found[0]), [list(row.values()) for row in found], CASES[name])))
        console.print(remark, markup=False, highlight=False)
        rows += found
    if path:
        try:
            write_json(path, rows)
        except OSError as error:
            raise UserError(f"--json {path}: {error.strerror}; expected a file that can be written") from None
