"""`mdp plan`: the real step on machines that are not here: memory, FLOPs, collectives, least time, hours, money."""

import argparse
import itertools
import math
import sys

import jax
import numpy as np
from ml_collections import ConfigDict

from mdp_jax import config as configs
from mdp_jax import runtime
from mdp_jax.commands.arguments import output_file, place, whole_number
from mdp_jax.errors import UserError
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.planning import costs, loss_memory, programs, steps, topologies
from mdp_jax.planning.collectives import KINDS
from mdp_jax.reporting.tables import Table, console, for_terminal
from mdp_jax.storage.json_files import write_json

PARTS = ("step", "loss")
_SMALL, _LEAST = 0.1, 0.0001  # values below them are shown in another way
_OTHER_KINDS = {steps.column(kind) for kind in KINDS if kind != "all-reduce"}
_OF_A_STEP = ("price", "deadline", "efficiency", "network", "photos")  # arguments that the loss alone has no use for
_BOUND = (
    "The least time is a bound, at published peaks and with all parts at once: real programs reach a share of it. "
    "--efficiency 0.4 reckons with 40 %."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `mdp plan` to a parser."""
    parser.add_argument(
        "--config", required=True, type=place, help="Python file with get_config(), of mdp pretrain or mdp finetune"
    )
    parser.add_argument(
        "--topology",
        required=True,
        nargs="+",
        metavar="T",
        help="TPU slices, e.g. v5e:4x4, v4:2x2x4, v5p:4x4x4, or GPU nodes, e.g. h100:8, l4:1",
    )
    parser.add_argument(
        "--slices", type=whole_number, default=1, metavar="N", help="slices or nodes of each topology (default 1)"
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
    cost = parser.add_argument_group("hours and money")
    cost.add_argument(
        "--price", type=float, nargs="+", default=[], metavar="P", help="of a chip for an hour: one, or one a topology"
    )
    cost.add_argument("--deadline", type=float, metavar="H", help="hours; the cheapest topology within them is named")
    cost.add_argument(
        "--efficiency", type=float, metavar="E", help="share of the bound that is reckoned with, e.g. 0.4"
    )
    cost.add_argument(
        "--network", type=float, metavar="GBIT", help="Gbit/s of the network of a GPU node; not given, it costs nothing"
    )
    cost.add_argument(
        "--photos", type=whole_number, metavar="N", help="photos of all datasets, where they are not here"
    )
    parser.add_argument("--json", type=place, metavar="FILE", help="the columns of the table as a list of rows")
    parser.epilog = (
        "Memory of a TPU needs its compiler, and no TPU: make venv EXTRA=tpu. Without it, and for GPUs, the step is "
        "compiled for CPUs, which shows operations and bytes. A ResNet-50 takes minutes to compile. "
        "Every config value can be set by --config.key=value; config.devices is that of the topology."
    )


def run(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> None:
    """Prints a column for each topology, batch and number of classes, and writes them as JSON rows.

    Args:
      args: what `add_arguments` declares.
      overrides: pairs of a dotted key and a text.

    Raises:
      UserError: there is no such topology, or no libtpu for the loss, a config value or a batch cannot work, prices or
        hours make no sense, datasets are missing and no number of classes is given, or the JSON file cannot be written.
    """
    config = configs.apply_overrides(configs.load(args.config), overrides)
    file = output_file(args.json)
    for name in args.topology:
        topologies.chips(name)
    if args.part == "loss":
        _check_loss(args, config)
    money = costs.money(args.price, args.deadline, args.efficiency, args.topology)
    if args.network is not None and not 0 < args.network < math.inf:
        raise UserError(f"--network {args.network:g}: expected Gbit/s of a node, more than 0, such as 3200")
    # Nothing is run, so the host's own accelerator is left alone.
    jax.config.update("jax_platforms", "cpu")
    # A program for devices that are not here can be written to the cache, and not be read from it.
    jax.config.update("jax_enable_compilation_cache", False)
    runtime.set_precision(config.model.compute_dtype, config.model.param_dtype)
    cases = _cases(args, config)
    for line in _not_used(args, config):
        print(f"mdp: {line}", file=sys.stderr)
    if args.part == "loss":
        rows = loss_memory.rows(cases, args.quick)
    else:
        steps.prepare(cases)
        rows = steps.rows(cases, args.quick, money, args.network)
    if file:
        write_json(file, rows)
    console().print(for_terminal(_table(rows)))
    for row in rows:
        verdict, *details = row["verdict"]
        print("\n".join([f"{_name(row)}, batch {row['batch']}, {row['classes']} classes: {verdict}", *details]))
    if args.part == "step":
        print("\n".join(_of_costs(rows, money)))
    if file:
        print(f"columns as rows: {file}")


def _check_loss(args: argparse.Namespace, config: ConfigDict) -> None:
    if not programs.is_pretraining(config):
        raise UserError(f"--part loss: {args.config} has no prototype loss; expected a config of mdp pretrain")
    if not loss_memory.has_loss(config):
        having = ", ".join(name for name, objective in OBJECTIVES.items() if objective.loss_options)
        raise UserError(
            f"--part loss: config.objective={config.objective!r:.80} has no prototype loss; expected one of {having}"
        )
    for name in _OF_A_STEP:
        if getattr(args, name):
            raise UserError(f"--{name}: of the whole step; leave it out with --part loss")
    if args.slices > 1:
        raise UserError(f"--slices {args.slices}: the loss of a chip is the same in every slice; expected 1")
    for name in args.topology:
        if not topologies.is_tpu(name):
            raise UserError(f"--topology {name}: the memory of the loss is known for TPUs alone; expected e.g. v5e:2x2")
    topologies.require_compiler()


def _not_used(args: argparse.Namespace, config: ConfigDict) -> list[str]:
    """Lines about what was given and changes nothing."""
    lines = []
    if args.photos and (config.steps or not programs.is_pretraining(config)):
        lines.append(f"--photos {args.photos}: not used, as config.steps={config.steps} says how many steps there are")
    if args.network and (args.slices == 1 or all(map(topologies.is_tpu, args.topology))):
        lines.append(f"--network {args.network:g}: not used; it is between GPU nodes, and needs --slices 2 or more")
    return lines


def _cases(args: argparse.Namespace, config: ConfigDict) -> list[programs.Case]:
    """What each column is of, checked."""
    spaces = [programs.label_space(config, classes) for classes in args.classes or [None]]
    cases = []
    for topology in args.topology:
        chips = topologies.chips(topology) * args.slices
        batches = [share * chips for share in args.batch_per_chip or ()] or args.batch or [config.batch]
        for batch, space in itertools.product(batches, spaces):
            case = programs.with_batch(config, batch)
            _check(case, topology, args.slices)
            cases.append(programs.Case(topology, case, space, args.slices, programs.steps(case, args.photos)))
    return cases


def _check(config: ConfigDict, topology: str, slices: int) -> None:
    try:
        programs.check(config, topologies.chips(topology), slices)
    except UserError as error:
        if slices == 1:
            raise
        raise UserError(f"--topology {topology} --slices {slices}: {error}") from None


def _name(row: dict) -> str:
    return row["topology"] if row.get("slices", 1) == 1 else f"{row['slices']} x {row['topology']}"


def _of_costs(rows: list[dict], money: costs.Money) -> list[str]:
    """Lines about time and money, below the table."""
    what = "at least" if money.efficiency is None else "at the efficiency"
    lines = [_BOUND]
    if any(row["steps"] is None for row in rows):
        lines.append("The hours need the number of steps: give --photos N or --config.steps=N")
    if any(row["over DCN (MiB)"] and row["network (ms)"] is None for row in rows):
        lines.append("The network between slices or nodes is left out where its speed is not known; --network says it")
    if money.deadline is not None:
        named = [
            {"name": f"{_name(row)}, batch {row['batch']}", "hours": row[f"hours {what}"], "cost": row[f"cost {what}"]}
            for row in rows
        ]
        lines.append(costs.cheapest(named, money.deadline))
    return lines


def _shown(value: str | int | float | None) -> str | int | float | None:
    """A value of the table; a small one, of which two digits after the point say little, as text."""
    if not isinstance(value, float) or not 0 < value < _SMALL:
        return value
    return f"< {_LEAST}" if value < _LEAST else np.format_float_positional(value, precision=2, fractional=False)


def _table(rows: list[dict]) -> Table:
    """Quantities below each other and cases side by side, as a terminal is narrow."""
    # Kinds of collectives and costs that no case has would be half of the lines.
    absent = {name for name in rows[0] if name in _OTHER_KINDS and not any(row[name] for row in rows)}
    absent |= {name for name in rows[0] if all(row[name] is None for row in rows)}
    if all(row.get("slices", 1) == 1 for row in rows):
        absent |= {"slices", "over ICI (MiB)", "over DCN (MiB)", "network (ms)"}
    names = [name for name in rows[0] if name not in {"topology", "verdict"} | absent]
    cells = [[name, *(_shown(row[name]) for row in rows)] for name in names]
    return Table(["", *map(_name, rows)], cells, "Bytes and FLOPs are of one chip and one step")
