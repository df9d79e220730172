"""The dataset kinds by name. A kind is a module of this package that has its record as KIND."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdp_jax.data.kinds.kind import Kind

DEFAULT_KIND = "folder"  # of a dataset of which only the name is given
_NAMES = (
    "folder",
    "voc",
    "ade20k",
    "coco_stuff",
    "cityscapes",
    "array_record",
    "tfds",
    "synthetic",
)


class _Kinds(Mapping[str, "Kind"]):
    """Name -> Kind; the module of a kind is imported when it is asked for, so that the names cost nothing."""

    def __getitem__(self, name: str) -> "Kind":
        if name not in _NAMES:
            raise KeyError(name)
        return importlib.import_module(f"mdp_jax.data.kinds.{name}").KIND

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


KINDS: Mapping[str, "Kind"] = _Kinds()
