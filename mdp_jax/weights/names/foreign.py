"""Weights of one network under the names of several libraries, brought to those of one of them: ours.

A library names a module otherwise (`Library.renames`), has leaves besides the backbone (`Library.skipped`), and keeps
queries, keys and values apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Library(NamedTuple):
    """The names of a library.

    Attributes:
      name: of the library, for messages.
      mark: regex of a key that only its files of this family have.
      renames: pairs of a regex and its replacement; each is applied to every key, in this order.
      skipped: pairs of a regex and a reason; keys that match the whole of it are no part of the backbone.
    """

    name: str
    mark: str
    renames: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]


class Ours(NamedTuple):
    """A state dict under our names.

    Attributes:
      state: {key: array}.
      skipped: {their key: reason}.
      notes: lines that say what was changed.
      alone: why a decoder of the same file cannot be taken; empty where it can.
    """

    state: dict[str, np.ndarray]
    skipped: dict[str, str]
    notes: tuple[str, ...]
    alone: str = ""


def library_of(keys: Sequence[str], libraries: Sequence[Library]) -> Library | None:
    """Finds the library whose mark some keys have.

    Args:
      keys: of a state dict.
      libraries: of a family of backbones.
    """
    return next((one for one in libraries if any(re.fullmatch(one.mark, key) for key in keys)), None)


def size_along(shapes: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    """The size of a leaf along an axis; 0 where it has no such axis or is missing, which the check of shapes says.

    Args:
      shapes: key -> shape.
      key: of the leaf.
      axis: negative ones are counted from the last.
    """
    shape = shapes.get(key, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


def renamed(key: str, library: Library) -> str:
    """Our name of a key, or of a module with a dot at its end.

    Args:
      key: their name.
      library: whose name it is.
    """
    for pattern, replacement in library.renames:
        key = re.sub(pattern, replacement, key)
    return key


def ours_of(state: Mapping[str, np.ndarray], library: Library) -> Ours:
    """Renames the leaves of a state dict and joins "q", "k" and "v" beside each other, in this order, to "qkv".

    Args:
      state: their key -> array.
      library: of the state dict.
    """
    kept, skipped = dict[str, np.ndarray](), dict[str, str]()
    for key, array in state.items():
        reason = next((why for pattern, why in library.skipped if re.fullmatch(pattern, key)), None)
        if reason is None:
            kept[renamed(key, library)] = array
        else:
            skipped[key] = reason
    found = dict[str, np.ndarray]()
    for key, array in kept.items():
        three = [re.sub(r"\.q\.(weight|bias)$", rf".{one}.\1", key) for one in "qkv"]
        if three[0] == three[1] or not {three[0], three[2]} <= kept.keys():
            if not re.search(r"\.[kv]\.(weight|bias)$", key):
                found[key] = array
            continue
        k = kept.get(three[1], np.zeros_like(array))  # keys without a bias
        joined = [array, k, kept[three[2]]]
        if array.ndim and len({one.shape for one in joined}) == 1:
            found[key.replace(".q.", ".qkv.")] = np.concatenate(joined)
        else:  # the check of shapes names them
            found |= {one: kept[one] for one in three if one in kept}
    changed = any(key not in state for key in found)
    notes = (f"names of {library.name}, read as timm's",) if changed else ()
    return Ours(found, skipped, notes)
