"""COCO's JSON of instances: polygons and run lengths, with one file for each split or for all."""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdp_jax.data.imported import names, shapes
from mdp_jax.data.imported.form import Form, Opened, Options
from mdp_jax.data.imported.place import Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError
from mdp_jax.words import counted

_KEYS = ("images", "annotations", "categories")
_MOST = 40  # JSON files of a place up to which they are looked into: a file for each photo is no COCO set
_NO_MASK = "annotations with a box and no mask, passed over"
_WORDS = {int: "a whole number", str: "text", list: "a list"}


def is_coco(value: Any) -> bool:
    """Whether a JSON value has the three lists of COCO's files.

    Args:
      value: of a file.
    """
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in _KEYS)


def files(place: Place, panoptic: bool) -> list[str]:
    """The files of a place that are COCO's, relative with /.

    Args:
      place: that is imported from.
      panoptic: whether those of panoptic segmentation are wanted, or those of instances.
    """
    found = []
    candidates = place.annotations(".json")
    if len(candidates) > _MOST:
        return []
    for file in candidates:
        value = place.json(file)
        if is_coco(value):
            first = value["annotations"][0] if value["annotations"] else {}
            if (isinstance(first, dict) and "segments_info" in first) == panoptic:
                found.append(file)
    return found


def entry(value: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value of an object in JSON.

    Args:
      value: the object.
      key: of the value.
      kind: that it has to be.
      where: the object, for errors.

    Raises:
      UserError: it is missing or something else.
    """
    if not isinstance(value, dict) or key not in value:
        raise UserError(f"{where} has no {key!r}; expected one, as in COCO's files")
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        words = " or ".join(_WORDS[each] for each in kinds)
        raise UserError(f"{where}: {key} is {found!r:.60}; expected {words}, as in COCO's files")
    return found


def by_id(rows: Sequence[Any], what: str, where: str) -> dict[Any, Any]:
    """Objects by their ids.

    Args:
      rows: of the JSON.
      what: they are, for errors.
      where: the file, for errors.

    Raises:
      UserError: an id is missing or there twice.
    """
    found: dict[Any, Any] = {}
    for number, row in enumerate(rows):
        key = entry(row, "id", (int, str), f"{where}: {what}[{number}]")
        if key in found:
            raise UserError(
                f"{where}: {what}[{number}] has the id {key!r:.60}, as another one has; expected each id once"
            )
        found[key] = row
    return found


def categories(value: Mapping[str, Any], where: str) -> dict[Any, str]:
    """Id -> name of the categories.

    Args:
      value: of the file.
      where: the file, for errors.
    """
    rows = by_id(value["categories"], "categories", where)
    return {key: entry(row, "name", str, f"{where}: category {key}").strip() for key, row in rows.items()}


def same_names(of_category: Mapping[Any, str], where: str) -> list[str]:
    """What is to be said of categories of one name: masks have one class for them.

    Args:
      of_category: id -> name of the categories of a file.
      where: the file.
    """
    ids: dict[str, list[Any]] = {}
    for key, name in of_category.items():
        ids.setdefault(name, []).append(key)
    return [
        f"one class for the categories {' and '.join(map(str, keys))}, as they have the same name {name!r} ({where})"
        for name, keys in ids.items()
        if len(keys) > 1
    ]


def size_of(image: Any, where: str) -> tuple[int, int]:
    """Height and width that the file states for a photo.

    Args:
      image: the object.
      where: it, for errors.
    """
    height, width = (entry(image, key, int, where) for key in ("height", "width"))
    if min(height, width) < 1:
        raise UserError(f"{where}: {height} x {width} pixels (height x width); expected at least one")
    return height, width


def _open(place: Place, options: Options) -> Opened:
    described: list[Described] = []
    labels: dict[str, None] = {}
    said: list[str] = []
    found = files(place, panoptic=False)
    for file in found:
        value, where = place.json(file), place.path(file)
        of_category = categories(value, where)
        labels |= dict.fromkeys(of_category.values())
        said += same_names(of_category, where)
        described += _described(value, of_category, file, where, len(found) > 1)
    if not any(each.labels for each in described):
        boxes = sum(each.notes.get(_NO_MASK, 0) for each in described)
        reason = f"{counted(boxes, 'box', 'boxes')} and no mask: a set for detection" if boxes else "no annotation"
        raise UserError(
            f"{place.path(found[0]) if found else place.given}: {reason}; expected polygons or run lengths in its "
            "annotations"
        )
    opened = shapes.opened(place, options, described, list(labels))
    return dataclasses.replace(opened, notes=[*said, *opened.notes])


def _described(
    value: Mapping[str, Any], of_category: Mapping[Any, str], file: str, where: str, one_of_several: bool
) -> list[Described]:
    images = by_id(value["images"], "images", where)
    of_image: dict[Any, list[tuple[str, dict]]] = {key: [] for key in images}
    notes: dict[Any, collections.Counter[str]] = {key: collections.Counter() for key in images}
    for number, annotation in enumerate(value["annotations"]):
        place = f"{where}: annotations[{number}]"
        image, category = (entry(annotation, key, (int, str), place) for key in ("image_id", "category_id"))
        for key, known, what, among in (
            (image, images, "image_id", "images"),
            (category, of_category, "category_id", "categories"),
        ):
            if key not in known:
                raise UserError(f"{place}: {what} is {key!r:.60}; expected the id of one of the file's {among}")
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and segmentation:
            outlines = _outlines(segmentation, place)
            if outlines:
                of_image[image].append((place, annotation))
            else:
                notes[image][shapes.SHORT] += 1
        elif isinstance(segmentation, dict):
            of_image[image].append((place, annotation))
        else:
            notes[image][_NO_MASK] += 1
    split = names.split_of(file) if one_of_several else ""
    found = []
    for key, image in images.items():
        of_it = of_image[key]
        place = f"{where}: image {key}"
        found.append(
            Described(
                entry(image, "file_name", str, place),
                where,
                size_of(image, place),
                functools.partial(_shapes, of_it, of_category),
                [of_category[annotation["category_id"]] for _, annotation in of_it],
                split,
                shapes.folder_of(file),
                notes[key],
            )
        )
    return found


def _shapes(
    annotations: Sequence[tuple[str, dict]], of_category: Mapping[Any, str], height: int, width: int
) -> list[Shape]:
    found = []
    for where, annotation in annotations:
        label, segmentation = of_category[annotation["category_id"]], annotation["segmentation"]
        # A crowd is a rough region around many objects: what was drawn exactly lies over it.
        level = -1 if annotation.get("iscrowd") else 0
        if isinstance(segmentation, dict):
            found.append(shapes.runs(label, segmentation, where, (height, width), level))
            continue
        found.append(shapes.polygon(label, _outlines(segmentation, where), where, (height, width), level))
    return found


def _outlines(segmentation: list, where: str) -> list[np.ndarray]:
    """The polygons of a region that have an area."""
    # Some tools write the one polygon of a region without a list around it.
    parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return [outline for part in parts if len(outline := shapes.outline(part, where)) >= 3]


FORM = Form(
    summary="COCO's JSON of instances",
    signs="a JSON with images, annotations and categories",
    recognise=lambda place: bool(files(place, panoptic=False)),
    open=_open,
)
