"""The measured peak: how much work is timed, with a clock that a test sets."""

import itertools

import jax.numpy as jnp
import pytest

from mdp_jax.benchmarks import peak


@pytest.fixture
def clock(monkeypatch):
    """Every call takes 3, then 2, then 4, ... seconds; the fastest takes 2. By the processor's clock 9 on each core."""
    moments = itertools.accumulate(x for taken in itertools.cycle((3.0, 2.0, 4.0, 5.0, 6.0)) for x in (100.0, taken))
    monkeypatch.setattr(peak.time, "perf_counter", lambda: next(moments))
    used = itertools.count(0, 9.0)
    monkeypatch.setattr(peak.time, "process_time", lambda: peak._cores() * next(used))
    monkeypatch.setitem(peak._SIDE, "cpu", 16)


def test_matrix_products(clock):
    assert peak.matrix_flops("float32") == 2 * 16**3 / 2


def test_what_others_do_on_the_machine_does_not_count(clock, monkeypatch):
    used = itertools.count(0, 1.5)
    monkeypatch.setattr(peak.time, "process_time", lambda: peak._cores() * next(used))
    assert peak.matrix_flops("float32") == 2 * 16**3 / 1.5


def test_a_pass_over_an_array_reads_and_writes_it(clock, monkeypatch):
    monkeypatch.setattr(peak, "_LEAST", 800)
    monkeypatch.setattr(peak, "_MOST", 8000)
    sizes = []
    monkeypatch.setattr(jnp, "ones", lambda size, dtype, ones=jnp.ones: sizes.append(size) or ones(size, dtype))
    rates = [peak.bandwidth(size) for size in (1, 1600, 10**9)]
    assert sizes == [100, 200, 1000]
    assert rates == [400.0, 800.0, 4000.0]


def test_the_faster_of_two_types_is_the_bound(monkeypatch):
    monkeypatch.setattr(peak, "matrix_flops", {"bfloat16": 3.0, "float32": 7.0}.get)
    monkeypatch.setattr(peak, "bandwidth", lambda size: float(size))
    found = peak.measured("bfloat16", 50)
    assert (found.flops("bfloat16"), found.bandwidth) == (7.0, 50.0)
