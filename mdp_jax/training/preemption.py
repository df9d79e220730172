"""Being told to stop: SIGTERM, the notice that TPU VMs, GKE and Slurm give before they take a machine back."""

import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preemption:
    """Notices SIGTERM while it is entered, and says when all processes of the run stop at the same step.

    One process: the signal is noted and the step under way is finished. Several: JAX's preemption service carries the
    notice of one to all, and names a step that all of them still reach.
    """

    def __init__(self):
        self._signalled = False

    def __enter__(self):
        if jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception):
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signalled = True

    def reached(self, step: int) -> bool:
        """Whether the run is to be saved and left after this step; every process must ask after every step."""
        if jax.process_count() == 1:
            return self._signalled
        return multihost_utils.reached_preemption_sync_point(step)
