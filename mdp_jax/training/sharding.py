"""Which leaf of the state and the batch lies where on the mesh: a short, strict table."""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdp_jax.errors import UserError

Rules = tuple[tuple[str, PartitionSpec], ...]

# A network's parameters, what the optimizer keeps for each of them, and an objective's average of them.
_PARAMS = r"((memory/momentum_)?params|opt_state/.*trace)"


def state_rules(network: Rules, memory: Rules = ()) -> Rules:
    """The table of a state.

    Args:
      network: of paths in the network's parameters.
      memory: of paths in the objective's memory, without those of an average of the parameters.
    """
    return (
        (r"step|opt_state/.*count", PartitionSpec()),
        *((f"{_PARAMS}/{pattern}", spec) for pattern, spec in network),
        (r"batch_stats/.*", PartitionSpec()),
        *((f"memory/({pattern})", spec) for pattern, spec in memory),
    )


# Samples, and the pairs that they form, are split over all devices; a pair never is.
BATCH_RULES: Rules = ((r"(key_)?(image|label)|dataset|mix_kind|lam|box", PartitionSpec(("data", "fsdp"))),)


def make_mesh(devices: int, fsdp: int = 1) -> Mesh:
    """The mesh over the first `devices` devices of all processes (0 = all of them); see `mesh_of`.

    Raises:
      UserError: a number of devices below 0 or above what is there, some of them with several processes, or an
        `fsdp` that does not divide them.
    """
    present = jax.devices()
    if devices < 0:
        raise UserError(f"config.devices={devices}: expected a number of devices, or 0 for all of them")
    if devices > len(present):
        raise UserError(f"config.devices={devices}: only {len(present)} device(s) ({present[0].platform}) are here")
    if devices and jax.process_count() > 1:
        raise UserError(f"config.devices={devices}: expected 0, all devices, with {jax.process_count()} processes")
    return mesh_of(present[: devices or len(present)], fsdp)


def mesh_of(devices: list, fsdp: int) -> Mesh:
    """A mesh of these devices with the axes `data` and `fsdp`.

    The batch is split over both axes; kernels of convolutions over `fsdp`, so that a device keeps 1 / fsdp of them.

    Raises:
      UserError: `fsdp` does not divide the devices.
    """
    if fsdp < 1 or len(devices) % fsdp:
        raise UserError(f"config.fsdp={fsdp}: expected a divisor of the {len(devices)} device(s)")
    axis_types = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((len(devices) // fsdp, fsdp), ("data", "fsdp"), axis_types=axis_types, devices=devices)


def _spec(name: str, rules: Rules) -> PartitionSpec:
    found = [spec for pattern, spec in rules if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise ValueError(f"sharding: {len(found)} rules match the leaf {name}, expected exactly one")
    return found[0]


def shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """A NamedSharding for every leaf of the state, by the one rule that matches the whole of its path.

    Raises:
      ValueError: a leaf that no rule or more than one rule matches.
      UserError: a leaf that the mesh cannot split evenly.
    """

    def of_leaf(path, leaf):
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
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def to_devices(batch: dict, mesh: Mesh) -> dict:
    """A process's share of a batch (NumPy arrays) as global arrays on the mesh."""
    return {
        name: jax.make_array_from_process_local_data(NamedSharding(mesh, _spec(name, BATCH_RULES)), value)
        for name, value in batch.items()
    }


def own_copy(tree: Any, mesh: Mesh) -> Any:
    """The same values, whole, on the first device of this process: for work that each process does by itself."""
    if mesh.shape["fsdp"] > 1:
        tree = jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)
