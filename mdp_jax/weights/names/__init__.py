"""The names of a family's published weights: one file a family of backbones, named in the registry entry of each.

Such a file has what `BackboneNames` lists. Names of decoders stand with the decoders (models/entries.py).
"""

import importlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from mdp_jax.models.registry import BACKBONES


class Recognised(NamedTuple):
    """Which backbone a state dict is of.

    Attributes:
      backbone: its name in the registry.
      sized_by: our key, below the backbone, of weights whose number of output channels tells the width.
      channels: this number at width 1.
    """

    backbone: str
    sized_by: str
    channels: int


class BackboneNames(Protocol):
    """What the file of a family has.

    Attributes:
      ONLY_THEIRS: layout -> keys that the library's model for whole images has beside the backbone.
    """

    ONLY_THEIRS: Mapping[str, tuple[str, ...]]

    def modules(self, backbone: str, layout: str) -> dict[str, str]:
        """Our modules below the backbone -> those of a library; {} where the library has no such backbone."""

    def recognise(self, shapes: Mapping[str, tuple[int, ...]], where: str) -> Recognised:
        """The backbone that has these shapes by our keys below the backbone; `where` is the file, for messages.

        Raises:
          UserError: there is none.
        """


def names_of(backbone: str) -> BackboneNames | None:
    """The names of a backbone of the registry; None where it has no published weights."""
    module = BACKBONES[backbone].weight_names
    return importlib.import_module(module) if module else None
