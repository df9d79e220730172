"""The roofline's lower bound of a step, and the hours and the money that a run takes at least.

A step lasts at least as long as its operations at the peak of the matrix units, as its bytes at the peak of the memory,
and as what it sends at the peak of the wires; the largest of these is the bound. Real programs reach a share of it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mdp_jax.errors import UserError
from mdp_jax.planning.collectives import Collectives
from mdp_jax.planning.hardware import ON_CHIP, Peak


class Work(NamedTuple):
    """What one chip does in a step.

    Attributes:
      flops: operations.
      memory: bytes that pass between the chip and its memory, at least.
      links: bytes that it sends inside its slice or node, at least.
      network: bytes that it sends to other slices or nodes, at least.
    """

    flops: float
    memory: float
    links: float = 0.0
    network: float = 0.0


class Bound(NamedTuple):
    """The least seconds of a step.

    Attributes:
      seconds: the largest of the parts.
      limit: name of the largest part.
      parts: {name: seconds}; without a part whose rate is not known.
    """

    seconds: float
    limit: str
    parts: dict[str, float]


def memory_bytes(arguments: int, results: int, temporaries: int, on_chip: int = ON_CHIP) -> int:
    """The least number of bytes that a program moves between a chip and its memory.

    Arguments are read and results are written. What is alive at one time is written once and read once. Some of it may
    have stayed on the chip.

    Args:
      arguments: bytes that the program is given.
      results: bytes that it returns.
      temporaries: bytes of the largest state in between.
      on_chip: bytes of the chip's own memory.
    """
    return max(0, arguments + results + 2 * temporaries - 2 * on_chip)


def sent(moved: Collectives) -> float:
    """The least number of bytes that a chip sends inside its slice, whatever the algorithm and the number of chips.

    Of an all-reduce all bytes, of another collective half of them: between two chips, the fewest that there can be.

    Args:
      moved: of one run of the program.
    """
    return sum(size * (1.0 if kind == "all-reduce" else 0.5) for kind, size in moved.bytes.items())


def bound(work: Work, peak: Peak, dtype: str, network: float | None) -> Bound:
    """The roofline's lower bound of a step.

    Args:
      work: of one chip.
      peak: of the chip.
      dtype: that is computed in.
      network: bytes/s that a chip can send to other slices or nodes; None where it is not known, and left out.
    """
    parts = {
        "compute": work.flops / peak.flops(dtype),
        "memory": work.memory / peak.bandwidth,
        "links": work.links / peak.links,
    }
    if network:
        parts["network"] = work.network / network
    limit = max(parts, key=lambda name: parts[name])
    return Bound(parts[limit], limit, parts)


class Money(NamedTuple):
    """What a user says of price and time, checked.

    Attributes:
      prices: of a chip for an hour, one for each topology; empty = not given.
      deadline: hours that a run may take; None = any.
      efficiency: share of the bound that is reckoned with; None = the bound itself.
    """

    prices: tuple[float, ...]
    deadline: float | None
    efficiency: float | None

    def price(self, number: int) -> float | None:
        """Of a chip of a topology for an hour.

        Args:
          number: of the topology, from 0.
        """
        return self.prices[number % len(self.prices)] if self.prices else None


NO_MONEY = Money((), None, None)


def money(
    prices: Sequence[float], deadline: float | None, efficiency: float | None, topologies: Sequence[str]
) -> Money:
    """Checks what a user says of price and time.

    Args:
      prices: of a chip for an hour.
      deadline: hours, or None.
      efficiency: share of the bound, or None.
      topologies: their names.

    Raises:
      UserError: a value makes no sense.
    """
    for price in prices:
        if not 0 < price < math.inf:
            raise UserError(f"--price {price:g}: expected what a chip costs for an hour, more than 0")
    if prices and len(prices) not in (1, len(topologies)):
        raise UserError(
            f"--price: {len(prices)} prices for {len(topologies)} topologies; expected one for all, or one for each"
        )
    twice = next((name for name in topologies if list(topologies).count(name) > 1), None)
    if len(prices) > 1 and twice is not None:
        raise UserError(
            f"--topology {twice}: there twice, with a price for each; expected each topology once (or one --price)"
        )
    if deadline is not None and not 0 < deadline < math.inf:
        raise UserError(f"--deadline {deadline:g}: expected a number of hours, more than 0")
    if deadline is not None and not prices:
        raise UserError("--deadline: the cheapest cannot be found without a price; give --price too")
    if efficiency is not None and not 0 < efficiency <= 1:
        raise UserError(f"--efficiency {efficiency:g}: expected a share above 0, up to 1, such as 0.4")
    return Money(tuple(prices), deadline, efficiency)


def cheapest(rows: Sequence[dict], deadline: float) -> str:
    """Says which row costs least among those that end in time.

    Args:
      rows: with "name", "hours" and "cost", whose values may be None.
      deadline: hours.
    """
    known = [row for row in rows if row["hours"] is not None and row["cost"] is not None]
    in_time = [row for row in known if row["hours"] <= deadline]
    if in_time:
        best = min(in_time, key=lambda row: row["cost"])
        return f"cheapest within {deadline:g} h: {best['name']}, {best['hours']:.3g} h, {best['cost']:.4g}"
    if known:
        best = min(known, key=lambda row: row["hours"])
        return f"none ends within {deadline:g} h; the fastest is {best['name']} with {best['hours']:.3g} h"
    return f"none is known to end within {deadline:g} h: the hours are not known, or the memory does not suffice"
