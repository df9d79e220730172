"""What happens where a photo of the training set cannot be read, by name (`data.on_bad_image`)."""

import sys
import threading
from typing import Any

import numpy as np

from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import TransientError, UserError

_SUBSTITUTES = 0x6F74686572  # keeps this seed apart from others; the same in every run


def most_skipped(photos: int, share: float) -> int:
    """The number of bad photos that a run skips before it stops, at least 1.

    Args:
      photos: number of photos of the dataset.
      share: of them that may be bad, in [0, 1].
    """
    return max(1, int(share * photos))


class SkippingSource:
    """A source in which another photo replaces one whose reading raises UserError.

    The substitute of photo i depends only on i and on which photos are bad, so it is the same in every run, thread and
    process. A bad photo is named once on stderr, and not read again. All other attributes are those of the source.

    Attributes:
      bad: {index: what is wrong with it} of the bad photos that this process met.
    """

    def __init__(self, source: Source, share: float):
        """Wraps a source.

        Args:
          source: the source whose bad photos are skipped.
          share: as for `most_skipped`.
        """
        self._source = source
        self._share = share
        self._most = most_skipped(len(source), share)
        self._lock = threading.Lock()
        self.bad: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """The sample of photo `index`, or of its substitute; UserError where more photos are bad than may be."""
        if index not in self.bad:
            try:
                return self._source[index]
            except TransientError:  # of the disk; the photo may be good, and every run has the same substitutes
                raise
            except UserError as error:
                self._note(index, error)
        for substitute in np.random.default_rng((_SUBSTITUTES, index)).permutation(len(self)).tolist():
            self._require_few()
            if substitute not in self.bad:
                try:
                    return self._source[substitute]
                except TransientError:
                    raise
                except UserError as error:
                    self._note(substitute, error)
        raise UserError(f"dataset {self._source.name!r}: every photo is bad, as {self.bad[index]}")

    def _note(self, index: int, error: UserError) -> None:
        with self._lock:
            if index in self.bad:  # by another thread
                return
            self.bad[index] = str(error)
            number = f"bad photo {len(self.bad)} of dataset {self._source.name!r}, at most {self._most} are skipped"
            # In one piece, and while the lock is held: threads would mix their lines.
            sys.stderr.write(f"mdp: skipped: {error} ({number})\n")

    def _require_few(self) -> None:
        if len(self.bad) > self._most:
            *_, last = self.bad.values()
            raise UserError(
                f"dataset {self._source.name!r}: {len(self.bad)} of {len(self)} photos are bad, the last one: {last}; "
                f"expected at most {self._most}, as config.data.bad_image_share={self._share} says"
            )


def _stop(source: Source, share: float) -> Source:
    """The source as it is: its UserError names the photo and ends the run."""
    del share
    return source


ON_BAD_IMAGE = {"stop": _stop, "skip": SkippingSource}


def is_replaced(source: Source, index: int) -> bool:
    """Whether another photo takes the place of one that was asked for, since it is bad.

    Args:
      source: what `open_source` gives.
      index: of the sample.
    """
    return isinstance(source, SkippingSource) and index in source.bad


def bad_images(source: Source) -> int:
    """The number of bad photos of a source that this process has skipped.

    Args:
      source: what `open_source` gives.
    """
    return len(source.bad) if isinstance(source, SkippingSource) else 0
