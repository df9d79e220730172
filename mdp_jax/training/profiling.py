"""A profile of some steps of a run: a trace for TensorBoard and Perfetto, and a line that sums it up."""

import contextlib
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from mdp_jax import distributed
from mdp_jax.errors import UserError
from mdp_jax.storage import buckets
from mdp_jax.storage.bucket_path import BucketPath

FOLDER = "profile"  # of a workdir
WAIT = "wait for data"  # names of spans of the loop
_STEP, _FINISH = "step", "finish"
_OPERATION = "hlo_op"  # what events of the device's own work have
_ACCELERATORS = ("/device:TPU:", "/device:GPU:")
# Of a TPU's lines, the one of its own work; others show the same once more, for people.
_OPERATIONS_LINE = "XLA Ops"


class Profile(NamedTuple):
    """What is to be profiled.

    Attributes:
      first: number of the first step.
      last: number of the last step.
      every_process: whether each process writes a trace; process 0 alone otherwise.
    """

    first: int
    last: int
    every_process: bool = False

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


def parse(text: str, every_process: bool = False) -> Profile:
    """Reads the value of --profile.

    Args:
      text: as in "100:110".
      every_process: of the profile.

    Raises:
      UserError: it is something else.
    """
    first, colon, last = text.partition(":")
    if not (colon and all(part.isdecimal() and len(part) < 12 for part in (first, last))):
        raise UserError(f"--profile {text:.80}: expected FIRST:LAST, the numbers of two steps, as in 100:110")
    return Profile(int(first), int(last), every_process)


def check(profile: Profile | None, steps: int) -> None:
    """Checks that a range of steps is inside the run.

    Args:
      profile: or None.
      steps: of the run, which are 1 to this number.

    Raises:
      UserError: it is not.
    """
    if profile is not None and not 1 <= profile.first <= profile.last <= steps:
        raise UserError(
            f"--profile {profile}: the steps of this run are 1 to {steps}; expected two of them, the smaller first"
        )


class Shares(NamedTuple):
    """Where the time of some steps went; the three shares have the sum 1.

    Attributes:
      busy: the first device of the process computes.
      waiting: it does not, and the loop waits for data.
      host: neither: the host does something else, such as dispatching, logging and saving.
      seconds: from the first step to the end of the last.
    """

    busy: float
    waiting: float
    host: float
    seconds: float


