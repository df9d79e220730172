"""A project of Supervisely: meta.json, and for each dataset img/ and ann/ with a JSON for each photo."""

import base64
import binascii
import collections
import functools
import io
import posixpath
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mdp_jax.data.imported import shapes
from mdp_jax.data.imported.form import Form, Opened, Options
from mdp_jax.data.imported.names import SPLIT_OF
from mdp_jax.data.imported.naming import colour_in
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json

_META = {"classes": [{"title": str}]}
_ANNOTATION = {"size": {"height": int, "width": int}, "objects": [{"classTitle": str}]}
_MOST_BYTES = 1 << 28  # of an unpacked bitmap


def _annotations(place: Place) -> list[str]:
    return [
        file for file in place.files if posixpath.basename(posixpath.dirname(file)) == "ann" and file.endswith(".json")
    ]


def _recognise(place: Place) -> bool:
    return "meta.json" in place.files and bool(_annotations(place))


def _open(place: Place, options: Options) -> Opened:
    meta = read_json(place.path("meta.json"), "meta.json of a project of Supervisely", _META)
    colours: dict[str, Sequence[int]] = {}
    for row in meta["classes"]:
        if colour := colour_in(row.get("color")):
            colours[row["title"].strip()] = colour
    labels = [row["title"].strip() for row in meta["classes"]]
    described = [_described(place, file, labels) for file in _annotations(place)]
    return shapes.opened(place, options, described, labels, colours)


def _described(place: Place, file: str, labels: Sequence[str]) -> Described:
    where = place.path(file)
    value = read_json(where, "annotations of Supervisely", _ANNOTATION)
    found: list[tuple[str, str, str, dict]] = []
    notes: collections.Counter[str] = collections.Counter()
    for number, each in enumerate(value["objects"]):
        at, kind, label = f"{where}: objects[{number}]", each.get("geometryType"), each["classTitle"].strip()
        if label not in labels:
            raise UserError(f"{at}: classTitle is {label!r}, which meta.json lacks; expected one of its classes")
        if kind in ("polygon", "bitmap", "rectangle"):
            found.append((at, kind, label, each))
        else:
            notes[f"objects of the type {kind}, which has no area, passed over"] += 1
    folder = posixpath.join(posixpath.dirname(posixpath.dirname(file)), "img")
    size = (value["size"]["height"], value["size"]["width"])
    if min(size) < 1:
        raise UserError(f"{where}: size is {size[0]} x {size[1]} (height x width); expected that of the photo")
    split = SPLIT_OF.get(posixpath.basename(posixpath.dirname(posixpath.dirname(file))).lower(), "")
    photo = posixpath.basename(file).removesuffix(".json")
    made = functools.partial(_shapes, found)
    return Described(photo, where, size, made, [label for _, _, label, _ in found], split, folder, notes)


def _shapes(found: Sequence[tuple[str, str, str, dict]], height: int, width: int) -> list[Shape]:
    return [_shape(at, kind, label, each, (height, width)) for at, kind, label, each in found]


def _shape(at: str, kind: str, label: str, each: dict, size: tuple[int, int]) -> Shape:
    if kind == "bitmap":
        pixels, left, top = _bitmap(each.get("bitmap"), at)
        return shapes.bitmap(label, pixels, left, top)
    points = each.get("points")
    if not isinstance(points, dict) or not isinstance(points.get("exterior"), list):
        raise UserError(f"{at}: points is {points!r:.60}; expected exterior and interior")
    outline = shapes.outline(points["exterior"], at)
    if kind == "rectangle" and len(outline):
        (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
        outline = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    interior = points.get("interior") or []
    if not isinstance(interior, list):
        raise UserError(f"{at}: interior is {interior!r:.60}; expected a list of holes")
    holes = [shapes.outline(hole, at) for hole in interior]
    return shapes.pixel_polygon(label, outline, holes, at, size)


def _bitmap(value: object, at: str) -> tuple[np.ndarray, int, int]:
    """Pixels, left and top of a bitmap: a packed PNG whose last channel says what belongs to it."""
    try:
        if not isinstance(value, dict):
            raise ValueError
        left, top = (int(part) for part in value["origin"])
        data = zlib.decompressobj().decompress(base64.b64decode(value["data"], validate=True), _MOST_BYTES)
        pixels = np.array(Image.open(io.BytesIO(data)))
    except (
        OSError,
        ValueError,
        OverflowError,
        TypeError,
        KeyError,
        SyntaxError,
        binascii.Error,
        zlib.error,
        Image.DecompressionBombError,
    ):
        raise UserError(
            f"{at}: its bitmap cannot be read; expected origin and data, as Supervisely writes them"
        ) from None
    return (pixels[..., -1] if pixels.ndim == 3 else pixels) > 0, left, top


FORM = Form(
    summary="a project of Supervisely",
    signs="meta.json, and folders ann with JSON files",
    recognise=_recognise,
    open=_open,
)
