"""Workdirs that a session is made of, and photos as bytes."""

import numpy as np
import pytest

from mdp_jax.evaluation import loaded, workdirs
from mdp_jax.serving.session import Session
from tests import earlier

RNG = np.random.default_rng(0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return earlier.unpacked(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def net(folder):
    return loaded.of_workdir(workdirs.load(folder / "pretrained"))


@pytest.fixture
def session(net):
    return Session(net, "pretrained")


@pytest.fixture(scope="session")
def photo():
    """Two textures, so that features differ: uint8 [48, 64, 3]."""
    made = RNG.integers(0, 90, (48, 64, 3), dtype=np.uint8)
    made[12:40, 8:32] += np.array([160, 20, 90], np.uint8)
    return made
