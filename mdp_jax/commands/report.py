"""`mdp report`: curves and tables of several runs on one page, and one table over all sets."""

import argparse
import csv
import io

from mdp_jax.commands.arguments import named, output_file
from mdp_jax.errors import UserError
from mdp_jax.evaluation import side_by_side
from mdp_jax.reporting.report import html
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_text
from mdp_jax.words import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp report` to a parser."""
    parser.add_argument("workdirs", nargs="+", type=named, metavar="WORKDIR", help="of any run")
    parser.add_argument("--out", type=named, default="runs.html", help="page to write (default runs.html)")
    parser.add_argument("--csv", type=named, help="also write the table over all sets as CSV")
    parser.epilog = (
        "It reads config.json, metrics.jsonl, evaluation.json and edited.json, and needs no device and no photo."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Writes the page and prints the table over all sets.

    Args:
      args: what `add_arguments` declares.
      overrides: none are accepted.

    Raises:
      UserError: something is no workdir or cannot be read, or a file cannot be written.
    """
    if overrides:
        raise UserError(f"--config.{overrides[0][0]}: mdp report has no config")
    page, rows_file = output_file(args.out, "--out"), output_file(args.csv, "--csv")
    found = side_by_side.read(args.workdirs)
    sections = side_by_side.sections(found)
    assert page is not None  # it has a default, and is not empty
    write_text(page, html(f"{counted(len(found), 'run')} side by side", sections))
    table = side_by_side.scores_table(found)
    console().print(for_terminal(table))
    if rows_file:
        write_text(rows_file, _csv(table))
    print(f"page: {page}")


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if cell is None else cell for cell in row] for row in table.rows])
    return text.getvalue()
