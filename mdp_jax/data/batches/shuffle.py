"""The order of one dataset's photos: a new permutation for every epoch."""

import functools
import sys

import numpy as np


class ShuffledEpochs:
    """Selection map of one dataset for grain: position k of the endless stream shows photo order(k // n)[k % n].

    grain's own shuffle searches an index in steps through 2^16 numbers: milliseconds for a set of tens of photos.
    """

    def __init__(self, length: int, seed: tuple[int, ...]):
        """Makes the order. That of epoch e depends only on (seed, e).

        Args:
          length: n, at least 1.
          seed: non-negative integers.
        """
        self._length = length
        self._seed = seed
        self._order = functools.lru_cache(maxsize=4)(self._draw)  # threads read across the end of an epoch

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> tuple[int, int]:
        """The number of the dataset, which is always 0, and the photo's index."""
        epoch, within = divmod(position, self._length)
        return 0, int(self._order(epoch)[within])

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((*self._seed, epoch)).permutation(self._length)
