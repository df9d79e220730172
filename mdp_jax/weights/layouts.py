"""State dicts of other libraries under this package's names, with what became of every leaf.

"Our keys" are those of torch_weights.py: PyTorch's, with the modules named as in this package's trees.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mdp_jax.configs import ModelConfig
from mdp_jax.errors import UserError
from mdp_jax.models.registry import BACKBONES, DECODERS
from mdp_jax.weights import mmseg, timm, torchvision
from mdp_jax.weights.names import OURS, names_of
from mdp_jax.weights.names.foreign import Ours

LAYOUTS = {"torchvision": torchvision, "mmseg": mmseg}  # of whole networks
OF_BACKBONES = {**LAYOUTS, "timm": timm}
ALONE = "alone"  # in place of a layout: a backbone and nothing else
COUNTER = "num_batches_tracked"  # of PyTorch's batch normalisation; nothing reads it
_OTHER_HEAD = "auxiliary head of another form; that of fine-tuning is one convolution and a classifier"
_SKIPPED = {module: why for library in OF_BACKBONES.values() for module, why in library.SKIPPED.items()} | {
    theirs.split(".")[0]: _OTHER_HEAD for library in LAYOUTS.values() for theirs in library.AUXILIARY.values()
}
# What wrappers put before every name: torch's DataParallel and AveragedModel, torch.compile, Lightning's usual module.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_AVERAGED = "n_averaged"  # the counter of torch's AveragedModel
_SHOWN = 4  # leaves that an error names


@dataclass(frozen=True)
class Leaf:
    """What became of a leaf.

    Attributes:
      key: its name in the source; of a missing leaf, the expected name.
      shape: in PyTorch's layout; None where it is unknown.
      status: "loaded", "skipped" or "missing".
      note: the part that it was loaded into, or the reason.
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
      layout: a key of LAYOUTS, or ALONE.
      backbone: a backbone of the registry with these names; `architecture.model_of` says which of the family it is.
      decoder: name in the registry; empty where there is none.
      state: the state dict.
      modules: our module -> theirs.
      keys: our key -> theirs, for all that is not skipped.
      strangers: their keys that belong to no known module.
      skipped: leaves that the method does not use.
      notes: lines that say what was changed.
    """

    where: str
    layout: str
    backbone: str
    decoder: str
    state: Mapping[str, np.ndarray]
    modules: Mapping[str, str]
    keys: Mapping[str, str]
    strangers: tuple[str, ...]
    skipped: tuple[Leaf, ...]
    notes: tuple[str, ...] = ()

    def parts(self) -> list[str]:
        """The top-level parts of our network that have leaves in the state dict."""
        return sorted({part_of(key) for key in self.keys})

    def of_parts(self, parts: Iterable[str]) -> dict[str, np.ndarray]:
        """The leaves of some parts.

        Args:
          parts: names of top-level parts.

        Returns:
          {our key: array}.
        """
        return {ours: self.state[theirs] for ours, theirs in self.keys.items() if part_of(ours) in parts}


def part_of(key: str) -> str:
    """The part of a network that a key names first.

    Args:
      key: ours or theirs, such as "backbone.conv1.weight".
    """
    return key.split(".")[0]


def rename(key: str, modules: Mapping[str, str]) -> str | None:
    """Renames the module of a key, or a leaf that stands in none.

    Args:
      key: such as "layer1.0.conv1.weight".
      modules: old name -> new name.

    Returns:
      The new key; None where the key is in none of the modules.
    """
    for old, new in modules.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return None


def modules_for(model: ModelConfig, layout: str, alone: bool) -> dict[str, str]:
    """The names of modules under which a layout stores the leaves of a network.

    Args:
      model: the network.
      layout: a key of OF_BACKBONES.
      alone: whether only the backbone is written, under the names of a network for whole images.

    Returns:
      {our module: theirs}.

    Raises:
      UserError: the layout has no names for the backbone or the decoder.
    """
    names, decoder = names_of(model.backbone), DECODERS[model.decoder.name].layouts
    modules = names.modules(model.backbone, layout) if names else {}
    if not modules:
        raise UserError(f"config.model.backbone={model.backbone}: has no published names in {layout}'s layout")
    if alone:
        return _below("backbone", modules, "")
    if layout not in decoder:
        raise UserError(f"config.model.decoder.name={model.decoder.name}: has no published names in {layout}'s layout")
    return _below("backbone", modules, "backbone.") | decoder[layout].modules(len(model.decoder.rates))


def _below(part: str, modules: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {f"{part}.{ours}": prefix + theirs for ours, theirs in modules.items()}


def decoder_of(modules: Iterable[str]) -> tuple[str, str]:
    """Finds the decoder of the registry that has some modules.

    Args:
      modules: names below the decoder.

    Returns:
      Its name and layout; two empty strings where there is none.
    """
    modules = {f"decoder.{module}" for module in modules}
    for name, decoder in DECODERS.items():
        for layout, names in decoder.layouts.items():
            for rates in range(len(modules)):
                ours = [module for module in names.modules(rates) if module.startswith("decoder.")]
                if {".".join(module.split(".")[:2]) for module in ours} == modules:
                    return name, layout
    return "", ""


def find(state: Mapping[str, np.ndarray], where: str) -> Found:
    """Reads the names of a state dict.

    `require_same` checks later that they are complete, and `require_sound_parts` the values of what is taken.

    Args:
      state: {key: array}.
      where: the file, for messages.

    Raises:
      UserError: the names belong to no known layout.
    """
    state, skipped = _unwrapped(state)
    starts = {part_of(key) for key in state}
    whole = [name for name, library in LAYOUTS.items() if {"backbone", library.HEAD} <= starts]
    layout = whole[0] if whole else ALONE
    prefix = "backbone." if "backbone" in starts else ""
    known = _ours(state, prefix, where)
    notes = known.notes if known else ()
    if known:
        state = known.state
        skipped += [Leaf(key, None, "skipped", why) for key, why in known.skipped.items()]
    if known and known.alone and whole:
        notes += (f"only the backbone is read; the decoder is not: {known.alone}",)
        above = {key: array for key, array in state.items() if not key.startswith(prefix)}
        skipped += [Leaf(key, array.shape, "skipped", "it does not fit the backbone") for key, array in above.items()]
        state = {key: array for key, array in state.items() if key not in above}
        whole, layout = [], ALONE
    weights = [key for key in state if part_of(key) not in _SKIPPED]
    layouts = (OURS,) if known else whole or LAYOUTS
    backbone, modules = _backbone([key for key in weights if key.startswith(prefix)], prefix, layouts)
    if not any(rename(key, {module: module}) for key in weights for module in modules.values()):
        raise UserError(
            f"{where}: leaves like {min(state)}; expected weights of a backbone ({', '.join(BACKBONES)}), or of a "
            f"network with one, under the names of {' or '.join(LAYOUTS)}"
        )
    decoder = ""
    if whole:
        decoder, names = _decoder(weights, layout)
        modules |= names | _auxiliary(state, layout)
    theirs_to_ours = {theirs: ours for ours, theirs in modules.items()}
    keys: dict[str, str] = {}
    strangers = []
    for key, array in state.items():
        ours = rename(key, theirs_to_ours)
        if key.endswith(f".{COUNTER}"):
            skipped.append(Leaf(key, array.shape, "skipped", "counter that nothing reads"))
        elif ours is None and part_of(key) in _SKIPPED:
            skipped.append(Leaf(key, array.shape, "skipped", _SKIPPED[part_of(key)]))
        elif ours is None:
            strangers.append(key)
        else:
            keys[ours] = key
    return Found(where, layout, backbone, decoder, state, modules, keys, tuple(strangers), tuple(skipped), notes)


def _unwrapped(state: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], list[Leaf]]:
    """The state dict of a network that was wrapped, and the leaves that only the wrapper had."""
    skipped = []
    if state.keys() > {_AVERAGED}:
        skipped = [Leaf(_AVERAGED, state[_AVERAGED].shape, "skipped", "counter that nothing reads")]
        state = {key: array for key, array in state.items() if key != _AVERAGED}
    while wrapper := next((name for name in _WRAPPERS if state and all(key.startswith(name) for key in state)), ""):
        state = {key.removeprefix(wrapper): array for key, array in state.items()}
    return state, skipped


def _ours(state: Mapping[str, np.ndarray], prefix: str, where: str) -> Ours | None:
    """The state dict with a backbone under our names, if a family knows it under those of several libraries."""
    below = {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
    families = dict.fromkeys(backbone.weight_names for backbone in BACKBONES.values() if backbone.weight_names)
    for family in families:
        ours = getattr(importlib.import_module(family), "ours", None)
        found = ours(below, where) if ours else None
        if found:
            rest = {key: array for key, array in state.items() if not key.startswith(prefix)}
            renamed = {prefix + key: array for key, array in found.state.items()}
            return found._replace(
                state=renamed | rest, skipped={prefix + key: why for key, why in found.skipped.items()}
            )
    return None


def _backbone(keys: list[str], prefix: str, layouts: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The backbone whose names explain the keys best, and its modules."""
    candidates = [
        (name, _below("backbone", names.modules(name, layout), prefix))
        for layout in layouts
        for name in BACKBONES
        if (names := names_of(name))
    ]
    return min(candidates, key=lambda candidate: _misfit(keys, candidate[1]))


