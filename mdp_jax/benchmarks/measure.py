"""How the cases of `mdp bench` are timed, and the rows that they give."""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import NamedTuple

TURNS = 5  # of every stream; the best one counts, as whatever else the machine does only slows it down
WARM_UP = 4  # calls before the clock starts: first uses, and what was read ahead while nobody looked
ROUNDS = 3  # at least, of calls that take turns
FIRST_ROUNDS = 2  # of them, before the clock starts: compiling, first uses

# Starts something that goes on by itself, and gives a function that takes the next of its results.
Stream = Callable[[], AbstractContextManager[Callable[[], object]]]


class Row(NamedTuple):
    """One line of the table: how many things a second this package does, and PyTorch (None where not measured).

    Attributes:
      case: what is measured.
      ours: things a second.
      torch: things a second of PyTorch.
      more: other columns of the case.
    """

    case: str
    ours: float
    torch: float | None
    more: Mapping[str, float | None] = MappingProxyType({})

    def columns(self) -> dict:
        """The row as it is printed and written: case, ours, torch, ratio, and what the case has besides."""
        ratio = None if self.torch is None else self.ours / self.torch
        return {"case": self.case, "ours": self.ours, "torch": self.torch, "ratio": ratio, **self.more}


def calls_per_second(
    function: Callable, items: Sequence, seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """Measures how often a function can be called in a second. Each item counts with its fastest call.

    Args:
      function: called with one item.
      items: at least one; they are used again and again.
      seconds: that the measurement takes, about.
      clock: the processor time of this process, which leaves out other processes on the core; or time.perf_counter,
        for functions that also wait.
    """
    fastest = [math.inf] * len(items)
    end = time.perf_counter() + seconds
    while math.isinf(fastest[-1]) or time.perf_counter() < end:
        for i, item in enumerate(items):
            start = clock()
            function(item)
            fastest[i] = min(fastest[i], clock() - start)
    return len(items) / sum(fastest)


def results_per_second(streams: dict[str, Stream], seconds: float) -> dict[str, tuple[float, float]]:
    """Measures how many results each stream gives in a second.

    The streams take turns of `seconds` / TURNS seconds, so that other work of the machine slows all of them. The two
    rates differ where other processes used the core, or where it waited.

    Args:
      streams: by name.
      seconds: for each stream.

    Returns:
      {name: rate by the clock, rate by the processor time of this process}.
    """
    best: dict[str, tuple[float, float]] = dict.fromkeys(streams, (0.0, 0.0))
    for _ in range(TURNS):
        for name, start in streams.items():
            with start() as take:
                for _ in range(WARM_UP):
                    take()
                by_clock, by_processor = _turn(take, seconds / TURNS)
                best[name] = (max(best[name][0], by_clock), max(best[name][1], by_processor))
    return best


def _turn(take: Callable[[], object], seconds: float) -> tuple[float, float]:
    start, used, taken = time.perf_counter(), time.process_time(), 0
    while not taken or time.perf_counter() < start + seconds:
        take()
        taken += 1
    return taken / (time.perf_counter() - start), taken / (time.process_time() - used)


def median_seconds(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Measures the median of the seconds that a call takes, by the clock.

    The calls take turns, so that other work of the machine slows all of them, at least ROUNDS times after FIRST_ROUNDS
    that do not count.

    Args:
      calls: by name; each returns when its work is done, on an accelerator too.
      seconds: for each of them.

    Returns:
      {name: seconds}.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    done = 1 - FIRST_ROUNDS
    while done <= ROUNDS or sum(map(sum, taken.values())) < seconds * len(calls):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if done > 0:
                taken[name].append(time.perf_counter() - start)
        done += 1
    return {name: statistics.median(each) for name, each in taken.items()}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keeps this thread, and those that it starts meanwhile, on one core; does nothing where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