def _length(intervals: Sequence[tuple[float, float]]) -> float:
    """Of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def shares(
    work: Sequence[tuple[float, float]], waits: Sequence[tuple[float, float]], begin: float, end: float
) -> Shares:
    """Computes where the time went.

    Args:
      work: begin and end of operations of the device, in nanoseconds.
      waits: of the loop's waiting for data.
      begin: of the first step.
      end: of the last one.
    """
    inside = [[(max(a, begin), min(b, end)) for a, b in spans if b > begin and a < end] for spans in (work, waits)]
    whole = max(end - begin, 1.0)
    busy = _length(inside[0])
    both = _length([*inside[0], *inside[1]])
    return Shares(busy / whole, (both - busy) / whole, max(0.0, 1 - both / whole), whole / 1e9)


def read(file: pathlib.Path) -> Shares | None:
    """Reads where the time went from a trace.

    Args:
      file: *.xplane.pb, as `Tracing` makes it.

    Returns:
      The shares; None where the trace has no step.
    """
    work: list[tuple[float, float]] = []
    waits: list[tuple[float, float]] = []
    ends: list[float] = []
    planes = sorted(jax.profiler.ProfileData.from_file(str(file)).planes, key=lambda plane: plane.name)
    devices = [plane for plane in planes if plane.name.startswith(_ACCELERATORS) and list(plane.lines)]
    for plane in devices[:1]:
        lines = list(plane.lines)
        for line in [line for line in lines if line.name == _OPERATIONS_LINE] or lines:
            work += [_span(event) for event in line.events if line.name == _OPERATIONS_LINE or _operation(event)]
    for plane in planes:
        if plane.name != "/host:CPU":
            continue
        for line in plane.lines:
            for event in line.events:
                if event.name == WAIT:
                    waits.append(_span(event))
                elif event.name in (_STEP, _FINISH):
                    ends += _span(event)
                elif not devices and _operation(event):
                    work.append(_span(event))
    return shares(work, waits, min(ends), max(ends)) if ends else None


def _span(event: Any) -> tuple[float, float]:
    return event.start_ns, event.start_ns + event.duration_ns


def _operation(event: Any) -> bool:
    return any(name == _OPERATION for name, _ in event.stats)


class Tracing:
    """Traces the steps of a profile while the loop takes them."""

    def __init__(self, profile: Profile | None, workdir: pathlib.Path, start: int) -> None:
        """Makes it; nothing is traced yet.

        Args:
          profile: or None.
          workdir: of the run.
          start: steps that were taken before.
        """
        self._profile = profile
        self._on = profile is not None and (profile.every_process or distributed.is_main())
        self._running = False
        self._begin = max(profile.first, start + 1) if profile else 0
        name = f"steps_{profile.first}_{profile.last}" if profile else ""
        self._folder = workdir / FOLDER / name / f"process_{jax.process_index()}"
        self._staged: tempfile.TemporaryDirectory | None = None  # of a bucket, where the profiler cannot write
        self.said: list[str] = []
        if profile and profile.last <= start:
            self._on = False
            self.said.append(f"--profile {profile}: these steps were taken before; there is no trace of them now")

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Goes around a step of the loop.

        Args:
          number: of the step.
        """
        if self._on and self._profile and number == self._begin:
            self._start()
        with jax.profiler.StepTraceAnnotation(_STEP, step_num=number):
            yield

    def done(self, number: int, state: Any) -> float:
        """Ends the trace after its last step.

        Args:
          number: of the step that was taken.
          state: after it; the trace waits for it.

        Returns:
          The seconds that it took to write the trace.
        """
        if not (self._running and self._profile and number == self._profile.last):
            return 0.0
        with jax.profiler.TraceAnnotation(_FINISH):
            jax.block_until_ready(state)
        began = time.perf_counter()
        self._stop()
        return time.perf_counter() - began

    def close(self) -> None:
        """Ends a trace that a stop or an error has cut short; what there is of it is written."""
        if self._running:
            self._stop()

    def _start(self) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of every thread would be most of the trace, and slow
        try:
            place = self._folder
            if isinstance(place, BucketPath):
                self._staged = tempfile.TemporaryDirectory(prefix="mdp-profile-")
                place = pathlib.Path(self._staged.name)
                buckets.delete_folder(str(self._folder))
            else:
                shutil.rmtree(place, ignore_errors=True)  # of a run that was killed in these steps
            jax.profiler.start_trace(place, create_perfetto_trace=True, profiler_options=options)
            self._running = True
        except (OSError, RuntimeError, UserError) as error:
            self._failed(error)

    def _stop(self) -> None:
        self._running, self._on = False, False
        try:
            jax.profiler.stop_trace()
            place = pathlib.Path(self._staged.name) if self._staged else self._folder
            file = next(iter(sorted(place.rglob("*.xplane.pb"))))
            found = read(file)
            if self._staged:
                buckets.upload_folder(place, str(self._folder))
                self._staged.cleanup()
        except (OSError, RuntimeError, StopIteration, UserError) as error:
            self._failed(error)
            return
        self.said.append(f"profile of steps {self._profile}: {self._folder / file.parent.relative_to(place)}")
        if found:
            self.said.append(
                f"  {found.seconds:.3g} s: device busy {found.busy:.0%}, waiting for data {found.waiting:.0%}, "
                f"host {found.host:.0%}"
            )

    def _failed(self, error: Exception) -> None:
        self._on = False
        line = next(iter(str(error).splitlines()), type(error).__name__)
        self.said.append(f"warning: the profile of steps {self._profile} cannot be written ({line}); going on without")
