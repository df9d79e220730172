"""The checkpoint of the best validation, kept beside the newest ones of a fine-tuning."""

import math
import os
from collections.abc import Mapping
from typing import Any

from mdp_jax import distributed
from mdp_jax.storage.bucket_checkpoints import open_checkpoints
from mdp_jax.storage.checkpoints import BEST, NO_CHECKPOINT, Checkpoints, newest_meta
from mdp_jax.storage.paths import as_path

SCORE = "mIoU"  # that decides, in percent


class Best:
    """The folder `best` of a workdir: the whole state after the step whose validation had the greatest mIoU.

    It is written and read back as the other checkpoints are. The one before stays until the new one is proven to be
    readable, so a kill at any moment leaves one of them. A run that goes on takes the same steps again and scores the
    same; what it finds in the folder stays until a score is greater. With several processes each makes every call.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Reads which score there is to beat; makes no folder yet.

        Args:
          workdir: of the run.
        """
        self._workdir = as_path(workdir)
        found = newest_meta(workdir, BEST) if distributed.is_main() else None
        self.step = distributed.from_main(found["step"] if found else NO_CHECKPOINT)
        self.score = distributed.number_from_main(found[SCORE] if found else -math.inf)
        self.meta: Mapping[str, Any] = found or {}  # of that one, in the main process
        self._checkpoints: Checkpoints | None = None

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return self.step != NO_CHECKPOINT

    def beaten_by(self, score: float | None) -> bool:
        """Whether a score is greater; an equal one of a later step is not.

        Args:
          score: mIoU in percent; None where no pixel is labelled.
        """
        return score is not None and score > self.score

    def offer(self, step: int, state: Any, score: float | None, meta: dict, prove: bool = True) -> bool:
        """Saves a state where its score is greater, in the background.

        Args:
          step: steps taken.
          state: a pytree of arrays.
          score: as for `beaten_by`.
          meta: JSON values that the checkpoint has besides the score.
          prove: whether it is read back; not where there is no time.

        Returns:
          Whether it is the best now.

        Raises:
          UserError: it, or the one before, could not be written or read back.
        """
        if score is None or not self.beaten_by(score):
            return False
        if self._checkpoints is None:
            self._checkpoints = open_checkpoints(self._workdir, keep=1, name=BEST)
            # What cannot be read, and what a run of other devices had scored at a later step than this.
            self._checkpoints.replace_from(step if self.there else 0)
        self._checkpoints.save(step, state, meta | {SCORE: score}, prove)
        self.step, self.score = step, score
        return True

    def settle(self, prove: bool = True) -> None:
        """Waits until what was offered is on disk, and reads it back.

        Args:
          prove: whether it is read back.

        Raises:
          UserError: it could not be written or read back.
        """
        if self._checkpoints is not None:
            self._checkpoints.settle(prove)

    def close(self, prove: bool = True) -> None:
        """Waits until everything is on disk, and reads the last save back.

        Args:
          prove: whether it is read back.

        Raises:
          UserError: a save could not be written or read back.
        """
        if self._checkpoints is not None:
            self._checkpoints.close(prove)
            self._checkpoints = None
