"""How the cases of `mdp bench` are timed, on a clock that the test turns."""

import contextlib

import pytest

from mdp_jax.benchmarks import measure


class Clock:
    """Stands in for the module `time`: calls cost what they say, on the processor half of it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 2

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(measure, "time", found)
    return found


def test_calls_count_with_the_fastest_of_each_item(clock):
    costs = {"a": iter([5.0, 1.0, 2.0, 9.0] + [9.0] * 9), "b": iter([3.0, 3.0, 4.0, 3.5] + [9.0] * 9)}

    def call(item):
        clock.spend(next(costs[item]))

    # Four rounds until 20 s have passed; the fastest calls take 1 + 3 seconds by the clock.
    assert measure.calls_per_second(call, ["a", "b"], 20.0, clock.perf_counter) == pytest.approx(2 / 4)
    costs = {"a": iter([5.0]), "b": iter([3.0])}
    assert measure.calls_per_second(call, ["a", "b"], 8.0, clock.process_time) == pytest.approx(2 / 4)


def test_streams_take_turns_and_the_best_turn_counts(clock):
    costs, started = {"ours": [4.0, 1.0, 2.0, 2.0, 2.0], "torch": [8.0] * 5}, []

    def stream(name):
        @contextlib.contextmanager
        def start():
            cost = costs[name][started.count(name)]
            started.append(name)
            yield lambda: clock.spend(cost)

        return start

    rates = measure.results_per_second({name: stream(name) for name in costs}, seconds=40.0)
    assert started == ["ours", "torch"] * 5
    assert rates == {"ours": (1.0, 2.0), "torch": (1 / 8, 2 / 8)}


def test_calls_take_turns_and_the_median_counts(clock):
    # The first two rounds are warm-up; then rounds until 3 x 2 s are over: the third ends at 22 s.
    costs = {"ours": iter([50.0, 9.0, 1.0, 9.0, 2.0]), "torch": iter([70.0, 4.0, 4.0, 5.0, 1.0])}
    called = []

    def call(name):
        called.append(name)
        clock.spend(next(costs[name]))

    calls = {name: lambda name=name: call(name) for name in costs}
    taken = measure.median_taken(calls, 3.0)
    assert taken == {"ours": (2.0, 1.0), "torch": (4.0, 2.0)}
    assert measure.by_processor(taken, "cpu") == {"by processor": 2.0}
    assert measure.by_processor(taken, "gpu") == {"by processor": None}
    assert called == ["ours", "torch"] * 5
    costs["ours"] = iter([0.0, 0.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0])
    assert measure.median_taken({"ours": calls["ours"]}, 10.0) == {"ours": (2.0, 1.0)}
    assert next(costs["ours"]) == 3.0  # 12 s are over after the sixth that counts
