"""Draws the two datasets of a pair, how the pair is mixed, and its box and weight (METHOD.md section 4).

Everything here is a function of the seed and of the number of the pair in the whole run.
"""

import bisect
import functools
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.method.mixing import PLAIN, REGION

_GRAIN = 65536  # pairs of a period, nearly: probabilities are rounded to one part in this many
_LEAST_WEIGHT = 1e-12  # of a dataset, beside the largest
_SCHEDULE, _PAIR = 1, 2  # keep the two uses of the seed apart


def mixture_weights(lengths: Sequence[int], temperature: float) -> np.ndarray:
    """Computes w_d ~ n_d^(1/T) of datasets of n_d photos (METHOD.md section 4).

    Args:
      lengths: n_d, photos of each of S datasets.
      temperature: T.

    Returns:
      float64 [S] with sum 1.

    Raises:
      UserError: T is not positive or so small that a weight vanishes, or a dataset is empty.
    """
    if not temperature > 0:
        raise UserError(f"mixture_temperature is {temperature}; expected a number above 0")
    if not len(lengths) or min(lengths) < 1:
        raise UserError(f"the datasets hold {list(lengths)} photos; expected at least one dataset and a photo in each")
    log_weights = np.log(np.asarray(lengths, np.float64)) / temperature
    weights = np.exp(log_weights - log_weights.max())  # the power itself overflows for a small T
    if weights.min() < _LEAST_WEIGHT:
        raise UserError(
            f"mixture_temperature {temperature} leaves a dataset of {min(lengths)} photos no weight; raise it"
        )
    return weights / weights.sum()


def pair_probabilities(weights: np.ndarray, region: float, pixel: float) -> np.ndarray:
    """Computes P(kind, d1, d2) (METHOD.md section 4).

    Plain: w_d1 w_d2. Mixed: w_d1 w_d2 / (1 - w_d1) for d2 != d1. Where one dataset has all the weight, every pair is
    plain.

    Args:
      weights: float64 [S] with sum 1.
      region: share of the region-mixed pairs.
      pixel: share of the pixel-mixed pairs.

    Returns:
      float64 [3, S, S] with sum 1.

    Raises:
      UserError: the shares are negative or above 1 together.
    """
    if region < 0 or pixel < 0 or region + pixel > 1:
        raise UserError(f"mixing.region and .pixel are {region} and {pixel}; expected shares from 0 with a sum up to 1")
    plain = weights[:, None] * weights[None, :]
    others = plain * (1 - np.eye(len(weights)))
    if not others.any():
        return np.stack([plain, 0 * plain, 0 * plain])
    partners = others.sum(axis=1, keepdims=True)
    mixed = weights[:, None] * others / np.where(partners > 0, partners, 1)
    share = 1 - (region + pixel)  # in this order 0.7 and 0.3 leave exactly nothing
    return np.stack([share * plain, region * mixed, pixel * mixed])


class Phase(NamedTuple):
    """Pairs of a run that are drawn by the same probabilities.

    Attributes:
      start: number of its first pair; it ends where the next phase starts.
      probabilities: float64 [3, S, S], as `pair_probabilities` returns them.
    """

    start: int
    probabilities: np.ndarray


def phases(weights: Sequence[tuple[int, Sequence[float]]], region: float, pixel: float, mixed_from: int) -> list[Phase]:
    """Makes the phases of a run whose weights change at given pairs, and whose pairs are all plain before one pair.

    Args:
      weights: (first pair, weight of each dataset) in the order of the pairs, from pair 0 on; none negative, their sum
        positive.
      region: share of the region-mixed pairs from pair `mixed_from` on.
      pixel: share of the pixel-mixed pairs, likewise.
      mixed_from: number of the first pair that may be mixed.

    Returns:
      The phases in the order of their starts.

    Raises:
      UserError: the shares are impossible.
    """
    found = []
    for start in sorted({start for start, _ in weights} | {mixed_from}):
        now = np.asarray([row for first, row in weights if first <= start][-1], np.float64)
        mixed = (region, pixel) if start >= mixed_from else (0.0, 0.0)
        found.append(Phase(start, pair_probabilities(now / now.sum(), *mixed)))
    return found


