"""COCO's JSON of panoptic segmentation: PNGs whose colours are numbers of segments, and a category for each number."""

import dataclasses
import functools
import pathlib
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.imported import names, shapes
from mdp_jax.data.imported.coco import by_id, categories, entry, files, same_names, size_of
from mdp_jax.data.imported.form import BACKGROUND, IGNORED, Form, Opened, Options
from mdp_jax.data.imported.place import Finder, Place
from mdp_jax.data.imported.shapes import Described, Shape
from mdp_jax.errors import UserError


def _open(place: Place, options: Options) -> Opened:
    described: list[Described] = []
    labels: dict[str, None] = {}
    colours: dict[str, Sequence[int]] = {}
    pngs: list[str] = []
    said: list[str] = []
    found = files(place, panoptic=True)
    for file in found:
        value, where = place.json(file), place.path(file)
        of_category = categories(value, where)
        labels |= dict.fromkeys(of_category.values())
        said += same_names(of_category, where)
        for row in value["categories"]:
            colour = row.get("color")
            if isinstance(colour, list) and len(colour) == 3 and all(part in range(256) for part in colour):
                colours[row["name"].strip()] = colour
        described += _described(place, value, of_category, file, len(found) > 1, pngs)
    if options.background == BACKGROUND:  # nobody named another one, and value 0 of the PNGs is no class at all
        options = dataclasses.replace(options, background=IGNORED)
    opened = shapes.opened(place, options, described, list(labels), colours, aside=set(pngs))
    return dataclasses.replace(opened, files=pngs, notes=[*said, *opened.notes])


def _described(
    place: Place,
    value: Mapping[str, Any],
    of_category: Mapping[Any, str],
    file: str,
    one_of_several: bool,
    pngs: list[str],
) -> list[Described]:
    """The photos of a file; their PNGs are added to `pngs`."""
    where = place.path(file)
    photos = by_id(value["images"], "images", where)
    # The PNGs lie in a folder of the JSON's name, or anywhere; photos may have the very names of the PNGs.
    folder = posixpath.join(shapes.folder_of(file), pathlib.PurePosixPath(file).stem)
    finder = Finder(place)
    split = names.split_of(file) if one_of_several else ""
    found = []
    for number, annotation in enumerate(value["annotations"]):
        at = f"{where}: annotations[{number}]"
        photo, png = entry(annotation, "image_id", (int, str), at), entry(annotation, "file_name", str, at)
        if photo not in photos:
            raise UserError(f"{at}: image_id is {photo!r:.60}; expected the id of one of the file's images")
        mask = finder.find(png, folder)
        if mask is None:
            raise UserError(f"{at}: {png} is missing; expected it in {place.root / folder}")
        pngs.append(finder.path(mask))
        segments = {}
        for segment in entry(annotation, "segments_info", list, at):
            category = entry(segment, "category_id", (int, str), at)
            if category not in of_category:
                raise UserError(
                    f"{at}: category_id is {category!r:.60}; expected the id of one of the file's categories"
                )
            segments[entry(segment, "id", int, at)] = of_category[category]
        found.append(
            Described(
                entry(photos[photo], "file_name", str, f"{where}: image {photo}"),
                where,
                size_of(photos[photo], f"{where}: image {photo}"),
                functools.partial(_shapes, finder.path(mask), segments),
                list(segments.values()),
                split,
                shapes.folder_of(file),
            )
        )
    return found


def _shapes(png: str, segments: Mapping[int, str], height: int, width: int) -> list[Shape]:
    mask = images.read_values(png).values
    if mask.ndim != 3 or mask.shape[:2] != (height, width):
        raise UserError(f"{png} is {' x '.join(map(str, mask.shape))}; expected RGB of {height} x {width} pixels")
    numbers = mask.astype(np.int64) @ np.array([1, 256, 65536])
    unknown = np.setdiff1d(np.unique(numbers), [0, *segments])
    if len(unknown):
        raise UserError(f"{png} has the segment {unknown[0]}, which segments_info lacks; expected every segment there")
    of_label: dict[str, list[int]] = {}
    for number, label in segments.items():
        of_label.setdefault(label, []).append(number)
    return [shapes.bitmap(label, np.isin(numbers, ids), 0, 0) for label, ids in of_label.items()]


FORM = Form(
    summary="COCO's JSON of panoptic segmentation, with its PNGs",
    signs="a JSON with images, annotations that have segments_info, and categories",
    recognise=lambda place: bool(files(place, panoptic=True)),
    open=_open,
)
