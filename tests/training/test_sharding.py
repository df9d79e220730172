"""The sharding table: strict, and the batch split over the devices."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mdp_jax.data import label_space as label_spaces
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.models.backbones import resnet
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.training import sharding
from tests import small, tiny

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
    whole = sharding.own_copy(placed, mesh)["params"]["decoder"]["kernel"]
    np.testing.assert_array_equal(whole, tree["params"]["decoder"]["kernel"])
    assert whole.is_fully_replicated and whole.sharding.device_set == set(mesh.devices.flat)
    with pytest.raises(UserError, match=r"config\.fsdp=4: expected a divisor of the 6 output channels of params/dec"):
        sharding.shardings(tree, sharding.make_mesh(4, fsdp=4), RULES)
    with pytest.raises(UserError, match=r"config\.fsdp=3: expected a divisor of the 8 devices"):
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
    with pytest.raises(UserError, match=r"config\.devices=99: expected at most 8, the devices that are here \(cpu\)"):
        sharding.make_mesh(99)


class StandIn:
    """A device of a machine that is not here."""

    platform, device_kind, coords, core_on_chip = "gpu", "a GPU", None, 0

    def __init__(self, number, process, slice_index):
        self.id, self.process_index, self.slice_index = number, process, slice_index

    def __repr__(self):
        return f"device {self.id}"


def node(number, devices, processes):
    """A node of so many devices, in so many processes."""
    return [
        StandIn(number * devices + i, number * processes + i * processes // devices, number) for i in range(devices)
    ]


@pytest.mark.parametrize("processes", [1, 4])
def test_nodes_are_on_the_data_axis_and_kernels_stay_inside_one(processes):
    """JAX gives every node of GPUs a slice index, whether one process has all its devices or each process has one."""
    nodes = [node(number, 4, processes) for number in range(3)]
    shuffled = [device for devices in zip(*nodes, strict=True) for device in devices]
    mesh = sharding.mesh_of(shuffled, fsdp=2)
    assert dict(mesh.shape) == {"data": 6, "fsdp": 2}
    assert [[device.id for device in row] for row in mesh.devices] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert sharding.places(mesh, 1) == ((4, 5, 6, 7) if processes == 1 else (1,))


def test_one_node_of_many_is_as_any_devices():
    mesh = sharding.mesh_of(node(3, 4, 1), fsdp=1)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 1}


def test_kernels_are_not_split_over_nodes():
    devices = [*node(0, 4, 1), *node(1, 4, 1)]
    with pytest.raises(
        UserError, match=r"config\.fsdp=8: .* divisor of the 4 devices of each of the 2 slices or nodes"
    ):
        sharding.mesh_of(devices, fsdp=8)


def test_nodes_of_different_sizes():
    devices = [*node(0, 4, 1), *node(1, 2, 1)]
    with pytest.raises(
        UserError, match="different numbers of devices: 4 in number 0, 2 in number 1; expected the same"
    ):
        sharding.mesh_of(devices, fsdp=1)


def test_a_process_finds_its_places_where_a_mesh_follows_the_wires():
    devices = [StandIn(i, process, 0) for i, process in enumerate((0, 0, 1, 1, 1, 1, 0, 0))]
    mesh = jax.sharding.Mesh(np.array(devices, object).reshape(4, 2), ("data", "fsdp"))
    assert sharding.places(mesh, 0) == (0, 1, 6, 7)
    assert sharding.places(mesh, 1) == (2, 3, 4, 5)


def test_losses_and_bank_are_the_same_on_every_layout(monkeypatch):
    """Three steps on eight devices in a row, and in another order with kernels split over pairs of them."""
    monkeypatch.setitem(resnet.DEPTHS, "resnet18", small.DEPTH)
    config = tiny.pretrain_config(batch=16, devices=0)
    space = label_spaces.LabelSpace((("a", ("x", "y")), ("b", ("z", "w"))))
    rng = np.random.default_rng(0)
    batches = [tiny.pretrain_batch(rng, config, 4) for _ in range(3)]
    devices = jax.devices()
    mixed_up = np.array(devices)[[7, 2, 5, 0, 3, 6, 1, 4]].reshape(4, 2)
    layouts = [sharding.mesh_of(devices, 1), jax.sharding.Mesh(mixed_up, ("data", "fsdp"))]
    found = []
    for mesh in layouts:
        program = tiny.pretraining(config, mesh, space)
        state, losses = program.make(), []
        for batch in batches:
            state, metrics = program.step(state, sharding.to_devices(batch, mesh))
            losses.append(float(metrics["loss"]))
        bank = tiny.bank(state)
        found.append((losses, np.asarray(bank.vectors), np.asarray(bank.images_seen)))
    (losses, vectors, seen), other = found
    assert losses[-1] > 1 and seen.min() > 0
    np.testing.assert_allclose(other[0], losses, rtol=1e-4)
    np.testing.assert_allclose(other[1], vectors, atol=1e-4)
    np.testing.assert_array_equal(other[2], seen)
