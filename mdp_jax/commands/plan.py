"""`mdp plan`: compiles the real step for a TPU slice that is not here: memory, FLOPs, collectives, largest batch."""

import argparse
import itertools

import jax
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands.arguments import json_file, path, whole_number
from mdp_jax.errors import UserError
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import loss_memory, programs, steps, topologies
from mdp_jax.planning.collectives import KINDS
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json

PARTS = {"step": steps.rows, "loss": loss_memory.rows}
_OTHER_KINDS = {steps.column(kind) for kind in KINDS if kind != "all-reduce"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp plan` to a parser."""
    parser.add_argument(
        "--config", required=True, type=path, help="Python file with get_config(), of mdp pretrain or mdp finetune"
    )
    parser.add_argument(
        "--topology", required=True, nargs="+", metavar="T", help="TPU slices, e.g. v5e:4x4, v4:2x2x4, v5p:4x4x4"
    )
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch", type=whole_number, nargs="+", metavar="N", help="global batches in place of the config's"
    )
    batch.add_argument("--batch_per_chip", type=whole_number, nargs="+", metavar="N", help="the same, for each chip")
    parser.add_argument(
        "--classes",
        type=whole_number,
        nargs="+",
        metavar="C",
        help="numbers of classes; the datasets then need not be here",
    )
    parser.add_argument(
        "--part", choices=tuple(PARTS), default="step", help="the whole step, or the memory of the loss alone"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compile with little effort, which takes a tenth of the time and overstates the memory, and "
        "do not look for the largest batch that fits",
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="the columns of the table as a list of rows")
    parser.epilog = (
        "Needs no TPU but its compiler: make venv EXTRA=tpu. A ResNet-50 takes minutes to compile. "
        "Every config value can be set by --config.key=value; config.devices is that of the topology."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Prints a column for each topology, batch and number of classes, and writes them as JSON rows.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: there is no such topology or no libtpu, a config value or a batch cannot work, datasets are missing and
        no number of classes is given, or the JSON file cannot be written.
    """
    config = configs.apply_overrides(configs.load(args.config), overrides)
    file = json_file(args.json)
    prototypes = programs.is_pretraining(config) and OBJECTIVES[config.objective].loss_options is not None
    if args.part == "loss" and not prototypes:
        raise UserError(f"--part loss: {args.config} has no prototype loss; expected a config of mdp pretrain")
    for name in args.topology:
        topologies.chips(name)
    topologies.require_compiler()
    # Nothing is run, so the host's own accelerator is left alone.
    jax.config.update("jax_platforms", "cpu")
    # A program for devices that are not here can be written to the cache, and not be read from it.
    jax.config.update("jax_enable_compilation_cache", False)
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    cases = _cases(args, config)
    rows = PARTS[args.part](cases, args.quick)
    if file:
        write_json(file, rows)
    console().print(for_terminal(_table(rows)))
    for row in rows:
        verdict, *details = row["verdict"]
        print("\n".join([f"{row['topology']}, batch {row['batch']}, {row['classes']} classes: {verdict}", *details]))
    if file:
        print(f"columns as rows: {file}")


def _cases(args: argparse.Namespace, config: ConfigDict) -> list[programs.Case]:
    """What each column is of, checked."""
    spaces = [programs.label_space(config, classes) for classes in args.classes or [None]]
    cases = []
    for topology in args.topology:
        chips = topologies.chips(topology)
        batches = [share * chips for share in args.batch_per_chip or ()] or args.batch or [config.batch]
        for batch, space in itertools.product(batches, spaces):
            case = programs.with_batch(config, batch)
            programs.check(case, chips)
            cases.append(programs.Case(topology, case, space))
    return cases


def _table(rows: list[dict]) -> Table:
    """Quantities below each other and cases side by side, as a terminal is narrow."""
    # Kinds of collectives that no case has would be half of the lines.
    absent = {name for name in rows[0] if name in _OTHER_KINDS and not any(row[name] for row in rows)}
    names = [name for name in rows[0] if name not in {"topology", "verdict"} | absent]
    cells = [[name, *(row[name] for row in rows)] for name in names]
    return Table(["", *(row["topology"] for row in rows)], cells, "Bytes and FLOPs are of one chip and one step")
