"""Which leaf of the state and the batch lies where on the mesh: a short, strict table."""

import re

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdp_jax.errors import UserError

Rules = tuple[tuple[str, PartitionSpec], ...]

STATE_RULES: Rules = (
    (r"step", PartitionSpec()),
    (r"(momentum_)?params/.*", PartitionSpec()),
    (r"(momentum_)?batch_stats/.*", PartitionSpec()),
    (r"opt_state/.*", PartitionSpec()),
    (r"bank/(vectors|images_seen)", PartitionSpec()),
)
# Samples, and the pairs that they form, are split over the devices; a pair never is.
BATCH_RULES: Rules = ((r"(key_)?(image|label)|dataset|mix_kind|lam|box", PartitionSpec("data")),)


def make_mesh(devices: int) -> Mesh:
    """A mesh with the axis `data` over the first `devices` devices (0 = all of them).

    Raises:
      UserError: more devices than there are.
    """
    present = jax.devices()
    if devices > len(present):
        raise UserError(f"config.devices={devices}: only {len(present)} devices ({present[0].platform}) are here")
    chosen = present[: devices or len(present)]
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def leaf_names(tree) -> dict[str, object]:
    """{path: leaf} with paths like `params/backbone/conv1/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def shardings(tree, mesh: Mesh, rules: Rules):
    """A NamedSharding for every leaf, by the one rule that matches the whole of its path.

    Raises:
      ValueError: a leaf that no rule or more than one rule matches.
    """

    def of_leaf(path, _):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = [spec for pattern, spec in rules if re.fullmatch(pattern, name)]
        if len(found) != 1:
            raise ValueError(f"sharding: {len(found)} rules match the leaf {name}, expected exactly one")
        return NamedSharding(mesh, found[0])

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def to_devices(batch: dict, mesh: Mesh) -> dict:
    """A process's share of a batch (NumPy arrays) as global arrays on the mesh."""
    places = shardings(batch, mesh, BATCH_RULES)
    return {key: jax.make_array_from_process_local_data(places[key], value) for key, value in batch.items()}
