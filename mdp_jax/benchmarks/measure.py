"""How the cases of `mdp bench` are timed, and the rows that they give."""

import contextlib
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

TURNS = 5  # of every stream; the best one counts, as whatever else the machine does only slows it down
WARM_UP = 4  # calls before the clock starts: first uses, and what was read ahead while nobody looked
ROUNDS = 3  # at least, of calls that take turns
FIRST_ROUNDS = 2  # of them, before the clock starts: compiling, first uses

# Starts something that goes on by itself, and gives a function that takes the next of its results.
Stream = Callable[[], AbstractContextManager[Callable[[], object]]]


class Row(NamedTuple):
    """One line of the table: how many things a second this package does, and PyTorch (None where not measured)."""

    case: str
    ours: float
    torch: float | None

    def columns(self) -> dict:
        """The row as it is printed and written: case, ours, torch, ratio."""
        return self._asdict() | {"ratio": None if self.torch is None else self.ours / self.torch}


def calls_per_second(
    function: Callable, items: Sequence, seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """Calls a second of a function, over items that it is called with again and again for so many seconds.

    `clock`: the processor time of this process, which leaves out what others do on the core meanwhile, or
    time.perf_counter, for what also waits. Each item counts with its fastest call.
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
    """Results a second of each stream, by the clock and by the processor time that this process has used.

    They take turns of `seconds` / TURNS seconds, so that what else the machine does meets all of them. The two rates
    differ where the core was also used by others, or waited.
    """
    best = dict.fromkeys(streams, (0.0, 0.0))
    for _ in range(TURNS):
        for name, start in streams.items():
            with start() as take:
                for _ in range(WARM_UP):
                    take()
                best[name] = tuple(map(max, best[name], _turn(take, seconds / TURNS)))
    return best


def _turn(take: Callable[[], object], seconds: float) -> tuple[float, float]:
    start, used, taken = time.perf_counter(), time.process_time(), 0
    while not taken or time.perf_counter() < start + seconds:
        take()
        taken += 1
    return taken / (time.perf_counter() - start), taken / (time.process_time() - used)


def median_seconds(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The median of the seconds that a call of each takes, by the clock, over `seconds` for each.

    They are called in turns, so that what else the machine does meets all of them, at least ROUNDS times after
    FIRST_ROUNDS that do not count. A call returns when its work is done, on an accelerator too.
    """
    taken = {name: [] for name in calls}
    for done in itertools.count(1 - FIRST_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if done > 0:
                taken[name].append(time.perf_counter() - start)
        if done >= ROUNDS and sum(map(sum, taken.values())) >= seconds * len(calls):
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
