"""Starts a run from another network: a new network gets parts of a workdir or of a file (METHOD.md 1 and 6)."""

from collections.abc import Sequence

import jax

from mdp_jax import distributed
from mdp_jax.errors import UserError
from mdp_jax.storage import checkpoints
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import expanded
from mdp_jax.training.state import Variables
from mdp_jax.weights import files
from mdp_jax.weights.init import load_init
from mdp_jax.weights.layouts import require_sound
from mdp_jax.weights.torch_weights import to_torch


def require_leaves(have: dict, want: dict, where: str) -> None:
    """Checks that a tree of arrays has exactly the leaves and shapes of another one.

    Args:
      have: the tree that is checked.
      want: a tree with the expected shapes.
      where: what errors begin with.

    Raises:
      UserError: leaves are missing, unknown or have another shape. The message names the first few.
    """
    have_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(have).items()}
    want_shapes = {name: tuple(leaf.shape) for name, leaf in leaf_names(want).items()}
    wrong = [
        f"{name} has shape {have_shapes[name]}, expected {shape}"
        for name, shape in want_shapes.items()
        if name in have_shapes and have_shapes[name] != shape
    ]
    wrong += [f"{name} {shape} is missing" for name, shape in want_shapes.items() if name not in have_shapes]
    wrong += [
        f"{name} {shape} is not in this network" for name, shape in have_shapes.items() if name not in want_shapes
    ]
    if wrong:
        more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{where}: another architecture: {'; '.join(wrong[:4])}{more}")


def transfer(init: str, parts: Sequence[str], params: dict, batch_stats: dict) -> Variables:
    """Replaces parts of a new network by those of a workdir or of a file.

    Args:
      init: workdir of either loop, or file of weights in torchvision's or MMSegmentation's layout.
      parts: names of top-level parts, such as ("backbone", "decoder"); they may have no running statistics.
      params: of the new network.
      batch_stats: of the new network.

    Returns:
      The variables with new parts, in the dtypes of the new network.

    Raises:
      UserError: there is no checkpoint, or a part has another architecture; the message names its leaves.
    """
    path = expanded(init)
    if path.is_file() or (path.suffix in files.SUFFIXES and not path.is_dir()):
        found = load_init(path, params, batch_stats, tuple(parts))
        for line in found.report.lines():
            if distributed.is_main():
                print(f"--init {init}: {line}")
        return Variables(found.params, found.batch_stats)
    saved = checkpoints.load(init).state
    unknown = [part for part in parts if part not in saved["params"] or part not in params]
    if unknown:
        raise UserError(f"--init {init}: no part {unknown[0]!r} in it; it has {', '.join(saved['params'])}")
    loaded = []
    for have, ours in ((saved["params"], params), (saved.get("batch_stats") or {}, batch_stats)):
        # On the host: they go wherever the new network's arrays lie, on devices of other processes too.
        taken = {part: jax.device_get(have[part]) for part in parts if part in have}
        wanted = {part: ours[part] for part in parts if part in ours}
        require_leaves(taken, wanted, f"--init {init}")
        for key, array in to_torch(taken).items():
            require_sound(f"--init {init}", key, array)
        loaded.append(ours | jax.tree.map(lambda new, old: new.astype(old.dtype), taken, wanted))
    return Variables(*loaded)
