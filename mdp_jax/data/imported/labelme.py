"""LabelMe's JSON, one file beside each photo."""

import base64
import binascii
import collections
import functools
import io
import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mdp_jax.data.imported import shapes
from mdp_jax.data.imported.form import Form, Opened, Options
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json
from mdp_jax.words import counted

_LOOKED_AT = 5  # JSON files by which the form is recognised
_JSON = {"shapes": [{"label": str, "points": [[float]]}], "imagePath": str}
_REGIONS = ("polygon", "rectangle", "circle", "mask")


def _is_labelme(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("shapes"), list) and "imagePath" in value


def _recognise(place: Place) -> bool:
    return any(_is_labelme(place.json(file)) for file in place.annotations(".json")[:_LOOKED_AT])


def _open(place: Place, options: Options) -> Opened:
    return shapes.opened(place, options, [_described(place, file) for file in place.annotations(".json")])


def _described(place: Place, file: str) -> Described:
    where = place.path(file)
    value = read_json(where, "annotations of LabelMe", _JSON)
    found: list[tuple] = []
    notes: collections.Counter[str] = collections.Counter()
    for number, shape in enumerate(value["shapes"]):
        kind = shape.get("shape_type") or "polygon"
        corners = len(shape["points"])
        if kind not in _REGIONS:
            notes[f"shapes of the type {kind}, which has no area, passed over"] += 1
        elif kind == "polygon" and corners < 3:
            notes[shapes.SHORT] += 1
        elif kind != "polygon" and corners != 2:
            raise UserError(f"{where}: shapes[{number}] is a {kind} of {counted(corners, 'point')}; expected 2")
        else:
            # The photo as text is in these files, too; only what is drawn is kept.
            found.append(
                (f"{where}: shapes[{number}]", kind, shape["label"].strip(), shape["points"], shape.get("mask"))
            )
    size = (value.get("imageHeight"), value.get("imageWidth"))
    stated = size if all(type(side) is int and side > 0 for side in size) else None
    photo = value["imagePath"].replace("\\", "/")
    return Described(
        posixpath.basename(photo),
        where,
        stated,
        functools.partial(_shapes, found),
        [label for _, _, label, _, _ in found],
        near=posixpath.normpath(posixpath.join(shapes.folder_of(file), posixpath.dirname(photo))),
        notes=notes,
    )


def _shapes(found: Sequence[tuple], height: int, width: int) -> list[Shape]:
    size = (height, width)
    return [
        _shape(where, kind, label, shapes.outline(points, where), mask, size)
        for where, kind, label, points, mask in found
    ]


def _shape(where: str, kind: str, label: str, points: np.ndarray, mask: Any, size: tuple[int, int]) -> Shape:
    if kind == "polygon":
        return shapes.polygon(label, [points], where, size)
    if kind == "rectangle":
        (left, top), (right, bottom) = points.tolist()
        return shapes.box(label, left, top, right, bottom, where, size)
    if kind == "circle":  # its centre, and a point on it
        radius = float(np.hypot(*(points[1] - points[0])))
        return shapes.ellipse(label, points[0], (radius, radius), where, size)
    try:
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(mask, validate=True)))) > 0
        if pixels.ndim != 2:
            raise ValueError
    except (OSError, ValueError, TypeError, binascii.Error, SyntaxError, Image.DecompressionBombError):
        raise UserError(
            f"{where}: its mask cannot be read; expected a grey PNG in base64, as LabelMe writes it"
        ) from None
    left, top = np.rint(points.min(axis=0)).astype(int).tolist()
    return shapes.bitmap(label, pixels, left, top)


FORM = Form(
    summary="LabelMe's JSON, one file for each photo",
    signs="JSON files with shapes and imagePath",
    recognise=_recognise,
    open=_open,
)
