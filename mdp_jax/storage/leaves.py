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


def one_copy(leaf: Any) -> Any:
    """An array that every device of this process holds, as it is on the first of them; anything else as it is.

    Otherwise orbax lets each device write a slice of it, by a program that is compiled for each shape. Within one
    process they all write to the same disk.

    Args:
      leaf: of a state.
    """
    whole = isinstance(leaf, jax.Array) and leaf.is_fully_replicated and leaf.is_fully_addressable
    return leaf.addressable_data(0) if whole else leaf
