"""Stops a run on Ctrl-C, or on SIGTERM, with which TPU VMs, GKE and Slurm announce that they take a machine away."""

import itertools
import os
import signal
import sys
import threading
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

from mdp_jax.errors import PreemptedError

_QUESTIONS = itertools.count(1)  # of all runs of this process: JAX's service remembers the number of the last one
STATUS: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}  # exit status of a process that a signal ended


class StoppedError(Exception):
    """Work that a run does not need was left, because the run was told to stop."""


class Stop:
    """Notices SIGINT and SIGTERM while it is entered, and says when the run is to stop.

    One process: the first signal is noted while there are steps to save (`saving`), and ends the process at once
    elsewhere; the second one ends it at once, whatever is under way. A command raises no exception by a signal, since
    one in a callback of JAX would be lost, and a thread waits for the signals, since Python would look at them only
    after a long computation. Several processes: JAX's preemption service carries the notice of one to all. It stops
    them at the question after the last one that any of them had asked when the notice came, so all ask at the same
    places: before the first step and after each. The questions are numbered, not the steps: a run that goes on after
    step 100 is never at step 1, which the service names where nobody has asked yet.

    Attributes:
      noted: number of the signal, 0 before there was one.
    """

    def __init__(self, exits: bool = False) -> None:
        """Makes it; signals are noticed when it is entered.

        Args:
          exits: whether a signal may end the process at once, as it does with a command; otherwise it raises
            KeyboardInterrupt, or SystemExit for SIGTERM, where it would.
        """
        self.noted = 0
        self._exits = exits
        self._saving = False
        self._alone = jax.process_count() == 1
        self._entered = False

    def __enter__(self) -> "Stop":
        # Handlers are the main thread's; a caller who trains in another one has handlers of his own.
        self._entered = self._alone and threading.current_thread() is threading.main_thread()
        if self._entered:
            handler = (lambda *_: None) if self._exits else self._interrupt
            self._before = {number: signal.signal(number, handler) for number in STATUS}
        if self._entered and self._exits:
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not one of Python's
        if self._entered and self._exits:
            signal.set_wakeup_fd(self._wakeup_before)
            os.write(self._write, b"\0")
            os.close(self._write)
        self._entered = False

    def saving(self, steps: bool) -> None:
        """Says whether the first signal lets the run save its steps.

        Args:
          steps: whether there are steps to save.
        """
        self._saving = steps

    def reached(self) -> bool:
        """Whether the run must save and stop now; every process must ask after every step."""
        if self._alone:
            return bool(self.noted)
        return multihost_utils.reached_preemption_sync_point(next(_QUESTIONS))

    def before_steps(self, folder: os.PathLike) -> None:
        """Ends a run of several processes that was told to stop while there is nothing to save; all of them must ask.

        One process alone was ended by the signal then.

        Args:
          folder: the workdir.

        Raises:
          PreemptedError: the run was told to stop.
        """
        if not self._alone and self.reached():
            message = f"told to stop before a step was taken; the same command begins or goes on in {folder}"
            raise PreemptedError(message, self.status)

    def check(self) -> None:
        """Leaves work that the run does not need.

        Raises:
          StoppedError: the run was told to stop. Never with several processes, which would not leave it together.
        """
        if self._alone and self.noted:
            raise StoppedError

    @property
    def status(self) -> int:
        """The exit status of a run that stopped."""
        return STATUS.get(self.noted, STATUS[signal.SIGTERM])

    def _watch(self) -> None:
        while (number := os.read(self._read, 1)[0]) != 0:
            if number not in STATUS:
                continue
            if self.noted or not self._saving:
                _say("stopped at once")
                os._exit(STATUS[number])
            self._note(number)
        os.close(self._read)

    def _note(self, number: int) -> None:
        self.noted = number
        _say("told to stop: this step is finished and saved first; a second Ctrl-C or signal stops at once")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._saving and not self.noted:
            self._note(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(STATUS[number])


def _say(text: str) -> None:
    """Writes a line to stderr, whatever else is being written there."""
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which a progress bar has hidden
    os.write(2, f"{cursor}\nmdp: {text}\n".encode())
