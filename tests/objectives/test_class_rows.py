"""`class_rows` of every objective: the leaves whose shapes depend on the classes, and what becomes of their rows."""

import functools
import re

import jax
import numpy as np
import pytest

from mdp_jax.configs import typed
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.objectives.objective import Setting
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.training import optim
from mdp_jax.training.state import pretrain_state
from tests import tiny

UNMIXED = {"mixing__region": 0.0, "mixing__pixel": 0.0}
OF_BANKS = [name for name, objective in OBJECTIVES.items() if objective.class_rows and objective.bank]


def shapes(name, classes):
    """Of the leaves of a state, by their paths."""
    more = {} if OBJECTIVES[name].mixes else UNMIXED
    more |= {"method__class_frequencies": True} if OBJECTIVES[name].bank else {}
    config = typed(tiny.pretrain_config(objective=name, **more))
    space = LabelSpace((("one", tuple(f"class {i}" for i in range(classes))), ("two", ("sky",))))
    functions = OBJECTIVES[name].functions(Setting.of(config, space, 1))
    make = functools.partial(pretrain_state, functions, optim.sgd(lambda step: 0.1, 0.9, 0.0, False), (32, 32), 0)
    return {path: leaf.shape for path, leaf in leaf_names(jax.eval_shape(make)).items()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_exactly_the_leaves_that_depend_on_the_classes(name):
    few, many = shapes(name, 12), shapes(name, 16)
    rows = OBJECTIVES[name].class_rows
    axes = {
        path: [axis % len(shape) for pattern, axis in (rows.leaves if rows else ()) if re.fullmatch(pattern, path)]
        for path, shape in few.items()
    }
    differ = {path: [a for a, (x, y) in enumerate(zip(few[path], many[path], strict=True)) if x != y] for path in few}
    assert axes == differ
    assert rows is None or sum(map(len, axes.values())) >= 2


@pytest.mark.parametrize("name", OF_BANKS)
def test_rows_of_prototypes_by_hand(name):
    rows = OBJECTIVES[name].class_rows
    vectors, images, pixels = (f"memory/bank/{part}" for part in ("vectors", "images_seen", "pixels"))
    several = {
        vectors: np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32),
        images: np.array([3, 4, 0], np.int32),
        pixels: np.array([10, 20, 0], np.float32),
    }
    one = rows.merge(several)
    np.testing.assert_allclose(one[vectors], [0.6, 0.8, 0], atol=1e-7)
    assert (one[images], one[pixels]) == (7, 30)
    assert {path: row.dtype for path, row in one.items()} == {path: row.dtype for path, row in several.items()}
    unseen = rows.merge({path: leaf[2:].repeat(2, axis=0) for path, leaf in several.items()})
    assert not any(np.any(row) for row in unseen.values())
    starts = rows.merge({path: leaf[[0, 1] if path == vectors else [2, 2]] for path, leaf in several.items()})
    np.testing.assert_allclose(starts[vectors], [np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-7)
    found = rows.adopt(np.eye(2), np.array([5, 6]), np.array([0.5, 2.0]))
    np.testing.assert_array_equal(found[vectors], np.eye(2))
    assert found[images].tolist() == [5, 6] and found[pixels].tolist() == [0.5, 2.0]


@pytest.mark.parametrize("name", OF_BANKS)
def test_directions_of_prototypes_by_hand(name):
    """A class that was never seen has none, even where its prototype has a start."""
    bank = {"vectors": np.eye(2, 3, dtype=np.float32), "images_seen": np.array([0, 2]), "pixels": None}
    found = OBJECTIVES[name].class_rows.directions({"params": {}, "memory": {"bank": bank}})
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("name", ["multi_head", "cross_entropy"])
def test_rows_of_classifiers_by_hand(name):
    rows = OBJECTIVES[name].class_rows
    kernel, bias = (f"params/classifier/conv/{part}" for part in ("kernel", "bias"))
    one = rows.merge({kernel: np.array([[1, 2], [5, 0], [3, 4]], np.float32), bias: np.array([1, 2, 6], np.float32)})
    assert (one[kernel].tolist(), one[bias].tolist(), one[kernel].dtype) == ([3, 2], 3, np.float32)
    conv = {"kernel": np.arange(6.0).reshape(1, 1, 3, 2), "bias": np.ones(2)}
    found = rows.directions({"params": {"classifier": {"conv": conv}}, "memory": {}})
    np.testing.assert_array_equal(found, [[0, 2, 4], [1, 3, 5]])
