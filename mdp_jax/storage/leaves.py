"""The leaves of a tree by name, as checkpoints and shardings call them."""

from typing import Any

import jax


def leaf_names(tree: Any) -> dict[str, Any]:
    """Names the leaves of a tree.

    Args:
      tree: a pytree.

    Returns:
      {path: leaf} with paths like `params/backbone/conv1/kernel`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
