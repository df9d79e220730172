"""From paired differences to an interval and a verdict, by rules that were fixed before the runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.studies.experiments import EQUIVALENT, GREATER, MEASURED

CONFIDENCE = 0.95
MARGIN = 1.0  # mIoU, within which two ways count as the same

HOLDS, CONTRADICTED, UNDECIDED = "holds", "contradicted", "undecided"


class Interval(NamedTuple):
    """The mean of some differences and the bounds of its confidence interval; None where there are too few."""

    mean: float | None
    low: float | None
    high: float | None


def interval(differences: Sequence[float]) -> Interval:
    """Computes mean and two-sided 95 % Student interval: mean -+ t(n - 1) s / sqrt(n), s with n - 1 degrees of freedom.

    Args:
      differences: n of them, one for each seed.
    """
    count = len(differences)
    if not count:
        return Interval(None, None, None)
    mean = float(np.mean(differences))
    if count == 1:
        return Interval(mean, None, None)
    from scipy.special import stdtrit  # a quarter of a second, and `mdp reproduce --list` needs none of it

    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * np.std(differences, ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def _greater(low: float, high: float) -> str:
    if low > 0:
        return HOLDS
    return CONTRADICTED if high < 0 else UNDECIDED


def _equivalent(low: float, high: float) -> str:
    if low >= -MARGIN and high <= MARGIN:
        return HOLDS
    return CONTRADICTED if low > MARGIN or high < -MARGIN else UNDECIDED


_RULES = {GREATER: _greater, EQUIVALENT: _equivalent}


def verdict(kind: str, found: Interval) -> str | None:
    """What an interval says about a claim.

    Args:
      kind: GREATER: holds above 0, contradicted below 0. EQUIVALENT: holds where the whole interval lies within
        -+ MARGIN, contradicted where it lies wholly outside. MEASURED: nothing was claimed.
      found: the interval of the differences.

    Returns:
      HOLDS, CONTRADICTED, UNDECIDED (also without an interval), or None where nothing was claimed.
    """
    if kind == MEASURED:
        return None
    return UNDECIDED if found.low is None or found.high is None else _RULES[kind](found.low, found.high)
