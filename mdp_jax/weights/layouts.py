"""State dicts of other libraries under this package's names, with what became of every leaf.

"Our keys" are those of torch_weights.py: PyTorch's, with the modules named as in this package's trees.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.weights import mmseg, torchvision
from mdp_jax.weights.torch_weights import torch_key

LAYOUTS = {"torchvision": torchvision, "mmseg": mmseg}
RESNET = "resnet"  # a backbone alone: the same in both layouts
ALONE = {f"backbone.{name}": name for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")}
COUNTER = "num_batches_tracked"
_SKIPPED = torchvision.SKIPPED | mmseg.SKIPPED
_PARALLEL = "module."  # what torch's DataParallel puts before every name
_SHOWN = 4  # leaves that an error names


@dataclass(frozen=True)
class Leaf:
    """What became of a leaf.

    Attributes:
      key: its name where it comes from; of a missing leaf, where it was expected.
      shape: in PyTorch's layout; None where nothing says it.
      status: "loaded", "skipped" or "missing".
      note: where it went, or the reason.
    """

    key: str
    shape: tuple[int, ...] | None
    status: str
    note: str


@dataclass(frozen=True)
class Found:
    """A state dict read as one of the layouts.

    Attributes:
      where: the file, for messages.
      layout: "torchvision", "mmseg" or RESNET.
      state: the state dict.
      modules: our module -> theirs.
      keys: our key -> theirs, for all that is not skipped.
      strangers: their keys of no known module.
      skipped: leaves that the method has no use for.
    """

    where: str
    layout: str
    state: Mapping[str, np.ndarray]
    modules: Mapping[str, str]
    keys: Mapping[str, str]
    strangers: tuple[str, ...]
    skipped: tuple[Leaf, ...]

    def parts(self) -> list[str]:
        """The top-level parts of our network that the state dict has something of."""
        return sorted({key.split(".")[0] for key in self.keys})

    def of_parts(self, parts: Iterable[str]) -> dict[str, np.ndarray]:
        """Our key -> array, for the leaves of some parts."""
        return {ours: self.state[theirs] for ours, theirs in self.keys.items() if ours.split(".")[0] in parts}


def rename(key: str, modules: Mapping[str, str]) -> str | None:
    """A key with the module that it begins with renamed, or None where it begins with none of `modules`."""
    for old, new in modules.items():
        if key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def modules_for(layout: str, keys: Iterable[str]) -> dict[str, str]:
    """Our module -> theirs, to write the leaves of our keys in a layout; a backbone alone gets a ResNet's names."""
    decoder = {key.split(".")[1] for key in keys if key.startswith("decoder.")}
    if not decoder:
        return ALONE
    return LAYOUTS[layout].modules(sum(name.startswith("aspp_") for name in decoder) - 1)


def find(state: Mapping[str, np.ndarray], where: str) -> Found:
    """Reads the names of a state dict; their completeness is for `require_same` to check.

    Raises:
      UserError: names of no known layout, or a leaf that is not floating.
    """
    if all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): array for key, array in state.items()}
    layout, modules = _layout(state, where)
    theirs_to_ours = {theirs: ours for ours, theirs in modules.items()}
    keys, strangers, skipped = {}, [], []
    for key, array in state.items():
        ours = rename(key, theirs_to_ours)
        if key.endswith(f".{COUNTER}"):
            skipped.append(Leaf(key, array.shape, "skipped", "counter that nothing reads"))
        elif key.split(".")[0] in _SKIPPED:
            skipped.append(Leaf(key, array.shape, "skipped", _SKIPPED[key.split(".")[0]]))
        elif ours is None:
            strangers.append(key)
        elif array.dtype.kind != "f":
            raise UserError(f"{where}: {key} has the type {array.dtype}; expected floating weights")
        else:
            keys[ours] = key
    return Found(where, layout, state, modules, keys, tuple(strangers), tuple(skipped))


def _layout(state: Mapping[str, np.ndarray], where: str) -> tuple[str, Mapping[str, str]]:
    starts = {key.split(".")[0] for key in state}
    if "layer1" in starts:
        return RESNET, ALONE
    if "backbone" in starts:
        for name, layout in LAYOUTS.items():
            if layout.HEAD in starts:
                return name, layout.modules(layout.rates_in(state))
        return RESNET, {"backbone": "backbone"}
    raise UserError(
        f"{where}: leaves like {min(state)}; expected a ResNet or DeepLabV3 of torchvision or MMSegmentation"
    )


def shapes(tree: Mapping) -> dict[str, tuple[int, ...]]:
    """Our key -> shape in PyTorch's layout, of parameters or running statistics."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {torch_key(path): _torch_shape(leaf.shape) for path, leaf in leaves}


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else tuple(shape)


def require_same(found: Found, parts: Iterable[str], wanted: Mapping[str, tuple[int, ...]], expected: str) -> None:
    """Checks that the leaves of some parts are exactly the wanted ones, and that there are no strangers.

    Args:
      found: the state dict.
      parts: to be looked at.
      wanted: our key -> shape, of these parts.
      expected: what the shapes are of, for the message.

    Raises:
      UserError: naming the leaves of another shape, missing or not explained (the first few).
    """
    have = {ours: array.shape for ours, array in found.of_parts(parts).items()}
    wrong = [
        f"{found.keys[key]} has shape {have[key]}, expected {shape}"
        for key, shape in wanted.items()
        if key in have and have[key] != shape
    ]
    wrong += [f"{rename(key, found.modules)} {wanted[key]} is missing" for key in wanted if key not in have]
    unexplained = [found.keys[key] for key in have if key not in wanted] + list(found.strangers)
    wrong += [f"{key} {found.state[key].shape} is not in this network" for key in unexplained]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(f"{found.where}: another architecture than {expected}: {'; '.join(wrong[:_SHOWN])}{more}")