class _Period(NamedTuple):
    kinds: np.ndarray  # int32 [pairs]
    datasets: np.ndarray  # int32 [pairs, 2]
    uses: np.ndarray  # int64 [pairs, 2]: how often the period used this dataset before


class _Cells:
    """The periods of one phase: every cell (kind, d1, d2) max(1, round(65536 P)) times, in an order drawn anew.

    `start`: the phase's first pair. `counts`: int64 [3, S, S], the pairs of each cell in a period. `first_period`: how
    many periods, whole or not, began in earlier phases. `used`: int64 [S], how often those used each dataset.
    """

    def __init__(self, phase: Phase, seed: int, first_period: int, used: np.ndarray):
        counts = np.maximum(np.rint(_GRAIN * phase.probabilities), 1).astype(np.int64)
        self.start, self.first_period, self.used = phase.start, first_period, used
        self.counts = np.where(phase.probabilities > 0, counts, 0)
        cells = np.repeat(np.arange(counts.size), self.counts.ravel())
        kinds, first, second = np.unravel_index(cells, counts.shape)
        self._kinds = kinds.astype(np.int32)
        self._datasets = np.stack([first, second], axis=-1).astype(np.int32)
        self._uses_per_period = self.counts.sum((0, 2)) + self.counts.sum((0, 1))
        self._seed = seed
        self._period = functools.lru_cache(maxsize=4)(self._shuffled)  # threads read across the end of a period

    def sample(self, pair: int, member: int) -> tuple[int, int]:
        number, row = divmod(pair - self.start, len(self._kinds))
        period = self._period(number)
        dataset = int(period.datasets[row, member])
        uses = number * self._uses_per_period[dataset] + period.uses[row, member]
        return dataset, int(self.used[dataset] + uses)

    def kind(self, pair: int) -> int:
        number, row = divmod(pair - self.start, len(self._kinds))
        return int(self._period(number).kinds[row])

    def at(self, end: int) -> tuple[int, np.ndarray]:
        """`first_period` and `used` of a phase that starts at pair `end`."""
        whole, rest = divmod(end - self.start, len(self._kinds))
        begun = self._period(whole).datasets[:rest]
        used = self.used + whole * self._uses_per_period + np.bincount(begun.ravel(), minlength=len(self.used))
        return self.first_period + whole + (rest > 0), used

    def _shuffled(self, number: int) -> _Period:
        seed = (self._seed, _SCHEDULE, self.first_period + number)
        order = np.random.default_rng(seed).permutation(len(self._kinds))
        datasets = self._datasets[order]
        flat = datasets.ravel()
        uses = np.empty(flat.size, np.int64)
        for dataset, count in enumerate(self._uses_per_period):
            uses[flat == dataset] = np.arange(count)
        return _Period(self._kinds[order], datasets, uses.reshape(-1, 2))


class Schedule:
    """Selection map of the mixture for grain: sample 2j and 2j + 1 are pair j.

    In each phase, a period holds every cell (kind, d1, d2) of positive probability max(1, round(65536 P)) times, in an
    order drawn anew for each period; a new phase begins a new period. The k-th use of dataset d in the run, whatever
    the phases, takes position k of its stream, so that a shuffled, repeated stream is used in whole epochs.
    """

    def __init__(self, phases: Sequence[Phase], seed: int):
        """Makes the schedule.

        Args:
          phases: in the order of their starts; the first starts at 0.
          seed: of the run.
        """
        self.phases: list[_Cells] = []
        first_period, used = 0, np.zeros(phases[0].probabilities.shape[1], np.int64)
        for phase in phases:
            if self.phases:
                first_period, used = self.phases[-1].at(phase.start)
            self.phases.append(_Cells(phase, seed, first_period, used))
        self._starts = [phase.start for phase in phases]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Dataset of sample `index` of the run, and the position in that dataset's repeated stream."""
        pair, member = divmod(index, 2)
        return self._phase(pair).sample(pair, member)

    def kind(self, pair: int) -> int:
        """The kind of a pair.

        Args:
          pair: its number in the run.

        Returns:
          PLAIN, REGION or PIXEL.
        """
        return self._phase(pair).kind(pair)

    def _phase(self, pair: int) -> _Cells:
        return self.phases[bisect.bisect_right(self._starts, pair) - 1]


