"""The order of one dataset's photos: every epoch a permutation, drawn anew."""

import functools
import sys

import numpy as np


class ShuffledEpochs:
    """Selection map of one dataset for grain: position k of the endless stream shows photo order(k // n)[k % n].

    grain's own shuffle looks for an index by steps through 2^16 places: milliseconds for a set of tens of photos.
    """

    def __init__(self, length: int, seed: tuple[int, ...]):
        """`length` n, at least 1; `seed` non-negative integers. The order of epoch e depends on (seed, e) alone."""
        self._length = length
        self._seed = seed
        self._order = functools.lru_cache(maxsize=4)(self._draw)  # threads read across the end of an epoch

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Always dataset 0, and the photo's index."""
        epoch, within = divmod(position, self._length)
        return 0, int(self._order(epoch)[within])

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((*self._seed, epoch)).permutation(self._length)
