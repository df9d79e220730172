"""Rows of a plan, with a stand-in for the compiler that knows what every program needs."""

import types

import jax
import numpy as np
import pytest

from mdp_jax.planning import costs, programs, steps, topologies
from mdp_jax.planning.memory import GIB, MIB, Exhausted
from mdp_jax.training import sharding
from tests import tiny

CODE = """ENTRY %main (p: f32[262144]) -> f32[262144] {
  %p = f32[262144]{0} parameter(0)
  ROOT %sum = f32[262144]{0} all-reduce(%p), to_apply=%add
}
"""


@pytest.fixture
def compiler(monkeypatch):
    """100 MiB for the state and everything else, and 500 MiB for each image; collects what it is given."""
    asked = []

    def program(config, devices, space):
        place = sharding.replicated(sharding.mesh_of(devices, 1))
        state = jax.ShapeDtypeStruct((20, MIB), np.float32, sharding=place)
        return programs.Program(types.SimpleNamespace(lower=lambda *inputs: (config, devices)), state, {})

    def compile_for(what, lowered, quick):
        config, devices = lowered
        asked.append((len(devices), config.batch))
        temporaries = 500 * MIB * config.batch // len(devices)
        if temporaries > 15.5 * GIB:
            return Exhausted(temporaries, round(15.75 * GIB), ("a large array",)), 1.4
        sizes = {"argument": 80 * MIB, "output": 70 * MIB, "alias": 60 * MIB, "generated_code": 10 * MIB}
        sizes["temp"] = temporaries
        stats = types.SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})
        return types.SimpleNamespace(memory_analysis=lambda: stats, as_text=lambda: CODE), 61.6

    monkeypatch.setattr(steps, "compile_for", compile_for)
    monkeypatch.setattr(topologies, "devices", lambda name, slices=1: jax.devices()[: topologies.chips(name) * slices])
    monkeypatch.setattr(topologies, "has_compiler", lambda: True)
    monkeypatch.setattr(programs, "program", program)
    parts = {programs.QUERY: 6 * 10**9, programs.MOMENTUM: 2 * 10**9, programs.REST: 2 * 10**8}
    monkeypatch.setattr(programs, "operations", lambda *case: parts)
    return asked


def case(topology, batch, slices=1, steps=None):
    config = tiny.pretrain_config()
    return programs.Case(topology, programs.with_batch(config, batch), programs.label_space(config, 10), slices, steps)


def test_a_tiny_state_is_not_rounded_to_zero():
    assert steps._mib(79.6 * 2**20) == 80 and isinstance(steps._mib(10 * 2**20), int)
    assert steps._mib(2**18) == 0.25


def test_rows(compiler):
    fits, too_large = steps.rows([case("v5e:2x2", 32), case("v5e:2x4", 320)], quick=True)
    absent = {"all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast"}
    assert fits == {f"{kind} (MiB)": 0.0 for kind in absent} | {
        "topology": "v5e:2x2",
        "chips": 4,
        "batch": 32,
        "images on a chip": 8,
        "classes": 10,
        "memory needed (MiB)": 4100,
        "memory there (MiB)": 16128,
        "state (MiB)": 80,
        "GFLOP": 8.2,
        "FLOPs outside the query encoder (%)": pytest.approx(100 * 2.2 / 8.2),
        "FLOPs of the momentum encoder (%)": pytest.approx(100 * 2 / 8.2),
        "all else / both encoders (%)": pytest.approx(2.5),
        "all-reduce (MiB)": 1.0,
        "collectives": 1,
        "largest batch": None,
        "compiled in (s)": 62,
        "slices": 1,
        "over ICI (MiB)": 1.0,
        "over DCN (MiB)": 0.0,
        # 8.2 GFLOP at 197 TFLOP/s; 80 MiB in, 70 out, 4000 twice, less what stays on the chip; 1 MiB at 200 GB/s.
        "compute (ms)": pytest.approx(8.2 / 197),
        "memory (ms)": pytest.approx(1e3 * (80 + 70 + 2 * 4000 - 2 * 160) * MIB / 819e9),
        "links (ms)": pytest.approx(1e3 * MIB / 200e9),
        "network (ms)": 0.0,
        "a step takes at least (ms)": pytest.approx(10.0248, abs=1e-4),
        "limited by": "memory",
        "images/s at most": pytest.approx(32 / 0.0100248, rel=1e-4),
        "steps": None,
        "hours at least": None,
        "cost at least": None,
        "hours at the efficiency": None,
        "cost at the efficiency": None,
        "verdict": ["fits"],
    }
    assert too_large["verdict"] == ["does not fit: 19.53 GiB or more, and a chip has 15.75", "  a large array"]
    assert too_large["memory needed (MiB)"] == 20000
    assert too_large["all-reduce (MiB)"] is too_large["collectives"] is None
    assert too_large["GFLOP"] == 8.2
    assert too_large["limited by"] is too_large["a step takes at least (ms)"] is None


def test_largest_batch_is_looked_for_once_for_all_slices_and_on_the_smallest(compiler):
    rows = steps.rows([case("v5e:2x4", 32), case("v5e:2x2", 16)], quick=False)
    # (16128 - 100) / 500 images, of which pairs are 32; they need more than the 15.5 GiB that the compiler gives.
    assert [row["largest batch"] for row in rows] == [30 * 8, 30 * 4]
    assert compiler == [(8, 32), (4, 16), (4, 8), (4, 128), (4, 120)]


def test_hours_and_money(compiler):
    """1,000 steps on 2 x 4 chips at 2.5 an hour and chip; a quarter of the bound is four times as long."""
    money = costs.money([1.0, 2.5], None, 0.25, ("v6e:2x2", "v5e:2x2"))
    _, row = steps.rows([case("v6e:2x2", 32, 1, 1000), case("v5e:2x2", 64, 2, 1000)], True, money)
    assert (row["chips"], row["slices"], row["images on a chip"]) == (8, 2, 8)
    hours = 1000 * row["a step takes at least (ms)"] / 1e3 / 3600
    assert row["hours at least"] == pytest.approx(hours)
    assert row["cost at least"] == pytest.approx(hours * 8 * 2.5)
    assert row["hours at the efficiency"] == pytest.approx(4 * hours)
    assert row["cost at the efficiency"] == pytest.approx(4 * hours * 8 * 2.5)
