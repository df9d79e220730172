"""CVAT's XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks."""

import collections
import functools
import math
import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np

from mdp_jax.data.imported import shapes
from mdp_jax.data.imported.form import Form, Opened, Options
from mdp_jax.data.imported.names import SPLIT_OF
from mdp_jax.data.imported.naming import colour_in
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError
from mdp_jax.storage.files import read_bytes
from mdp_jax.words import counted

_REGIONS = ("polygon", "box", "ellipse", "mask")
_MOST_PIXELS = 1 << 27  # of a mask
_MOST_NUMBER = 1e9  # of pixels, degrees or layers
_LINES = ("polyline", "points", "cuboid", "skeleton")


def _files(place: Place) -> list[str]:
    return [file for file in place.annotations(".xml") if b"<annotations" in _start(place.path(file))]


def _start(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def _root(path: str) -> ET.Element:
    data = read_bytes(path, "annotations of CVAT")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # CVAT writes none, and some blow up in the memory
        raise UserError(f"{path}: has a document type; expected CVAT's own XML, which has none")
    try:
        return ET.fromstring(data)
    except (ET.ParseError, LookupError, ValueError) as error:  # the others are of encodings that Python does not know
        raise UserError(f"{path}: not valid XML ({error}); expected annotations of CVAT") from None


def _open(place: Place, options: Options) -> Opened:
    described: list[Described] = []
    labels: dict[str, None] = {}
    colours: dict[str, Sequence[int]] = {}
    for file in _files(place):
        where = place.path(file)
        root = _root(where)
        if root.find("track") is not None or (root.find("image") is None and root.find(".//mode") is not None):
            raise UserError(
                f"{where}: tracks of a video; expected the export 'CVAT for images 1.1', and frames as photos"
            )
        for label in root.iterfind("./meta//labels/label"):
            name = (label.findtext("name") or "").strip()
            labels[name] = None
            if colour := colour_in(label.findtext("color")):
                colours[name] = colour
        images = root.findall("image")
        described += [_described(file, where, image) for image in images]
    if not described:
        raise UserError(f"{place.given}: no <image> in it; expected the export 'CVAT for images 1.1'")
    for each in described:
        labels |= dict.fromkeys(each.labels)
    return shapes.opened(place, options, described, list(labels), colours)


def _described(file: str, where: str, image: ET.Element) -> Described:
    name = image.get("name")
    if not name:
        raise UserError(f"{where}: an <image> has no name; expected the name of its photo")
    here = f"{where}: image {name}"
    height, width = _numbers(image, ("height", "width"), here)
    found: list[tuple[str, ET.Element]] = []
    notes: collections.Counter[str] = collections.Counter()
    for number, shape in enumerate(image):
        at = f"{here}: <{shape.tag}> {number + 1}"
        if shape.tag in _LINES:
            notes[f"<{shape.tag}> shapes without an area, passed over"] += 1
        elif shape.tag == "polygon" and (shape.get("points") or "").count(";") < 2:
            notes[shapes.SHORT] += 1
        elif shape.tag in _REGIONS:
            if not shape.get("label"):
                raise UserError(f"{at} has no label; expected one")
            found.append((at, shape))
    labels = [shape.get("label", "").strip() for _, shape in found]
    split = SPLIT_OF.get((image.get("subset") or "").lower(), "")
    size = (int(height), int(width))
    return Described(name, where, size, functools.partial(_shapes, found), labels, split, _near(file), notes)


def _near(file: str) -> str:
    """CVAT writes photos into images/ beside the XML."""
    return posixpath.join(posixpath.dirname(file), "images")


def _shapes(found: Sequence[tuple[str, ET.Element]], height: int, width: int) -> list[Shape]:
    return [_shape(at, each, (height, width)) for at, each in found]


def _shape(at: str, shape: ET.Element, size: tuple[int, int]) -> Shape:
    label = shape.get("label", "").strip()
    level = int(_numbers(shape, ("z_order",), at)[0]) if shape.get("z_order") else 0
    if shape.tag == "mask":
        return shapes.bitmap(label, *_runs(shape, at), level=level)
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair]
        corners = shapes.outline(pairs, at)
        if len(corners) < 3:
            raise UserError(f"{at}: {counted(len(corners), 'corner')}; expected at least 3")
    elif shape.tag == "box":
        left, top, right, bottom = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"), at)
        corners = _turned(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), shape, at)
    else:
        x, y, wide, high = _numbers(shape, ("cx", "cy", "rx", "ry"), at)
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        corners = _turned(np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], 1), shape, at)
    return shapes.polygon(label, [corners], at, size, level)


def _turned(corners: np.ndarray, shape: ET.Element, at: str) -> np.ndarray:
    """Turned clockwise around the middle, as CVAT's attribute says."""
    if not shape.get("rotation"):
        return corners
    angle = np.deg2rad(_numbers(shape, ("rotation",), at)[0])
    middle = corners.mean(axis=0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (corners - middle) @ turn.T + middle


def _runs(shape: ET.Element, at: str) -> tuple[np.ndarray, int, int]:
    """The pixels of a mask, row by row within its box; its left and its top."""
    left, top, width, height = (int(value) for value in _numbers(shape, ("left", "top", "width", "height"), at))
    words = (shape.get("rle") or "").replace(",", " ").split()
    counts = [int(word) for word in words if word.isdecimal() and len(word) < 18]
    if width * height > _MOST_PIXELS:
        raise UserError(f"{at}: a mask of {width} x {height} pixels; expected at most {_MOST_PIXELS:,}")
    if len(counts) != len(words) or width < 1 or height < 1 or sum(counts) != width * height:
        raise UserError(f"{at}: its runs are not {width} x {height} pixels in all; expected those of its box")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width), left, top


def _numbers(element: ET.Element, names: Sequence[str], at: str) -> list[float]:
    found = []
    for name in names:
        try:
            value = float(element.get(name, ""))
        except ValueError:
            value = math.nan
        if not abs(value) < _MOST_NUMBER:
            raise UserError(f"{at}: {name} is {element.get(name)!r:.40}; expected a number")
        found.append(value)
    return found


FORM = Form(
    summary="CVAT's XML, exported as 'CVAT for images 1.1'",
    signs="an XML whose root is <annotations>",
    recognise=lambda place: bool(_files(place)),
    open=_open,
)
