"""The forms of annotations by name. A form is a module of this package that has its record as FORM."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdp_jax.data.imported.form import Form

_NAMES = (
    "coco",
    "panoptic",
    "labelme",
    "cvat",
    "supervisely",
    "label_studio",
    "masks",
)


class _Forms(Mapping[str, "Form"]):
    """Name -> Form; the module of a form is imported when it is asked for, so that the names cost nothing."""

    def __getitem__(self, name: str) -> "Form":
        if name not in _NAMES:
            raise KeyError(name)
        return importlib.import_module(f"mdp_jax.data.imported.{name}").FORM

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


FORMS: Mapping[str, "Form"] = _Forms()
