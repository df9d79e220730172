"""The shardings of the state and the batch on the mesh, by a short, strict table."""

import collections
import re
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdp_jax.errors import UserError
from mdp_jax.evaluation import inference
from mdp_jax.words import counted

Rules = tuple[tuple[str, PartitionSpec], ...]

# A network's parameters, the optimizer's buffers of them, and averages of them.
_PARAMS = r"((memory/momentum_|ema/)?params|opt_state/.*(trace|mu|nu))"


def state_rules(network: Rules, memory: Rules = ()) -> Rules:
    """Makes the table of a state.

    Args:
      network: rules of paths in the network's parameters.
      memory: rules of paths in the objective's memory, except those of an average of the parameters.
    """
    return (
        (r"step|opt_state/.*count", PartitionSpec()),
        *((f"{_PARAMS}/{pattern}", spec) for pattern, spec in network),
        (r"(ema/)?batch_stats/.*", PartitionSpec()),
        *((f"memory/({pattern})", spec) for pattern, spec in memory),
    )


# Samples, and the pairs that they form, are split over all devices; a pair never is.
BATCH_RULES: Rules = ((r"(key_)?(image|label)|dataset|mix_kind|lam|box", PartitionSpec(("data", "fsdp"))),)


def make_mesh(devices: int, fsdp: int = 1) -> Mesh:
    """Makes the mesh of a run (see `mesh_of`).

    Args:
      devices: number of devices; 0 = all devices of all processes.
      fsdp: number of devices that kernels are split over.

    Raises:
      UserError: `devices` is below 0 or too large, is not 0 with several processes, or `mesh_of` raises it.
    """
    present = jax.devices()
    if devices < 0:
        raise UserError(f"config.devices={devices}: expected a number of devices, or 0 for all of them")
    if devices > len(present):
        here = f"{len(present)}, the devices that are here ({present[0].platform})"
        raise UserError(f"config.devices={devices}: expected at most {here}")
    if devices and jax.process_count() > 1:
        raise UserError(f"config.devices={devices}: expected 0, all devices, with {jax.process_count()} processes")
    return mesh_of(present[: devices or len(present)], fsdp)


def slice_of(device: Any) -> int:
    """The slice of a TPU, or the node of a GPU, that a device is in; 0 where the platform does not say.

    Args:
      device: of JAX. It gives an index to every TPU slice, and to every node of GPUs.
    """
    return getattr(device, "slice_index", None) or 0


def mesh_of(devices: list, fsdp: int) -> Mesh:
    """Makes a mesh with the axes `data` and `fsdp`.

    The batch is split over both axes. Kernels are split over `fsdp`, so that a device has 1 / fsdp of them, and each is
    gathered where it is used (models/layers.py). Where there are several slices or nodes, `data` goes over them and
    `fsdp` stays inside one: kernels are gathered several times a step, and the network between slices is slow.

    Args:
      devices: of JAX.
      fsdp: size of the axis `fsdp`.

    Raises:
      UserError: `fsdp` does not divide the number of devices of a slice, or slices have different numbers of them.
    """
    sizes = collections.Counter(map(slice_of, devices))
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{count} in number {index}" for index, count in sorted(sizes.items()))
        raise UserError(
            f"the slices or nodes of this run have different numbers of devices: {found}; expected the same"
        )
    inside = len(devices) // len(sizes)
    if fsdp < 1 or inside % fsdp:
        where = f" of each of the {len(sizes)} slices or nodes" if len(sizes) > 1 else ""
        raise UserError(f"config.fsdp={fsdp}: expected a divisor of the {counted(inside, 'device')}{where}")
    shape, names, axis_types = (inside // fsdp, fsdp), ("data", "fsdp"), (AxisType.Auto, AxisType.Auto)
    if len(sizes) == 1:
        return jax.make_mesh(shape, names, axis_types=axis_types, devices=devices)
    laid_out = mesh_utils.create_hybrid_device_mesh(shape, (len(sizes), 1), devices)
    return Mesh(laid_out, names, axis_types=axis_types)


def places(mesh: Mesh, process: int) -> tuple[int, ...]:
    """The parts of a global batch, one for each device of the mesh, that the devices of a process take, ascending.

    A mesh follows the wires between devices, so the devices of a process need not stand together in it. A process
    reads the samples of its own devices, so that sample i of the batch is the same on every layout.

    Args:
      mesh: of the run.
      process: number of the process.
    """
    return tuple(place for place, device in enumerate(mesh.devices.flat) if device.process_index == process)


def _spec(name: str, rules: Rules) -> PartitionSpec:
    found = [spec for pattern, spec in rules if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise ValueError(f"sharding: {len(found)} rules match the leaf {name}, expected exactly one")
    return found[0]


def shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """Finds the sharding of every leaf, by the one rule that matches the whole of its path.

    Args:
      tree: the state, or its shapes.
      mesh: of the run.
      rules: of `state_rules`.

    Returns:
      A tree of NamedSharding.

    Raises:
      ValueError: no rule, or more than one, matches a leaf.
      UserError: the mesh cannot split a leaf evenly.
    """

    def of_leaf(path: tuple, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = _spec(name, rules)
        for size, axis in zip(np.shape(leaf), spec, strict=False):
            if axis and size % mesh.shape[axis]:
                raise UserError(
                    f"config.{axis}={mesh.shape[axis]}: expected a divisor of the {size} output channels of {name}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array of which every device has a whole copy."""
    return NamedSharding(mesh, PartitionSpec())


def to_devices(batch: dict, mesh: Mesh) -> dict:
    """Makes global arrays on the mesh from a process's share of a batch.

    Args:
      batch: {name: NumPy array}, the share of this process: the samples of its `places`, in their order.
      mesh: of the run.
    """
    return {
        name: jax.make_array_from_process_local_data(NamedSharding(mesh, _spec(name, BATCH_RULES)), value)
        for name, value in batch.items()
    }


def own_devices(mesh: Mesh) -> list:
    """The devices of a mesh that belong to this process."""
    return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


def own_copy(tree: Any, mesh: Mesh) -> Any:
    """Copies values to all devices of this process, for work that each process does by itself.

    Args:
      tree: of arrays on the mesh.
      mesh: of the run.

    Returns:
      The tree, replicated over the mesh that evaluation.inference makes of `own_devices`.
    """
    if mesh.shape["fsdp"] > 1:
        tree = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    own = replicated(inference.mesh_of(own_devices(mesh)))

    def of_leaf(x: jax.Array) -> jax.Array:
        shards = {shard.device: shard.data for shard in x.addressable_shards}
        copies = [shards[device] for device in own.mesh.devices.flat]
        return jax.make_array_from_single_device_arrays(x.shape, own, copies)

    return jax.tree.map(of_leaf, tree)
