"""The sharding table: strict, and the batch split over the devices."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.training import sharding
from tests import tiny

OBJECTIVE = OBJECTIVES["mdp"]
RULES = sharding.state_rules(network.sharding_rules(tiny.pretrain_config().model, OBJECTIVE.head), OBJECTIVE.shardings)


def test_every_leaf_by_one_rule():
    mesh = sharding.make_mesh(4)
    kernel = np.zeros((3, 3, 4, 8))
    tree = {
        "step": 0,
        "params": {"backbone": {"conv1": {"kernel": kernel}, "bn1": {"scale": np.zeros(8)}}},
        "memory": {"momentum_params": {"projection": {"conv1": {"kernel": kernel, "bias": np.zeros(8)}}}},
    }
    specs = jax.tree.map(lambda leaf: leaf.spec, sharding.shardings(tree, mesh, RULES))
    split = PartitionSpec(None, None, None, "fsdp")
    assert specs == {
        "step": PartitionSpec(),
        "params": {"backbone": {"conv1": {"kernel": split}, "bn1": {"scale": PartitionSpec()}}},
        "memory": {"momentum_params": {"projection": {"conv1": {"kernel": split, "bias": PartitionSpec()}}}},
    }


def test_kernels_are_split_over_fsdp_where_it_divides_their_channels():
    mesh = sharding.make_mesh(4, fsdp=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2}
    tree = {"params": {"decoder": {"kernel": np.arange(12.0).reshape(1, 1, 2, 6)}}}
    placed = jax.device_put(tree, sharding.shardings(tree, mesh, RULES))
    assert {shard.data.shape for shard in placed["params"]["decoder"]["kernel"].addressable_shards} == {(1, 1, 2, 3)}
    whole = sharding.own_copy(placed, mesh)
    np.testing.assert_array_equal(whole["params"]["decoder"]["kernel"], tree["params"]["decoder"]["kernel"])
    with pytest.raises(UserError, match=r"config\.fsdp=4: expected a divisor of the 6 output channels of params/dec"):
        sharding.shardings(tree, sharding.make_mesh(4, fsdp=4), RULES)
    with pytest.raises(UserError, match=r"config\.fsdp=3: expected a divisor of the 8 device\(s\)"):
        sharding.make_mesh(8, fsdp=3)


def test_no_rule_or_two_rules_are_errors():
    mesh = sharding.make_mesh(2)
    with pytest.raises(ValueError, match="0 rules match the leaf other/x"):
        sharding.shardings({"other": {"x": 0}}, mesh, RULES)
    twice = (*RULES, (r"st.p", PartitionSpec()))
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
    with pytest.raises(UserError, match=r"config\.devices=99: only 8 device\(s\) \(cpu\) are here"):
        sharding.make_mesh(99)
