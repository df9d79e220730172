"""Shapes of annotations (polygons, runs, bitmaps, boxes) become masks of class ids."""

import collections
import dataclasses
import functools
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_masks

from mdp_jax.data.imported import names
from mdp_jax.data.imported.form import (
    BACKGROUND,
    IGNORED,
    Drawn,
    Labelled,
    Opened,
    Options,
    Photo,
    classes_of,
    fitted,
    require_size,
)
from mdp_jax.data.imported.place import Finder, Place
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import IGNORE
from mdp_jax.errors import UserError
from mdp_jax.words import counted, some

_BACKGROUNDS = ("background", "_background_")  # labels that mean what no shape covers
_FAR = 4  # sides of a photo that a polygon may reach beyond it; one that reaches farther is of another photo
_SLACK = 1.0  # pixels beyond a photo that are no news: tools round

SHORT = "polygons with fewer than three corners, passed over"

Pen = Callable[[int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A region of a photo and its label.

    Attributes:
      label: of the annotation.
      draw: (height, width) -> bool [height, width], the pixels of the region.
      level: shapes of a higher level are drawn over those of a lower one.
      beyond: "" where it lies in the photo; otherwise what is to be said of it.
    """

    label: str
    draw: Pen
    level: int = 0
    beyond: str = ""


@dataclasses.dataclass(frozen=True)
class Described:
    """A photo as annotations describe it.

    Attributes:
      file: the photo's name in the annotations.
      where: the file that describes it.
      size: (height, width) that the annotations state, or None.
      shapes: reads them, in the order of the annotations: (height, width) -> shapes.
      labels: of the shapes.
      split: that the annotations state, or "".
      near: relative folder of the annotations, where the photo is searched first.
      notes: what is passed over, in the plural -> how often.
    """

    file: str
    where: str
    size: tuple[int, int] | None
    shapes: Callable[[int, int], Sequence[Shape]]
    labels: Sequence[str]
    split: str = ""
    near: str = ""
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)


def polygon(label: str, outlines: Sequence[np.ndarray], where: str, size: tuple[int, int], level: int = 0) -> Shape:
    """A region of one or more polygons, whose corners are points between pixels: (0, 0) is the photo's own corner.

    Drawn as COCO's own tools draw it (pycocotools).

    Args:
      label: of the region.
      outlines: float [n, 2] each, x and y in pixels; the region is their union.
      where: the annotation, for errors.
      size: height and width of the photo.
      level: as of Shape.

    Raises:
      UserError: it lies far outside of the photo.
    """
    flat = [outline.ravel().tolist() for outline in outlines]

    def draw(height: int, width: int) -> np.ndarray:
        return coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(flat, height, width))).astype(bool)

    return Shape(label, draw, level, _beyond(np.concatenate(outlines), where, size))


def pixel_polygon(
    label: str, outline: np.ndarray, holes: Sequence[np.ndarray], where: str, size: tuple[int, int]
) -> Shape:
    """A region whose corners are pixels, all of which belong to it, without the pixels of its holes.

    Args:
      label: of the region.
      outline: float [n, 2], x and y of pixels.
      holes: likewise.
      where: the annotation, for errors.
      size: height and width of the photo.

    Raises:
      UserError: it lies far outside of the photo.
    """

    def draw(height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width), np.uint8)
        cv2.fillPoly(found, [np.rint(outline).astype(np.int32)], 1)
        if holes:
            cv2.fillPoly(found, [np.rint(hole).astype(np.int32) for hole in holes], 0)
        return found.astype(bool)

    inside = (size[0] - 1, size[1] - 1)
    for hole in holes:
        _beyond(hole, where, inside)
    return Shape(label, draw, 0, _beyond(outline, where, inside))


def box(label: str, left: float, top: float, right: float, bottom: float, where: str, size: tuple[int, int]) -> Shape:
    """A rectangle as a polygon; the arguments are as of `polygon`."""
    x, y = sorted((left, right)), sorted((top, bottom))
    corners = np.array([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], np.float64)
    return polygon(label, [corners], where, size)


def ellipse(label: str, centre: Sequence[float], radii: Sequence[float], where: str, size: tuple[int, int]) -> Shape:
    """An ellipse as a polygon of 72 corners; centre and radii are x and y in pixels, the others as of `polygon`."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return polygon(
        label, [np.asarray(centre) + np.asarray(radii) * np.stack([np.cos(turn), np.sin(turn)], 1)], where, size
    )


def bitmap(label: str, pixels: np.ndarray, left: int, top: int, level: int = 0) -> Shape:
    """A region given by its pixels, bool [h, w], the first of which is the photo's pixel (top, left)."""

    def draw(height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width), bool)
        # An end below 0 would count from the other side.
        inside = pixels[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        y, x = min(max(0, top), height), min(max(0, left), width)
        found[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        return found

    return Shape(label, draw, level)


def runs(label: str, rle: dict, where: str, size: tuple[int, int], level: int = 0) -> Shape:
    """A region as COCO's run lengths, packed (text) or not (numbers).

    Args:
      label: of the region.
      rle: {"size": [height, width], "counts": text or numbers}.
      where: the annotation, for errors.
      size: height and width of the photo.
      level: as of Shape.

    Raises:
      UserError: the runs are of another size or do not fill the photo.
    """
    height, width = size
    if rle.get("size") != [height, width]:
        raise UserError(
            f"{where}: runs of size {rle.get('size')!r:.40}; expected [{height}, {width}], that of the photo"
        )
    counts = rle.get("counts")
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
            raise UserError(f"{where}: the runs do not cover {height * width:,} pixels; expected those of the photo")
        packed = coco_masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    elif isinstance(counts, str) and counts.isascii():
        packed = {"size": [height, width], "counts": counts.encode()}
        if _total(counts) != height * width:
            raise UserError(f"{where}: the runs do not cover {height * width:,} pixels; expected those of the photo")
    else:
        raise UserError(f"{where}: counts is {counts!r:.40}; expected run lengths as numbers, or COCO's text of them")
    return Shape(label, lambda *_: coco_masks.decode(packed).astype(bool), level)


def _total(counts: str) -> int:
    """The pixels of packed run lengths: 5 bits a letter, lowest first, from the third run on less the last but one."""
    found: list[int] = []
    at = 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more and at < len(counts):
            code = ord(counts[at]) - 48
            at += 1
            value |= (code & 0x1F) << shift
            shift += 5
            more = bool(code & 0x20)
            if not more and code & 0x10:
                value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        if found[-1] < 0:
            return -1
    return sum(found)


def _beyond(points: np.ndarray, where: str, size: tuple[int, int]) -> str:
    """What is to be said of points outside of a photo; UserError where they are far away."""
    if not len(points):
        raise UserError(f"{where}: a polygon without corners; expected x and y of each")
    if not np.isfinite(points).all():
        raise UserError(f"{where}: a corner that is no number; expected x and y in pixels")
    height, width = size
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -_FAR * np.array([width, height])).any() or (high > (1 + _FAR) * np.array([width, height])).any():
        x, y = points[np.argmax(np.abs(points).max(axis=1))]
        raise UserError(
            f"{where}: a corner at x={x:g}, y={y:g}, far outside of a photo of {height} x {width} pixels (height x "
            "width); expected the photo that was annotated, in its size"
        )
    if high[0] <= 0 or high[1] <= 0 or low[0] >= width or low[1] >= height:
        return "shapes outside of their photos, passed over"
    if min(low) < -_SLACK or high[0] > width + _SLACK or high[1] > height + _SLACK:
        return "shapes that reach beyond their photos, cut at the border"
    return ""


def opened(
    place: Place,
    options: Options,
    described: Iterable[Described],
    labels: Sequence[str] | None = None,
    colours: Mapping[str, Sequence[int]] | None = None,
    aside: Collection[str] = (),
) -> Opened:
    """Finds the photos of annotations, and makes classes of their labels.

    Args:
      place: that is imported from.
      options: of the user.
      described: the photos as the annotations describe them.
      labels: all labels in the order that the annotations have; None = those of the shapes, in order of their names.
      colours: label -> RGB that the annotations have for it.
      aside: paths of image files that are no photos.

    Returns:
      What there is to import.

    Raises:
      UserError: photos are missing, a photo is described twice, or there is no class.
    """
    described = list(described)
    where = str(place.given)
    finder = Finder(place, options.images, aside)
    found, missing = [], []
    taken: dict[str, Described] = {}
    for each in described:
        photo = finder.find(each.file, each.near)
        if photo is None:
            missing.append(each)
        elif photo in taken:
            raise UserError(
                f"{each.where}: describes {each.file} as {taken[photo].where} does; expected each photo once"
            )
        else:
            taken[photo] = each
            found.append((photo, each))
    notes = _missing_notes(missing, len(described), options, finder)
    if left := finder.left():
        notes.append(
            f"passed over: {counted(len(left), 'photo')} without an annotation ({some(map(finder.path, left), 1)})"
        )
    notes += _elsewhere(found, bool(options.images))
    passed: collections.Counter = collections.Counter()
    for _, each in found:
        passed.update(each.notes)
    notes += [f"{what}: {count:,}" for what, count in passed.items()]
    all_labels = list(labels) if labels is not None else _in_order(described)
    classes, ids, palette = _classes(all_labels, colours or {}, options, where)
    known = options.naming.names()
    alike = {listing.composed(label) for label in all_labels}
    unused = [key for key in known if listing.composed(key) not in alike]
    if unused:
        raise UserError(
            f"--classes {unused[0]}={known[unused[0]]}: no such label in {where}; its labels are "
            f"{some(all_labels) or 'none'}"
        )
    labelled = [
        Labelled(
            names.understood(photo).named.name,
            finder.path(photo),
            each.where,
            functools.partial(_mask, each, ids, options),
            each.split or names.split_of(photo),
        )
        for photo, each in found
    ]
    if not labelled:
        raise UserError(f"{where}: describes no photo; expected annotations of photos in {finder.root}")
    return Opened(classes, labelled, palette, notes)


def _elsewhere(found: Sequence[tuple[str, Described]], in_given_folder: bool) -> list[str]:
    """What is to be said of photos in other folders than the annotations name: they may be other photos.

    Args:
      found: (relative path of a photo, its description).
      in_given_folder: whether the user names the folder of the photos.
    """
    paths = [(listing.composed(photo), listing.composed(each.file.replace("\\", "/"))) for photo, each in found]
    nears = ["" if in_given_folder else each.near for _, each in found]
    beside = [
        photo == posixpath.normpath(posixpath.join(near, name))
        for (photo, name), near in zip(paths, nears, strict=True)
    ]
    used = {near for near, is_beside in zip(nears, beside, strict=True) if is_beside}
    alone = [
        number
        for number, (photo, name) in enumerate(paths)
        if not beside[number]
        and (nears[number] in used or not f"/{photo}".endswith(f"/{posixpath.normpath(name).lstrip('./')}"))
    ]
    if not alone:
        return []
    photo, each = found[alone[0]]
    return [
        f"photos found by their names alone, in other folders than those of the annotations: {len(alone)} "
        f"({each.where} describes {each.file}, and {photo} was taken)"
    ]


def _missing_notes(missing: Sequence[Described], total: int, options: Options, finder: Finder) -> list[str]:
    if not missing:
        return []
    first = missing[0]
    if not options.skip_missing:
        more = f"; the same holds for {len(missing)} of {total} photos" if len(missing) > 1 else ""
        raise UserError(
            f"{first.where}: describes {first.file}, which is not in {finder.root}{more}; name the folder of the "
            "photos in --images, or pass over what is missing with --skip_missing"
        )
    names_of = some((each.file for each in missing), 1)
    return [f"passed over: {len(missing)} of {counted(total, 'described photo')}, not found ({names_of})"]


def _in_order(described: Sequence[Described]) -> list[str]:
    return sorted({label for each in described for label in each.labels})


def _classes(
    labels: Sequence[str], colours: Mapping[str, Sequence[int]], options: Options, where: str
) -> tuple[tuple[str, ...], dict[str, int], np.ndarray | None]:
    """The classes; label -> id, "" for what no shape covers; and the colours, where there is one for each class."""
    known = {listing.composed(key): name for key, name in options.naming.names().items()}
    if "" in labels:
        raise UserError(f"{where}: a label without a name; expected a name of every label")
    keys = {label: listing.composed(label) for label in labels}
    # One line for each in classes.txt, and one form of Unicode: names that look the same are one class.
    name_of = {label: listing.composed(" ".join(known.get(key, key).split())) for label, key in keys.items()}
    of_key = {key: name_of[label] for label, key in keys.items()}
    # What a user says of the pixels that no shape covers goes before what a label means by its name.
    by_name = options.background == BACKGROUND
    backgrounds = [label for label in labels if by_name and label.casefold() in _BACKGROUNDS]
    rest = name_of[backgrounds[0]] if backgrounds else listing.composed(options.background)
    # Named classes in the order of --classes, so that a user can choose the ids.
    named = list(
        dict.fromkeys([*(of_key[key] for key in known if key in of_key), *(name_of[label] for label in labels)])
    )
    order = named if rest in named and not backgrounds else [rest, *named]
    classes = classes_of(order, where)
    ids = {label: classes.index(name) if name != IGNORED else IGNORE for label, name in name_of.items()}
    ids[""] = classes.index(rest) if rest != IGNORED else IGNORE
    of_class: dict[str, tuple[int, ...]] = {rest: (0, 0, 0)}
    for label, colour in colours.items():
        if label in name_of:
            of_class[name_of[label]] = tuple(colour)
    palette = [of_class[name] for name in classes if name in of_class]
    whole = len(palette) == len(classes) == len(set(palette))
    return classes, ids, np.array(palette, np.uint8) if whole and colours else None


def _mask(described: Described, ids: Mapping[str, int], options: Options, photo: Photo) -> Drawn:
    """The mask of a photo."""
    size = described.size or (photo.height, photo.width)
    what = "the photo that it describes"
    require_size(size, photo, described.where, what)  # before anything of a wrong size is drawn
    shapes = sorted(described.shapes(*size), key=lambda shape: shape.level)
    drawn = paint(shapes, ids, size, options.overlap)
    whole = fitted(drawn.ids, photo, described.where, what)
    return Drawn(whole.ids, {**drawn.notes, **whole.notes})


def paint(shapes: Sequence[Shape], ids: Mapping[str, int], size: tuple[int, int], overlap: str) -> Drawn:
    """Draws shapes over each other.

    Args:
      shapes: in order.
      ids: label -> class id, "" for pixels that no shape covers.
      size: height and width.
      overlap: "later" draws them in their order; "smaller" the larger ones first; "ignore" ignores the pixels that
        shapes of two classes cover.

    Returns:
      The mask.
    """
    notes: collections.Counter = collections.Counter()
    mask = np.full(size, ids[""], np.uint8)
    covered = np.zeros(size, bool)
    twice = np.zeros(size, bool)
    regions = []
    for shape in shapes:
        notes.update([shape.beyond] if shape.beyond else [])
        pixels = shape.draw(*size)
        if pixels.any():
            regions.append((pixels, ids[shape.label]))
        elif not shape.beyond:
            notes["shapes that cover no pixel"] += 1
    if overlap == "smaller":
        regions.sort(key=lambda region: -int(np.count_nonzero(region[0])))
    for pixels, index in regions:
        twice |= pixels & covered & (mask != index)
        mask[pixels] = index
        covered |= pixels
    if overlap == "ignore":
        mask[twice] = IGNORE
    count = int(np.count_nonzero(twice))
    notes.update({"pixels that shapes of two classes cover": count} if count else {})
    notes.update({"photos without a shape": 1} if not shapes else {})
    return Drawn(mask, notes)


def outline(points: object, where: str) -> np.ndarray:
    """The corners of a polygon.

    Args:
      points: a list of pairs, or of x, y, x, y and so on.
      where: the annotation, for errors.

    Returns:
      float64 [n, 2].

    Raises:
      UserError: it is something else.
    """
    try:
        found = np.asarray(points, np.float64)
        if found.ndim == 2 and found.size and found.shape[1] != 2:
            raise ValueError
        return found.reshape(-1, 2)
    except (ValueError, TypeError):
        raise UserError(f"{where}: corners {points!r:.60}; expected x and y of each") from None


def folder_of(file: str) -> str:
    """The relative folder of a file, with /."""
    return posixpath.dirname(file)