def _decoder(keys: list[str], layout: str) -> tuple[str, dict[str, str]]:
    """The decoder whose names explain the keys best, and its modules and those of its classifier."""
    keys = [key for key in keys if not key.startswith("backbone.")]
    candidates = [
        (name, names.modules(names.rates(keys) if names.rates else 0))
        for name, decoder in DECODERS.items()
        if (names := decoder.layouts.get(layout))
    ]
    return min(candidates, key=lambda candidate: _misfit(keys, candidate[1]))


def _auxiliary(state: Mapping[str, np.ndarray], layout: str) -> dict[str, str]:
    """The modules of an auxiliary head, if the layout's file has one of the form that ours has."""
    modules = LAYOUTS[layout].AUXILIARY
    heads = {part_of(module) for module in modules.values()}
    keys = [key for key in state if part_of(key) in heads and not key.endswith(f".{COUNTER}")]
    return {} if _misfit(keys, modules) else modules


def _misfit(keys: list[str], modules: Mapping[str, str]) -> int:
    """Leaves of no module, and modules without a leaf."""
    theirs = list(modules.values())
    of_leaf = [next((module for module in theirs if rename(key, {module: ""}) is not None), None) for key in keys]
    return of_leaf.count(None) + len(set(theirs) - set(of_leaf))