def shares(schedule: Schedule, pairs: int = sys.maxsize) -> dict:
    """Computes the shares that result in the first pairs of a run, as those of whole periods.

    Args:
      schedule: of the run.
      pairs: number of pairs.

    Returns:
      "datasets", the shares of the S datasets among the samples; "plain", "region" and "pixel", the shares among the
      pairs.
    """
    ends = [phase.start for phase in schedule.phases[1:]] + [pairs]
    cells = sum(
        max(0, min(end, pairs) - phase.start) / pairs * phase.counts / phase.counts.sum()
        for phase, end in zip(schedule.phases, ends, strict=True)
    )
    plain, region, pixel = cells.sum((1, 2)).tolist()
    datasets = (cells.sum((0, 2)) + cells.sum((0, 1))) / 2
    return {"datasets": datasets.tolist(), "plain": plain, "region": region, "pixel": pixel}


class Region(NamedTuple):
    """A half-open box of pixels.

    Attributes:
      y0: first row.
      x0: first column.
      y1: row after the last.
      x1: column after the last.
    """

    y0: int
    x0: int
    y1: int
    x1: int


class PairMixing(NamedTuple):
    """How a pair is mixed.

    Attributes:
      kind: PLAIN, REGION or PIXEL.
      lam: weight of a member itself; 1 for plain pairs.
      box: of its partner's pixels; empty, all 0, unless the pair is region-mixed.
    """

    kind: int
    lam: float
    box: Region


def pair_mixing(schedule: Schedule, pair: int, size: tuple[int, int], beta: float, seed: int) -> PairMixing:
    """Draws how a pair is mixed, from (seed, pair) alone; lam ~ Beta(beta, beta) for mixed pairs.

    Args:
      schedule: of the run.
      pair: its number in the run.
      size: height and width of the views.
      beta: above 0.
      seed: of the run.

    Returns:
      Kind, weight and box.
    """
    kind = schedule.kind(pair)
    if kind == PLAIN:
        return PairMixing(kind, 1.0, Region(0, 0, 0, 0))
    rng = np.random.default_rng((seed, _PAIR, pair))
    lam = rng.beta(beta, beta)
    height, width = size
    box = Region(0, 0, 0, 0)
    if kind == REGION:
        box = region_box(rng.uniform(0, height), rng.uniform(0, width), lam, size)
    return PairMixing(kind, lam, box)


def region_box(r_y: float, r_x: float, lam: float, size: tuple[int, int]) -> Region:
    """Computes the box of the region mixing (METHOD.md section 4).

    It starts at (r_y, r_x) and has sides H sqrt(1 - lam), W sqrt(1 - lam), each of the four truncated to whole pixels;
    then it is clipped at the border.

    Args:
      r_y: from 0 to H.
      r_x: from 0 to W.
      lam: from 0 to 1.
      size: height H and width W of the views.

    Returns:
      The box.
    """
    height, width = size
    y0, x0 = int(r_y), int(r_x)
    y1 = min(y0 + int(height * math.sqrt(1 - lam)), height)
    x1 = min(x0 + int(width * math.sqrt(1 - lam)), width)
    return Region(y0, x0, y1, x1)
