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
BY_PROCESSOR = "by processor"  # the column of the ratio that other programs on the machine hardly change
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


class Taken(NamedTuple):
    """What a call took, the median of several.

    Attributes:
      clock: seconds that went by.
      processor: seconds of this process on all cores; other programs of the machine do not count.
    """

    clock: float
    processor: float


def by_processor(taken: Mapping[str, Taken], platform: str) -> dict[str, float | None]:
    """The ratio of "ours" to "torch" by the processor time, as the column of a row.

    Args:
      taken: as `median_taken` gives it.
      platform: of JAX; on an accelerator the processor only waits, and the ratio is None.
    """
    there = platform == "cpu" and "torch" in taken
    return {BY_PROCESSOR: taken["torch"].processor / taken["ours"].processor if there else None}


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


def median_taken(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Taken]:
    """Measures the median of what a call takes.

    The calls take turns, so that other work of the machine slows all of them, at least ROUNDS times after FIRST_ROUNDS
    that do not count.

    Args:
      calls: by name; each returns when its work is done, on an accelerator too.
      seconds: for each of them.

    Returns:
      {name: what it took}.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    done = 1 - FIRST_ROUNDS
    while done <= ROUNDS or sum(one.clock for each in taken.values() for one in each) < seconds * len(calls):
        for name, call in calls.items():
            start, used = time.perf_counter(), time.process_time()
            call()
            if done > 0:
                taken[name].append(Taken(time.perf_counter() - start, time.process_time() - used))
        done += 1
    return {name: Taken(*map(statistics.median, zip(*each, strict=True))) for name, each in taken.items()}


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
