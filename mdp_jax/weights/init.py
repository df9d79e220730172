"""Training that starts from a file of weights: `--init FILE` (METHOD.md section 1)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.models.layers import AUXILIARY
from mdp_jax.weights import architecture, files, layouts
from mdp_jax.weights.layouts import Found, Leaf
from mdp_jax.weights.torch_weights import from_torch, shapes


@dataclass(frozen=True)
class Report:
    """What became of every leaf of a file and of the network's parts.

    Attributes:
      leaves: all of them.
      notes: lines that say what was cast.
      names: our key (weights/torch_weights.py) -> its name in the file, for every leaf that was loaded.
    """

    leaves: tuple[Leaf, ...]
    notes: tuple[str, ...]
    names: Mapping[str, str]

    def lines(self) -> list[str]:
        """One line for each cast, and one for all leaves of the same status and note."""
        groups: dict[tuple[str, str], list[Leaf]] = {}
        for leaf in self.leaves:
            groups.setdefault((leaf.status, leaf.note), []).append(leaf)
        return [*self.notes, *(_line(status, note, leaves) for (status, note), leaves in groups.items())]


class Loaded(NamedTuple):
    """A network that starts from a file.

    Attributes:
      params: its parameters.
      batch_stats: its running statistics.
      report: what became of every leaf.
    """

    params: dict
    batch_stats: dict
    report: Report


def _line(status: str, note: str, leaves: list[Leaf]) -> str:
    more = f" .. {leaves[-1].key}" if len(leaves) > 1 else ""
    return f"{status} {len(leaves)}: {leaves[0].key}{more} ({note})"


def load_init(path: str | os.PathLike, params: dict, batch_stats: dict, parts: tuple[str, ...]) -> Loaded:
    """Replaces parts of a new network by those of a file of torchvision's or MMSegmentation's weights.

    A part that the file does not have stays as it is: the decoder where the file has ImageNet weights, or another
    decoder.

    Args:
      path: .pth, .pt or .safetensors.
      params: parameters of the new network, {"backbone", "decoder", ...}, or their shapes.
      batch_stats: running statistics of the new network; parts without batch normalisation are absent.
      parts: names of the parts to take where they fit.

    Returns:
      The network with new arrays in those parts, in the dtypes of the old arrays.

    Raises:
      UserError: the file cannot be read or has none of the parts, a part has another architecture, or a value is not
        finite. The message names the leaf.
    """
    state, notes = files.read(path)
    found = layouts.find(state, f"--init {path}")
    notes += found.notes
    refused = {part: reason for part in found.parts() if (reason := _refusal(part, found, params, parts))}
    taken = [part for part in found.parts() if part not in refused]
    wanted = {part: shapes({part: params[part]}) for part in parts if part in params}
    for part in wanted:
        wanted[part] |= shapes({part: batch_stats.get(part, {})})
    if not taken:
        why = "".join(f"; {reason}" for part, reason in refused.items() if part in parts)
        raise UserError(f"--init {path}: has {', '.join(found.parts())}; expected one of {', '.join(parts)}{why}")
    fits = f" (the file fits {architecture.in_words(found, taken)})" if "backbone" in taken else ""
    layouts.require_sound_parts(found, taken)
    layouts.require_same(found, taken, {k: s for part in taken for k, s in wanted[part].items()}, f"config.model{fits}")

    leaves = [Leaf(key, array.shape, "loaded", part) for part in taken for key, array in _theirs(found, part).items()]
    for part, reason in refused.items():
        leaves += [Leaf(key, array.shape, "skipped", reason) for key, array in _theirs(found, part).items()]
    leaves += found.skipped
    for part in wanted:
        if part not in taken:
            leaves += [Leaf(key, shape, "missing", "stays as initialised") for key, shape in wanted[part].items()]
    loaded = found.of_parts(taken)
    notes += _narrowed(path, loaded, params)
    new_params, new_stats = (
        _placed(new, old) for new, old in zip(from_torch(loaded), (params, batch_stats), strict=True)
    )
    names = {ours: found.keys[ours] for ours in found.of_parts(taken)}
    return Loaded(params | new_params, batch_stats | new_stats, Report(tuple(leaves), tuple(notes), names))


def _theirs(found: Found, part: str) -> dict:
    return {found.keys[ours]: array for ours, array in found.of_parts([part]).items()}


def _refusal(part: str, found: Found, params: Mapping, parts: tuple[str, ...]) -> str:
    """Why a part of the file is not taken; empty where it is."""
    if part == "classifier":
        theirs = _classes(found.of_parts([part]))
        if part not in parts or part not in params:
            return f"classifier of {theirs} classes; the new head is trained"
        ours = params[part]["conv"]["bias"].shape[0]
        return "" if theirs == ours else f"another number of classes: {theirs}, here {ours}"
    if part == AUXILIARY:
        return _refusal_of_auxiliary(found, params, asked=part in parts)
    if part not in parts:
        return "not among the parts to take"
    if part not in params:
        return f"this network has no {part} of its own"
    if part == "decoder":
        name, layout = layouts.decoder_of(params["decoder"])
        if name != found.decoder:
            return f"decoder {found.decoder}; config.model.decoder.name is {name or 'another'}"
        if layout != found.layout:
            return f"decoder of {found.layout}'s layout; config.model.decoder.layout is {layout}"
    return ""


def _refusal_of_auxiliary(found: Found, params: Mapping, asked: bool) -> str:
    """The same of the auxiliary head, which goes with the classifier in it."""
    if AUXILIARY not in params:
        return "auxiliary head; this run has none"
    in_it = {key: array for key, array in found.of_parts([AUXILIARY]).items() if ".classifier." in key}
    theirs, ours = _classes(in_it), params[AUXILIARY]["classifier"]["conv"]["bias"].shape[0]
    if not asked:
        return f"auxiliary head of {theirs} classes; the new head is trained, since config.transfer does not list it"
    return "" if theirs == ours else f"auxiliary head of another number of classes: {theirs}, here {ours}"


def _classes(classifier: Mapping) -> int:
    """C of the leaves of a classifier, weights [C,..] or bias [C]."""
    return max((array.shape[0] for array in classifier.values() if array.ndim), default=0)


def _narrowed(path: str | os.PathLike, loaded: dict, params: Mapping) -> list[str]:
    """Casts leaves that are wider than the network's; a value that does not fit is an error."""
    dtype = jax.tree.leaves(params)[0].dtype
    wider = [key for key, array in loaded.items() if array.dtype.itemsize > dtype.itemsize]
    for key in wider:
        with np.errstate(over="ignore"):
            loaded[key] = loaded[key].astype(dtype)
        layouts.require_sound(f"--init {path}, as {dtype}", key, loaded[key])
    return [f"{len(wider)} of {len(loaded)} loaded leaves are float64; cast to {dtype}"] if wider else []


def _placed(new: dict, old: dict) -> dict:
    """The new parts as device arrays of the old ones' dtypes; copies, since training gives their memory away."""
    old = {part: old[part] for part in new}
    return jax.tree.map(lambda before, array: jnp.array(array, before.dtype, copy=True), old, new)
