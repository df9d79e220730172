"""`mdp compare`: this package beside a plain PyTorch version of the method, layer by layer and step by step."""

import argparse
import importlib
import sys
import types

from rich.table import Table
from rich.text import Text

from mdp_jax import runtime
from mdp_jax.commands.arguments import output_file, place
from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import console
from mdp_jax.storage.json_files import write_json

_TEXT = ("what", "note")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp compare` to a parser."""
    parser.add_argument(
        "--json", type=place, default="compare.json", metavar="FILE", help="the same rows (default compare.json)"
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="instead: this backbone beside those of timm, torchvision and transformers that are installed",
    )
    parser.add_argument(
        "--precision",
        action="store_true",
        help="instead: each backbone and decoder in bfloat16 beside itself in float32, within what the number of "
        "roundings allows; needs no PyTorch; with --backbone for that backbone alone",
    )
    parser.add_argument("--all", action="store_true", help="a row for each parameter instead of each block")
    parser.epilog = "Both sides compute on the CPU. Exit status 1 where a row is out of tolerance."


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    """Writes the table as JSON and prints it.

    Args:
      args: what `add_arguments` declares.
      overrides: none are accepted.

    Returns:
      Exit status: 1 where a row is out of tolerance, otherwise 0.

    Raises:
      UserError: PyTorch or another library is not installed, no library has the backbone, a config value is given,
        options do not go together, or the JSON file cannot be written.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: compare has cases of its own and takes no config")
    if args.precision and args.all:
        raise UserError("--all: rows of parameters beside PyTorch's; expected it without --precision")
    if args.backbone == "":
        raise UserError("--backbone: an empty text; expected the name of a backbone, such as convnext_tiny")
    file = output_file(args.json)
    comparison = None if args.precision else _comparison()
    runtime.start_devices()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if comparison is None:
        rows = importlib.import_module("mdp_jax.parity.precision").compare(say, args.backbone or "")
    elif args.backbone:
        rows = importlib.import_module("mdp_jax.parity.backbones").compare(args.backbone, say, args.all)
    else:
        rows = comparison.compare(say, args.all)
    if file:
        write_json(file, [row.columns() for row in rows])
    console().print(table(rows))
    for number, cause in enumerate(_causes(rows), start=1):
        print(f"[{number}] {cause}")
    wrong = sum(not row.ok for row in rows)
    print(f"{len(rows)} rows, {wrong} out of tolerance" + (f" ({file})" if file else ""))
    return 1 if wrong else 0


def _comparison() -> types.ModuleType:
    try:
        importlib.import_module("mdp_jax.parity.comparison_torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            "compare: PyTorch is not installed; pip install 'mdp_jax[torch]' (in the repository: make venv EXTRA=torch)"
        ) from None
    return importlib.import_module("mdp_jax.parity.comparison")


def _causes(rows: list) -> list[str]:
    return list(dict.fromkeys(row.cause for row in rows if row.cause))


def _cell(value: str | float | bool | None) -> Text:
    if isinstance(value, bool):
        return Text("yes" if value else "NO", style="" if value else "bold red")
    if value is None:
        return Text("–")
    return Text(f"{value:.1e}" if isinstance(value, float) else str(value))


def table(rows: list) -> Table:
    """Makes the table to print with rich; causes of known gaps are numbered footnotes.

    Args:
      rows: of comparison.Row, at least one.
    """
    shown = Table(box=None, padding=(0, 1, 0, 0))
    for name in rows[0].columns():
        if name in _TEXT:
            shown.add_column(name, overflow="fold")
        else:
            shown.add_column(name, justify="right", min_width=7, max_width=10)
    causes = _causes(rows)
    for row in rows:
        footnote = f"[{causes.index(row.cause) + 1}]" if row.cause else ""
        cells = row.columns() | {"note": f"{footnote} {row.remark}".strip()}
        shown.add_row(*(_cell(value) for value in cells.values()))
    return shown
