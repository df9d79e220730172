"""The leaves of this package's trees as tensors under PyTorch's names and in its layout, and back.

Modules keep their names: `backbone/layer1/0/conv1/kernel` is `backbone.layer1.0.conv1.weight`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
_KERNELS = {4: (3, 2, 0, 1), 2: (1, 0)}  # number of axes -> our axes in PyTorch's order


def torch_key(path: tuple) -> str:
    """PyTorch's name of a leaf.

    Args:
      path: of jax.tree_util, below the collection.
    """
    *modules, leaf = [entry.key for entry in path]
    return ".".join([*modules, _TORCH_LEAVES.get(leaf, leaf)])


def shapes(tree: Mapping) -> dict[str, tuple[int, ...]]:
    """The shapes of parameters or running statistics.

    Args:
      tree: of arrays, or of anything with a shape.

    Returns:
      {PyTorch key: shape in PyTorch's layout}.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {torch_key(path): tuple(leaf.shape[axis] for axis in _axes(path, leaf.ndim)) for path, leaf in leaves}


def _axes(path: tuple, ndim: int) -> tuple[int, ...]:
    return _KERNELS[ndim] if path[-1].key == "kernel" else tuple(range(ndim))


def to_torch(tree: Mapping) -> dict[str, np.ndarray]:
    """Gives parameters or running statistics the names and the layout of PyTorch.

    Args:
      tree: of arrays.

    Returns:
      {PyTorch key: array}; kernels [kh,kw,in,out] become [out,in,kh,kw].
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {torch_key(path): np.asarray(leaf).transpose(_axes(path, leaf.ndim)) for path, leaf in leaves}


def from_torch(state: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    """The inverse of `to_torch`, for both collections at once.

    Args:
      state: {PyTorch key: array}; the counters `num_batches_tracked` are left out.

    Returns:
      Parameters and running statistics; the second is {} without batch normalisation.
    """
    params: dict[str, Any] = {}
    batch_stats: dict[str, Any] = {}
    for key, array in state.items():
        *modules, name = key.split(".")
        if name == "num_batches_tracked":
            continue
        tree = batch_stats if name in _STATISTICS else params
        leaf = _STATISTICS.get(name, name)
        if name == "weight":
            leaf = "kernel" if array.ndim in _KERNELS else "scale"
        for module in modules:
            tree = tree.setdefault(module, {})
        tree[leaf] = array.transpose(np.argsort(_KERNELS[array.ndim])) if leaf == "kernel" else array
    return params, batch_stats
