"""The plan of a whole training step: one row for each case."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.planning import collectives, costs, memory, programs, topologies
from mdp_jax.planning.collectives import Collectives
from mdp_jax.planning.compiling import compile_for, needed
from mdp_jax.planning.costs import Money, Work
from mdp_jax.planning.memory import MIB, Exhausted, excess
from mdp_jax.planning.programs import MOMENTUM, QUERY, REST, Case, Program

# Where no compiler for the device is here, so many shares of `data` show what is sent: more send the same.
_SHARES = 2


class _Compiled(NamedTuple):
    program: Program
    outcome: jax.stages.Compiled | Exhausted
    seconds: float


class _Found(NamedTuple):
    """What the compiled program of a case tells.

    Attributes:
      state: bytes of the state on a chip.
      memory: bytes that a chip must have; None where the compiler is that of another device.
      moved: collectives of a chip; None where the program does not fit.
      traffic: bytes between a chip and its memory, at least; None where it does not fit.
      seconds: of the compilation.
      verdict: lines of text.
    """

    state: int
    memory: int | None
    moved: Collectives | None
    traffic: int | None
    seconds: float
    verdict: list[str]


def column(kind: str) -> str:
    """The name of the column of a kind of collectives.

    Args:
      kind: one of collectives.KINDS.
    """
    return f"{kind} (MiB)"


def prepare(cases: Sequence[Case]) -> None:
    """Asks JAX for as many virtual CPU devices as the cases need; to be called before JAX starts its devices.

    Args:
      cases: checked (programs.check).
    """
    wanted = max(_SHARES * case.config.fsdp for case in cases)
    if wanted > jax.config.values["jax_num_cpu_devices"]:
        with contextlib.suppress(RuntimeError):  # started already: those that are there must do
            jax.config.update("jax_num_cpu_devices", wanted)


def rows(cases: Sequence[Case], quick: bool, money: Money = costs.NO_MONEY, network: float | None = None) -> list[dict]:
    """Compiles the step of each case.

    Args:
      cases: checked (programs.check).
      quick: compiles with little effort, and does not look for the largest batch.
      money: prices of the topologies, in their order of appearance.
      network: Gbit/s of the network of a node of GPUs; None = it is left out.

    Returns:
      {name of a column: value} for each case, and "verdict", lines of text. Bytes and operations are of one chip and
      one step. A value is None where only a program that fits tells it.
    """
    known: dict[tuple, dict[int, int | None]] = {}  # of cases that are alike: images on a chip, bytes
    names = list(dict.fromkeys(case.topology for case in cases))
    results = []
    for case in cases:
        found = _compiled_for_tpu(case, quick) if _on_its_compiler(case) else _compiled_for_cpu(case, quick)
        results.append(_row(case, found, money, names.index(case.topology), network))
        known.setdefault(_alike(case), {})[results[-1]["images on a chip"]] = found.memory if found.moved else None
    for case, row in zip(cases, results, strict=True):
        if not quick and _on_its_compiler(case):
            row["largest batch"] = _largest_share(case, known[_alike(case)]) * row["chips"]
    return results


def _on_its_compiler(case: Case) -> bool:
    return topologies.is_tpu(case.topology) and topologies.has_compiler()


def _alike(case: Case) -> tuple:
    """Cases that agree in this need the same memory for the same share of the batch."""
    return topologies.generation(case.topology), case.label_space.num_classes


def _compile(name: str, devices: list, config: ConfigDict, space: LabelSpace, quick: bool) -> _Compiled:
    program = programs.program(config, devices, space)
    what = f"{name}, batch {config.batch}, {space.num_classes} classes"
    return _Compiled(program, *compile_for(what, program.step.lower(program.state, program.batch), quick))


def _name(case: Case) -> str:
    return case.topology if case.slices == 1 else f"{case.slices} x {case.topology}"


def _compiled_for_tpu(case: Case, quick: bool) -> _Found:
    devices = topologies.devices(case.topology, case.slices)
    program, outcome, seconds = _compile(_name(case), devices, case.config, case.label_space, quick)
    state = programs.share(program.state)
    if isinstance(outcome, Exhausted):
        return _Found(state, outcome.needed, None, None, seconds, excess(outcome))
    moved = collectives.count(outcome.as_text() or "")
    return _Found(state, needed(outcome), moved, _traffic(outcome), seconds, _verdict(moved))


def _compiled_for_cpu(case: Case, quick: bool) -> _Found:
    """The same step for virtual CPU devices, each with a chip's own share of the batch.

    A program for CPUs has the same collectives. Its memory is its own, and so is the form of some operations.
    """
    fsdp, inside = case.config.fsdp, topologies.chips(case.topology)
    total = inside * case.slices
    devices = jax.devices("cpu")[: min(total, _SHARES * fsdp)]
    config = programs.with_batch(case.config, case.config.batch // total * len(devices))
    what = f"{_name(case)} as a program for CPUs"
    program, outcome, seconds = _compile(what, devices, config, case.label_space, quick)
    assert not isinstance(outcome, Exhausted)  # that of CPUs knows no limit
    moved = collectives.count(outcome.as_text() or "", fsdp if case.slices > 1 else None)
    moved.to_other_slices *= fsdp / inside  # in place of a slice or node there are `fsdp` devices
    told = ["compiled for CPUs: whether it fits is not known"]
    if topologies.is_tpu(case.topology):
        told.append(
            "  to know it, install libtpu, the compiler of TPU programs: pip install 'mdp_jax[tpu]' (in the "
            "repository: make venv EXTRA=tpu)"
        )
    return _Found(programs.share(program.state), None, moved, _traffic(outcome), seconds, told)


def _traffic(compiled: jax.stages.Compiled) -> int:
    stats = compiled.memory_analysis()
    assert stats is not None
    return costs.memory_bytes(stats.argument_size_in_bytes, stats.output_size_in_bytes, stats.temp_size_in_bytes)


def _mib(size: float) -> int | float:
    """A number of bytes in MiB, whole from 10 on: below, as of tiny networks, the digits after the point say most."""
    return round(size / MIB) if size >= 10 * MIB else size / MIB


def _row(case: Case, found: _Found, money: Money, number: int, network: float | None) -> dict:
    """The row of a case; its topology is `number` among those of the plan."""
    inside = topologies.chips(case.topology)
    total, moved = inside * case.slices, found.moved
    flops = _flops(case, total)
    ici = None if moved is None else sum(moved.bytes.values()) if inside > 1 else 0
    row = {
        "topology": case.topology,
        "chips": total,
        "batch": case.config.batch,
        "images on a chip": case.config.batch // total,
        "classes": case.label_space.num_classes,
        "memory needed (MiB)": None if found.memory is None else _mib(found.memory),
        "memory there (MiB)": round(topologies.memory(case.topology) / MIB),
        "state (MiB)": _mib(found.state),
        **flops,
        **{column(kind): moved.bytes[kind] / MIB if moved else None for kind in collectives.KINDS},
        "collectives": moved.calls if moved else None,
        "largest batch": None,
        "compiled in (s)": round(found.seconds),
        "slices": case.slices,
        "over ICI (MiB)": None if ici is None else ici / MIB,
        "over DCN (MiB)": None if moved is None else moved.to_other_slices / MIB,
    }
    work = None
    if moved is not None and found.traffic is not None:
        links = costs.sent(moved) if inside > 1 else 0.0
        work = Work(1e9 * flops["GFLOP"], found.traffic, links, moved.to_other_slices)
    row |= _cost(case, work, total, money, number, network)
    return row | {"verdict": found.verdict}


def _cost(case: Case, work: Work | None, chips: int, money: Money, number: int, network: float | None) -> dict:
    """The columns of the bound: the least time of a step, hours and money of the run."""
    names = ("compute", "memory", "links", "network")
    columns: dict = {f"{name} (ms)": None for name in names}
    columns |= {"a step takes at least (ms)": None, "limited by": None, "images/s at most": None}
    columns |= {"steps": case.steps, "hours at least": None, "cost at least": None}
    columns |= {"hours at the efficiency": None, "cost at the efficiency": None}
    if work is None:
        return columns
    peak = topologies.peak(case.topology)
    of_a_chip = peak.network
    if network and not topologies.is_tpu(case.topology):
        of_a_chip = network * 1e9 / 8 / topologies.chips(case.topology)
    found = costs.bound(work, peak, case.config.model.compute_dtype, of_a_chip)
    columns |= {f"{name} (ms)": 1e3 * seconds for name, seconds in found.parts.items()}
    columns |= {"a step takes at least (ms)": 1e3 * found.seconds, "limited by": found.limit}
    columns["images/s at most"] = case.config.batch / found.seconds
    price = money.price(number)
    for what, share in (("at least", 1.0), ("at the efficiency", money.efficiency)):
        if share is None or case.steps is None:
            continue
        hours = case.steps * found.seconds / share / 3600
        columns[f"hours {what}"] = hours
        columns[f"cost {what}"] = None if price is None else hours * chips * price
    return columns


def _verdict(moved: Collectives) -> list[str]:
    if not moved.loops_of_unknown_length:
        return ["fits"]
    return ["fits", f"  {moved.loops_of_unknown_length} loops of unknown length hold collectives, which count once"]


def _flops(case: Case, chips: int) -> dict[str, float]:
    # Traced, not compiled: any device will do.
    parts = programs.operations(case.config, jax.devices()[:1] * chips, case.label_space)
    total = sum(parts.values())
    return {
        "GFLOP": total / 1e9,
        "FLOPs outside the query encoder (%)": 100 * (total - parts[QUERY]) / total,
        "FLOPs of the momentum encoder (%)": 100 * parts[MOMENTUM] / total,
        "all else / both encoders (%)": 100 * parts[REST] / (parts[QUERY] + parts[MOMENTUM]),
    }


def _largest_share(case: Case, known: dict[int, int | None]) -> int:
    """Images on a chip. They are found on the smallest slice of the generation, whose chips have the same memory."""
    small = topologies.smallest(case.topology, case.config.fsdp)

    def measure(share: int) -> int | None:
        larger = programs.with_batch(case.config, share * topologies.chips(small))
        outcome = _compile(small, topologies.devices(small), larger, case.label_space, quick=False).outcome
        return None if isinstance(outcome, Exhausted) else needed(outcome)

    return memory.largest(topologies.memory(case.topology), programs.unit(case.config), known, measure)
