"""The sharding table: strict, and the batch split over the devices."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mdp_jax.errors import UserError
from mdp_jax.training import sharding


def test_every_leaf_by_one_rule():
    mesh = sharding.make_mesh(4)
    tree = {"step": 0, "params": {"a": {"kernel": 1}}, "momentum_params": {"a": {"kernel": 1}}}
    places = sharding.shardings(tree, mesh, sharding.STATE_RULES)
    assert {place.spec for place in jax.tree.leaves(places)} == {PartitionSpec()}


def test_no_rule_or_two_rules_are_errors():
    mesh = sharding.make_mesh(2)
    with pytest.raises(ValueError, match="0 rules match the leaf other/x"):
        sharding.shardings({"other": {"x": 0}}, mesh, sharding.STATE_RULES)
    twice = (*sharding.STATE_RULES, (r"st.p", PartitionSpec()))
    with pytest.raises(ValueError, match="2 rules match the leaf step"):
        sharding.shardings({"step": 0}, mesh, twice)


def test_batch_is_split_over_the_devices():
    mesh = sharding.make_mesh(4)
    image = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1)
    batch = sharding.to_devices({"image": image, "lam": np.arange(4, dtype=np.float32)}, mesh)
    assert [shard.data.ravel().tolist() for shard in batch["image"].addressable_shards] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    assert len(batch["lam"].addressable_shards[0].data) == 1


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"config\.devices=99: only 8 devices \(cpu\) are here"):
        sharding.make_mesh(99)
