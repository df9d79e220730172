"""Stages of a run: their first steps and weights, worked out by hand."""

import pytest

from mdp_jax import configs as base
from mdp_jax.data.batches import stages
from mdp_jax.errors import UserError
from tests.data.fixtures import numbered_source

SOURCES = [numbered_source(name, 2, photos) for name, photos in (("a", 5), ("b", 10), ("c", 5))]


def config_of(**values):
    config = base.pretrain()
    config.update(values)
    return config


def test_joint():
    config = config_of(steps=8)
    assert stages.starts(config, SOURCES) == (0,)
    assert stages.weights(config, SOURCES, [1, 2, 3]) == [(0, [1, 2, 3])]


def test_total_steps():
    assert stages.total_steps(config_of(steps=8), 20) == 8
    assert stages.total_steps(config_of(epochs=3.0, batch=8), 20) == 8  # 60 samples


def test_steps_by_photos():
    config = config_of(steps=10, stages=(("b",), ("c", "a")))
    assert stages.starts(config, SOURCES) == (0, 5)
    assert stages.weights(config, SOURCES, [1, 2, 3]) == [(0, [0, 2, 0]), (5, [1, 0, 3])]
    config = config_of(epochs=3.0, batch=8, stages=(("a",), ("c",), ("b",)))
    assert stages.starts(config, SOURCES) == (0, 2, 4)
    config = config_of(steps=9, stages=(("a",), ("c",), ("b",)))
    assert stages.starts(config, SOURCES) == (0, 2, 4)  # 9 / 4 and 9 / 2
    config = config_of(steps=11, stages=(("a",), ("b",), ("c",)))
    assert stages.starts(config, SOURCES) == (0, 3, 8)  # 11 / 4 and 33 / 4, to the nearest step


def test_a_stage_without_a_step():
    with pytest.raises(UserError, match=r"config\.stages: the stage of a has none of 1 steps; expected one"):
        stages.starts(config_of(steps=1, stages=(("a",), ("b", "c"))), SOURCES)
