"""The plan of a whole training step: one row for each case."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.planning import collectives, memory, programs, topologies
from mdp_jax.planning.compiling import compile_for, needed
from mdp_jax.planning.memory import MIB, Exhausted, excess
from mdp_jax.planning.programs import MOMENTUM, QUERY, REST, Case, Program


class _Compiled(NamedTuple):
    program: Program
    outcome: jax.stages.Compiled | Exhausted
    seconds: float


def column(kind: str) -> str:
    """The name of the column of a kind of collectives.

    Args:
      kind: one of collectives.KINDS.
    """
    return f"{kind} (MiB)"


def rows(cases: Sequence[Case], quick: bool) -> list[dict]:
    """Compiles the step of each case.

    Args:
      cases: checked (programs.check).
      quick: compiles with little effort, and does not look for the largest batch.

    Returns:
      {name of a column: value} for each case, and "verdict", lines of text. Bytes and operations are of one chip and
      one step. A value is None where only a program that fits tells it.
    """
    known: dict[tuple, dict[int, int | None]] = {}  # of cases that are alike: images on a chip, bytes
    results = []
    for topology, config, space in cases:
        row, bytes_needed = _row(topology, config, space, quick)
        known.setdefault(_alike(topology, space), {})[row["images on a chip"]] = bytes_needed
        results.append(row)
    for (topology, config, space), row in zip(cases, results, strict=True):
        if not quick:
            share = _largest_share(topology, config, space, known[_alike(topology, space)])
            row["largest batch"] = share * topologies.chips(topology)
    return results


def _alike(topology: str, space: LabelSpace) -> tuple:
    """Cases that agree in this need the same memory for the same share of the batch."""
    return topologies.generation(topology), space.num_classes


def _compile(topology: str, config: ConfigDict, space: LabelSpace, quick: bool) -> _Compiled:
    program = programs.program(config, topologies.devices(topology), space)
    what = f"{topology}, batch {config.batch}, {space.num_classes} classes"
    return _Compiled(program, *compile_for(what, program.step.lower(program.state, program.batch), quick))


def _row(topology: str, config: ConfigDict, space: LabelSpace, quick: bool) -> tuple[dict, int | None]:
    """The row of a case, and the bytes that it needs on a chip where it fits."""
    chips, available = topologies.chips(topology), topologies.memory(topology)
    program, outcome, seconds = _compile(topology, config, space, quick)
    moved: collectives.Collectives | None = None
    if isinstance(outcome, Exhausted):
        taken, verdict = outcome.needed, excess(outcome)
    else:
        moved = collectives.count(outcome.as_text() or "")
        taken, verdict = needed(outcome), _verdict(moved)
    row = {
        "topology": topology,
        "chips": chips,
        "batch": config.batch,
        "images on a chip": config.batch // chips,
        "classes": space.num_classes,
        "memory needed (MiB)": round(taken / MIB),
        "memory there (MiB)": round(available / MIB),
        "state (MiB)": round(programs.share(program.state) / MIB),
        **_flops(topology, config, space),
        **{column(kind): moved.bytes[kind] / MIB if moved else None for kind in collectives.KINDS},
        "collectives": moved.calls if moved else None,
        "largest batch": None,
        "compiled in (s)": round(seconds),
        "verdict": verdict,
    }
    return row, taken if moved else None


def _verdict(moved: collectives.Collectives) -> list[str]:
    if not moved.loops_of_unknown_length:
        return ["fits"]
    return ["fits", f"  {moved.loops_of_unknown_length} loops of unknown length hold collectives, which count once"]


def _flops(topology: str, config: ConfigDict, space: LabelSpace) -> dict[str, float]:
    parts = programs.operations(config, topologies.devices(topology), space)
    total = sum(parts.values())
    return {
        "GFLOP": total / 1e9,
        "FLOPs outside the query encoder (%)": 100 * (total - parts[QUERY]) / total,
        "FLOPs of the momentum encoder (%)": 100 * parts[MOMENTUM] / total,
        "all else / both encoders (%)": 100 * parts[REST] / (parts[QUERY] + parts[MOMENTUM]),
    }


def _largest_share(topology: str, config: ConfigDict, space: LabelSpace, known: dict[int, int | None]) -> int:
    """Images on a chip. They are found on the smallest slice of the generation, whose chips have the same memory."""
    small = topologies.smallest(topology, config.fsdp)

    def measure(share: int) -> int | None:
        larger = programs.with_batch(config, share * topologies.chips(small))
        outcome = _compile(small, larger, space, quick=False).outcome
        return None if isinstance(outcome, Exhausted) else needed(outcome)

    return memory.largest(topologies.memory(topology), programs.unit(config), known, measure)
