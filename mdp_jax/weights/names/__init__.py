"""The names of published weights: one file for each family of backbones. The registry entry of a backbone names it.

Such a file has what `BackboneNames` lists. The names of a decoder are in the decoder's file (models/entries.py).

A family whose files come under the names of several libraries also has `ours(state, where)`. It brings a state dict to
our names (foreign.py), or gives None where the state dict is of another family. Where a library's model wants more than
other names, such as values in another order, the family has `finished(state, layout)`, which makes a state dict so.
"""

import importlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, cast

from mdp_jax.models.registry import BACKBONES

OURS = "ours"  # in place of a layout: our own names


class Recognised(NamedTuple):
    """The backbone of a state dict.

    Attributes:
      backbone: its name in the registry.
      sized_by: our key, below the backbone, of weights whose number of output channels tells the width.
      channels: that number at width 1.
    """

    backbone: str
    sized_by: str
    channels: int


class BackboneNames(Protocol):
    """What the file of a family has.

    Attributes:
      ONLY_THEIRS: layout -> keys that the library's model for whole images has besides the backbone.
    """

    ONLY_THEIRS: Mapping[str, tuple[str, ...]]

    def modules(self, backbone: str, layout: str) -> dict[str, str]:
        """The names of a library's modules.

        Args:
          backbone: name in the registry.
          layout: of the library.

        Returns:
          {our module below the backbone: theirs}; {} where the library does not have this backbone.
        """

    def recognise(self, shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
        """Finds the backbone that has some shapes.

        Args:
          shapes: {our key below the backbone: shape}.
          where: the file, for messages.

        Raises:
          UserError: there is none.
        """


def names_of(backbone: str) -> BackboneNames | None:
    """The names of a backbone's published weights.

    Args:
      backbone: name in the registry.

    Returns:
      The module with the names; None where there are no published weights.
    """
    module = BACKBONES[backbone].weight_names
    return cast(BackboneNames, importlib.import_module(module)) if module else None