def require_sound(where: str, key: str, array: np.ndarray) -> None:
    """Checks that a leaf is floating, finite and, where it is a variance, not negative.

    Args:
      where: the file, for messages.
      key: the leaf's name, which ends as in PyTorch.
      array: its values.

    Raises:
      UserError: it is not. The message names the file, the leaf and the first wrong value.
    """
    if array.dtype.kind != "f":
        raise UserError(f"{where}: {key} has the type {array.dtype}; expected floating weights")
    wrong = ~np.isfinite(array)
    if key.endswith(".running_var"):
        wrong |= array < 0
    if wrong.any():
        raise UserError(
            f"{where}: {key} holds {array[wrong][0]:g} ({wrong.sum()} of {array.size} values); expected finite weights "
            "and variances from 0: it is damaged, or the training that wrote it diverged"
        )


def require_sound_parts(found: Found, parts: Iterable[str]) -> None:
    """Checks with `require_sound` what is taken of a file.

    Args:
      found: the state dict.
      parts: the parts that are taken.

    Raises:
      UserError: a leaf of them is not sound.
    """
    for ours, array in found.of_parts(parts).items():
        require_sound(found.where, found.keys[ours], array)


def require_same(found: Found, parts: Iterable[str], wanted: Mapping[str, tuple[int, ...]], expected: str) -> None:
    """Checks that the leaves of some parts are exactly the wanted ones, and that there are no strangers.

    Args:
      found: the state dict.
      parts: the parts that are checked.
      wanted: our key -> shape, of these parts.
      expected: what has the wanted shapes, for the message.

    Raises:
      UserError: leaves have another shape, are missing or are unknown. The message names the first few.
    """
    have = {ours: array.shape for ours, array in found.of_parts(parts).items()}
    wrong = [
        f"{found.keys[key]} has shape {have[key]}, expected {shape}"
        for key, shape in wanted.items()
        if key in have and have[key] != shape
    ]
    wrong += [f"{rename(key, found.modules) or key} {wanted[key]} is missing" for key in wanted if key not in have]
    unexplained = [found.keys[key] for key in have if key not in wanted] + list(found.strangers)
    wrong += [f"{key} {found.state[key].shape} is not in this network" for key in unexplained]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(f"{found.where}: another architecture than {expected}: {'; '.join(wrong[:_SHOWN])}{more}")
