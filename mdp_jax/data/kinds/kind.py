"""A dataset kind as one record, which the kind's own file makes."""

import dataclasses
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import SourceConfig
from mdp_jax.schema import key

NONE_PASSED_OVER: Mapping[str, str] = types.MappingProxyType({})


class Source(Protocol):
    """One split of one dataset as a sequence of samples.

    source[i] is {"image": uint8 [H, W, 3] RGB, "label": int16 [H, W], local class id, -1 ignored}. Reading a sample
    raises UserError where its files are unreadable or do not fit together.

    Attributes:
      name: of the dataset.
      classes: class names in the order of their ids; none where the photos have no labels.
      palette: the set's own colours, uint8 RGB [C, 3], or None.
      passed_over: path -> reason, of image files in the split's folders that are not in a sample.
      content: a digest of the samples where they have no files of their own; "" where there is none.
    """

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray | None
    passed_over: Mapping[str, str]
    content: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    def describe(self, index: int) -> str:
        """The name of a sample in messages, such as the name of the photo's file."""

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """The files of the photo and of its mask; none where a sample has no files of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RootedConfig(SourceConfig):
    """The keys of a dataset that lies in a folder."""

    root: str = key(place=True)  # joined to the config's data_dir unless absolute


@dataclasses.dataclass(frozen=True)
class Kind:
    """A dataset kind.

    Attributes:
      config: makes the locked ConfigDict of a dataset; mdp_jax.configs offers it to users under the kind's name.
      config_type: the typed form of that config.
      source: opens a split of the dataset that a config describes: (config, data_dir, split) -> Source.
      photos_alone: like `source`, for a dataset without labels; None where the kind cannot be read without its masks.
      has_masks_on_disk: whether a split is photo and mask files, from which `mdp data prepare` makes records.
      plain_ids: whether the masks hold the class ids themselves.
      mask_colours: () -> uint8 [N, 3]: the colours in which the release also shows its masks, where they are so few
        that such masks can be recognised; None otherwise.
      palette_file: a file of the root in which users state the colours of the classes; "" where the kind reads none.
      official_archives: file name of an archive of the release -> folder that it is unpacked in, from the dataset's
        root.
    """

    config: Callable[..., ConfigDict]
    config_type: type[SourceConfig]
    source: Callable[[Any, str, str], Source]
    photos_alone: Callable[[Any, str, str], Source] | None = None
    has_masks_on_disk: bool = False
    plain_ids: bool = False
    mask_colours: Callable[[], np.ndarray] | None = None
    palette_file: str = ""
    official_archives: Mapping[str, str] = dataclasses.field(default_factory=dict)
