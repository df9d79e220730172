"""Names of TPU slices."""

import importlib.util

import pytest

from mdp_jax.errors import UserError
from mdp_jax.planning import topologies


def test_chips_and_memory():
    assert topologies.chips("v5e:16x16") == 256
    assert topologies.chips("v4:2x2x4") == 16
    assert [round(entry.memory / 2**30) for entry in topologies.GENERATIONS.values()] == [31, 16, 96, 31]
    assert set(topologies.GENERATIONS) == {"v4", "v5e", "v5p", "v6e"}


def test_smallest_of_the_same_generation():
    assert topologies.smallest("v5e:16x16", 1) == "v5e:2x2"
    assert topologies.smallest("v5e:16x16", 8) == "v5e:2x4"
    assert topologies.smallest("v5p:4x4x4", 1) == "v5p:2x2x1"


@pytest.mark.parametrize("name", ["v5e:3x3", "v5e", "v5litepod-16", "v9:2x2", "v4:2x2", ""])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(UserError, match=f"--topology {name}: no such topology") as error:
        topologies.chips(name)
    message = str(error.value)
    assert "v5e: 1x1 2x2 2x4 4x4" in message
    assert "v4: 2x2x1" in message
    assert "\n" not in message


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.*is not installed; make venv EXTRA=tpu"):
        topologies.devices("v5e:2x2")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make venv EXTRA=tpu")
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:1x1", "v5e:4x4", "v5p:2x2x1", "v6e:2x2"])
def test_every_chip_is_one_device(name):
    assert len(topologies.devices(name)) == topologies.chips(name)
