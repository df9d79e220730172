"""Whether a compiled program fits a chip, and the largest share of a batch that does."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

MIB, GIB = 2**20, 2**30

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"
# The compiler gives up early, when the temporaries alone are too much, or late, when all is laid out.
_EARLY = re.compile(rf"HLO temporaries \({_SIZE}\) exceeds available HBM \({_SIZE}\)")
_LATE = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
_ALLOCATION = re.compile(
    rf"Size: {_SIZE}\n(?:\s+Operator: op_name=\"([^\"]*)\"[^\n]*\n)?\s+Shape: ([a-z0-9]+\[[\d,]*\])"
)


@dataclass(frozen=True)
class Exhausted:
    """What the compiler says about a program that does not fit.

    Attributes:
      needed: bytes on a chip; a lower bound where the compiler gave up early.
      available: bytes.
      largest: the largest allocations in words, where the compiler lists them.
    """

    needed: int
    available: int
    largest: tuple[str, ...]


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * _UNITS[unit])


def exhausted(message: str) -> Exhausted | None:
    """Reads the message of a RESOURCE_EXHAUSTED error.

    Args:
      message: of a compiler's error.

    Returns:
      What it says; None for an error of another kind.
    """
    found = _EARLY.search(message) or _LATE.search(message)
    if not found:
        return None
    allocations = (
        f"{number}{unit} {shape}{f' of {operator}' if operator else ''}"
        for number, unit, operator, shape in _ALLOCATION.findall(message)
    )
    return Exhausted(_bytes(*found.groups()[:2]), _bytes(*found.groups()[2:]), tuple(allocations))


def excess(outcome: Exhausted) -> list[str]:
    """Says in words what does not fit.

    Args:
      outcome: what the compiler said.

    Returns:
      Lines.
    """
    first = f"does not fit: {outcome.needed / GIB:.2f} GiB or more, and a chip has {outcome.available / GIB:.2f}"
    return [first, *(f"  {allocation}" for allocation in outcome.largest)]


def largest(available: int, unit: int, known: dict[int, int | None], measure: Callable[[int], int | None]) -> int:
    """Finds the largest share of a batch that fits.

    The memory besides the activations does not depend on the batch, and the activations grow in proportion to it. So
    two shares that fit give a straight line, which predicts the largest share; it is measured. Where it does not fit,
    smaller shares are tried. Larger ones, which the compiler might fit by saving memory, are not.

    Args:
      available: bytes on a chip.
      unit: shares are multiples of it.
      known: {share: bytes needed, None where it does not fit}, of at least one share; measured shares are added.
      measure: share -> bytes needed or None; expensive where it fits.

    Returns:
      The share, measured to fit; 0 where not even one unit does.
    """

    def fits(share: int) -> bool:
        if share not in known:
            known[share] = measure(share)
        return known[share] is not None

    def whole(share: float) -> int:
        return int(share) // unit * unit

    share = min(known)
    while not fits(share):
        share = whole(share / 2)
        if not share:
            return 0
    if not any(fits(other) for other in known if other != share):
        fits(whole(share / 2) or 2 * share)
    measured = sorted((share, needed) for share, needed in known.items() if needed is not None)
    (low, needed_low), (high, needed_high) = measured[0], measured[-1]
    slope = (needed_high - needed_low) / max(high - low, 1)
    if slope <= 0:  # one share alone fits
        return high
    too_many = min((share for share, needed in known.items() if needed is None), default=math.inf)
    trial = whole(min(high + (available - needed_high) / slope, too_many - unit))
    while trial > high and not fits(trial):
        trial = min(trial - unit, whole(0.95 * trial))
    return max(trial, high)
