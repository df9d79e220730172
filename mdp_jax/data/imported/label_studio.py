"""Label Studio's JSON export: brushes, polygons and boxes."""

import collections
import functools
import posixpath
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdp_jax.data.imported import shapes
from mdp_jax.data.imported.form import Form, Opened, Options
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError
from mdp_jax.storage.json_files import read_json
from mdp_jax.words import counted

_LABELS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
_UPLOADED = re.compile("[0-9a-f]{8}-(.+)")  # what Label Studio puts before the name of an uploaded photo
_EXPORT = [{"data": {}, "annotations": [{"result": [{"type": str}]}]}]
_MOST = 40  # JSON files of a place up to which they are looked into


def _is_export(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(task, dict) for task in value)
        and "annotations" in value[0]
    )


def _files(place: Place) -> list[str]:
    files = place.annotations(".json")
    return [file for file in files if _is_export(place.json(file))] if len(files) <= _MOST else []


def _open(place: Place, options: Options) -> Opened:
    described = []
    for file in _files(place):
        for number, task in enumerate(read_json(place.path(file), "an export of Label Studio", _EXPORT)):
            described.append(_described(place, file, f"task {task.get('id', number)}", task))
    return shapes.opened(place, options, described)


def _described(place: Place, file: str, name: str, task: dict) -> Described:
    where = f"{place.path(file)}: {name}"
    data = task["data"]
    url = next((value for value in data.values() if isinstance(value, str) and "." in value), None)
    if url is None:
        raise UserError(f"{where}: data is {data!r:.60}; expected the name of its photo")
    annotations = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if len(annotations) > 1:
        raise UserError(
            f"{where}: {len(annotations)} annotations of one photo; expected one: choose it in Label Studio"
        )
    found: list[tuple[str, str, str, dict]] = []
    notes: collections.Counter[str] = collections.Counter()
    size = None
    for number, result in enumerate(annotations[0]["result"] if annotations else []):
        value, kind = result.get("value"), result.get("type")
        if kind not in _LABELS:
            notes[f"results of the type {kind}, passed over"] += 1
            continue
        at = f"{where}: result[{number}]"
        labels = value.get(kind) if isinstance(value, dict) else None
        if not isinstance(labels, list) or len(labels) != 1:
            raise UserError(f"{at}: {kind} is {labels!r:.60}; expected one label")
        if result.get("image_rotation"):
            raise UserError(
                f"{at}: the photo was turned in Label Studio; expected image_rotation 0: turn it back there"
            )
        size = (_whole(result, "original_height", at), _whole(result, "original_width", at))
        found.append((at, kind, str(labels[0]).strip(), value))
    photo = _photo(place, url)
    made = functools.partial(_shapes, found)
    return Described(
        photo,
        place.path(file),
        size,
        made,
        [label for _, _, label, _ in found],
        near=shapes.folder_of(file),
        notes=notes,
    )


def _photo(place: Place, url: str) -> str:
    """The name of a photo by its address in Label Studio: uploaded ones have a mark before their own names."""
    try:
        parsed = urllib.parse.urlparse(url)
        local = urllib.parse.parse_qs(parsed.query).get("d")
        name = local[0] if local else urllib.parse.unquote(parsed.path)
    except ValueError:  # no address
        name = url
    name = name.lstrip("/")
    base = posixpath.basename(name)
    if (match := _UPLOADED.fullmatch(base)) and not any(posixpath.basename(file) == base for file in place.images):
        return match[1]
    return name


def _whole(result: dict, key: str, at: str) -> int:
    value = result.get(key)
    if type(value) is not int or value < 1:
        raise UserError(f"{at}: {key} is {value!r:.40}; expected a whole number of pixels")
    return value


def _shapes(found: Sequence[tuple[str, str, str, dict]], height: int, width: int) -> list[Shape]:
    return [_shape(at, kind, label, value, (height, width)) for at, kind, label, value in found]


def _shape(at: str, kind: str, label: str, value: dict, size: tuple[int, int]) -> Shape:
    height, width = size
    scale = np.array([width, height]) / 100  # coordinates are in percent
    if kind == "brushlabels":
        if value.get("format") != "rle" or not isinstance(value.get("rle"), list):
            raise UserError(f"{at}: a brush without rle; expected the JSON export, not JSON-MIN")
        return shapes.bitmap(label, _brush(value["rle"], size, at), 0, 0)
    if kind == "polygonlabels":
        corners = shapes.outline(value.get("points"), at)
        if len(corners) < 3:
            raise UserError(f"{at}: a polygon of {counted(len(corners), 'corner')}; expected at least 3")
        return shapes.polygon(label, [corners * scale], at, size)
    names = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y", "radiusX", "radiusY")
    try:
        x, y, across, down = (float(value[name]) * part for name, part in zip(names, [*scale, *scale], strict=True))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{at}: {value!r:.80}; expected the numbers {', '.join(names)}") from None
    if value.get("rotation"):
        raise UserError(
            f"{at}: a {kind.removesuffix('labels')} that is turned; expected a polygon or a brush in its place"
        )
    if kind == "rectanglelabels":
        return shapes.box(label, x, y, x + across, y + down, at, size)
    return shapes.ellipse(label, (x, y), (across, down), at, size)


def _brush(rle: list, size: tuple[int, int], at: str) -> np.ndarray:
    """The pixels of a brush, bool [H, W], from the bits of thi.ng's rle-pack.

    32 bits for the number of values, 5 for the bits of a value less one, 4 times 4 for the bits of each kind of length
    less one. Then blocks: a bit that says whether one value is repeated, 2 bits for the kind of the length, the length
    less one, and the value or the values. The values are RGBA, and a pixel whose alpha is above 0 belongs to the brush.
    """
    height, width = size
    try:
        bits = np.unpackbits(np.array(rle, np.uint8)) if all(0 <= part < 256 for part in rle) else np.zeros(0, np.uint8)
        text = bits.tobytes().translate(bytes([48, 49]) + bytes(254)).decode()
        count, word, *lengths = (
            int(text[a:b], 2) for a, b in ((0, 32), (32, 37), (37, 41), (41, 45), (45, 49), (49, 53))
        )
        if count != height * width * 4:
            raise UserError(
                f"{at}: runs of {count} values; expected {height * width * 4}, RGBA of {height} x {width} pixels"
            )
        word, lengths = word + 1, [length + 1 for length in lengths]
        values, at_bit, filled = np.zeros(count, np.uint8), 53, 0
        while filled < count:
            repeated, kind = text[at_bit] == "1", int(text[at_bit + 1 : at_bit + 3], 2)
            length = int(text[at_bit + 3 : at_bit + 3 + lengths[kind]], 2) + 1
            at_bit += 3 + lengths[kind]
            if repeated:
                values[filled : filled + length] = int(text[at_bit : at_bit + word], 2)
                at_bit += word
            else:
                block = bits[at_bit : at_bit + word * length].reshape(length, word)
                values[filled : filled + length] = (block @ (1 << np.arange(word - 1, -1, -1)))[: count - filled]
                at_bit += word * length
            filled += length
    except (ValueError, IndexError, TypeError, OverflowError):
        raise UserError(f"{at}: its rle is damaged; expected the run lengths of a whole export") from None
    return values.reshape(height, width, 4)[..., 3] > 0


FORM = Form(
    summary="Label Studio's JSON export, with brushes",
    signs="a JSON that is a list of tasks with annotations",
    recognise=lambda place: bool(_files(place)),
    open=_open,
)
