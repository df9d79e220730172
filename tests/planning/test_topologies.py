"""Names of TPU slices."""

import importlib.util

import pytest

from mdp_jax.errors import UserError
from mdp_jax.planning import topologies
from mdp_jax.planning.hardware import GPUS, TPUS
from mdp_jax.training import sharding


def test_chips_and_memory():
    assert topologies.chips("v5e:16x16") == 256
    assert topologies.chips("v4:2x2x4") == 16
    assert [round(entry.memory / 2**30) for entry in topologies.GENERATIONS.values()] == [31, 16, 96, 31]
    assert set(topologies.GENERATIONS) == {"v4", "v5e", "v5p", "v6e"}


def test_smallest_of_the_same_generation():
    assert topologies.smallest("v5e:16x16", 1) == "v5e:2x2"
    assert topologies.smallest("v5e:16x16", 8) == "v5e:2x4"
    assert topologies.smallest("v5p:4x4x4", 1) == "v5p:2x2x1"


@pytest.mark.parametrize(
    "name", ["v5e:3x3", "v5e", "v5litepod-16", "v9:2x2", "v4:2x2", "h100", "h100:x", "h100:73", ""]
)
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(UserError, match=f"--topology {name}: no such topology") as error:
        topologies.chips(name)
    message = str(error.value)
    assert "v5e: 1x1 2x2 2x4 4x4" in message
    assert "v4: 2x2x1" in message
    assert "\n" not in message


def test_nodes_of_gpus():
    assert topologies.chips("h100:8") == 8
    assert round(topologies.memory("a100-80gb:4") / 1e9) == 80
    assert not topologies.is_tpu("l4:1") and topologies.is_tpu("v5e:4x4")
    assert topologies.peak("h200:8").bandwidth == 4.8e12
    with pytest.raises(UserError, match=r"--topology h100:0: no such topology.*GPUs of a node, as in h100:8: t4 v100"):
        topologies.chips("h100:0")


def test_every_generation_has_its_peaks():
    """Each is faster in bfloat16, and sends less than it reads; a program may use less than the published memory."""
    assert TPUS.keys() == topologies.GENERATIONS.keys()
    for peak in [*TPUS.values(), *GPUS.values()]:
        assert peak.bfloat16 >= peak.float32 > 1e12
        assert peak.links < peak.bandwidth < peak.float32
    for name, entry in topologies.GENERATIONS.items():
        assert entry.memory < 1.01 * TPUS[name].memory


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.*is not installed; pip install .* make venv EXTRA=tpu"):
        topologies.devices("v5e:2x2")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:1x1", "v5e:4x4", "v5p:2x2x1", "v6e:2x2"])
def test_every_chip_is_one_device(name):
    assert len(topologies.devices(name)) == topologies.chips(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
@pytest.mark.parametrize("slices", [2, 4])
def test_a_mesh_of_several_slices(slices):
    """`data` goes over slices and hosts, `fsdp` stays inside a slice, and every process finds its places."""
    devices = topologies.devices("v5e:4x4", slices)
    mesh = sharding.mesh_of(devices[::-1], fsdp=4)
    assert dict(mesh.shape) == {"data": 4 * slices, "fsdp": 4}
    assert [{device.slice_index for device in row} for row in mesh.devices] == [{i // 4} for i in range(4 * slices)]
    found = [sharding.places(mesh, process) for process in range(4 * slices)]
    assert sorted(place for own in found for place in own) == list(range(16 * slices))
    assert {len(own) for own in found} == {4}
