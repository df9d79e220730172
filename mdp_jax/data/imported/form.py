"""A form of annotations as one record, which the form's own file makes."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.data import images
from mdp_jax.data.class_groups import require_name
from mdp_jax.data.imported.naming import Naming
from mdp_jax.data.imported.place import Place
from mdp_jax.data.kinds.classes import IGNORE
from mdp_jax.errors import UserError

IGNORED = "ignore"  # what users write in place of a class for pixels that are ignored
OVERLAPS = ("later", "smaller", "ignore")  # which of two classes has a pixel that both cover
SPLITS = ("train", "val", "test")
TURNED = "masks taken as drawn on their photos as people see them, whose EXIF orientation leaves their size as it is"
BACKGROUND = "background"  # the class of pixels that no shape covers, where a user names none
SHAPES = ("background", "overlap")  # options of annotations by shapes
MASKS = ("masks", "palette", "others", "yes")  # options of masks that are pictures


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user says of the annotations.

    Attributes:
      naming: which key of the annotations is which class; may be empty.
      images: where the photos are: a folder, or a pattern (names.py); "" = it is found.
      masks: where the masks are, likewise.
      palette: name of a published set whose colours the masks have; "" for none.
      background: the class of pixels that no shape covers, or IGNORED.
      others: the class of values and colours that `naming` lacks, or IGNORED; "" = they are refused.
      overlap: one of OVERLAPS.
      skip_missing: whether annotations without a photo, and photos without a mask, are passed over.
      workers: threads.
    """

    naming: Naming = dataclasses.field(default_factory=Naming)
    images: str = ""
    masks: str = ""
    palette: str = ""
    background: str = BACKGROUND
    others: str = ""
    overlap: str = OVERLAPS[0]
    skip_missing: bool = False
    workers: int = 1


class Photo(NamedTuple):
    """A photo that was read.

    Attributes:
      path: of its file.
      height: as people see it, turned by its EXIF orientation.
      width: likewise.
      orientation: EXIF orientation, 1 to 8.
    """

    path: str
    height: int
    width: int
    orientation: int


class Drawn(NamedTuple):
    """The mask of a photo.

    Attributes:
      ids: uint8 [H, W], class ids, IGNORE = ignored.
      notes: what is worth saying, in the plural -> how often it happened.
    """

    ids: np.ndarray
    notes: Mapping[str, int] = collections.Counter()


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A photo and how its mask is made.

    Attributes:
      name: of photo and mask in the result, without suffix, with / between folders.
      photo: path of the photo.
      where: the file that its annotation is in.
      draw: makes the mask of the photo; raises UserError where they do not fit together.
      split: one of SPLITS, or "" where the source does not say.
    """

    name: str
    photo: str
    where: str
    draw: Callable[[Photo], Drawn]
    split: str = ""


class Key(NamedTuple):
    """A colour or value of masks that no map names.

    Attributes:
      key: as a map has it: "#rrggbb", or a number.
      name: a class name to begin with.
      pixels: with it, in all masks.
      photos: with such pixels.
      example: file of the mask with the largest share of them.
    """

    key: str
    name: str
    pixels: int
    photos: int
    example: str


@dataclasses.dataclass(frozen=True)
class Opened:
    """Annotations that were looked through; no photo was read yet.

    Attributes:
      classes: names in the order of their ids.
      labelled: the photos, each with its annotation.
      palette: uint8 RGB [C, 3], the colours of the classes, or None.
      notes: lines that say what was found and what was passed over.
      unconfirmed: the keys of masks whose names nobody gave; a user confirms them.
      files: other files that the masks are made of, beside the photos and their annotations.
    """

    classes: tuple[str, ...]
    labelled: Sequence[Labelled]
    palette: np.ndarray | None = None
    notes: Sequence[str] = ()
    unconfirmed: Sequence[Key] = ()
    files: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of annotations.

    Attributes:
      summary: what it is, in few words.
      signs: what it is recognised by, in words.
      recognise: whether the files of a place are of this form; reads as little as it can.
      open: looks through the annotations and raises UserError where they are wrong; reads no photo.
      last: whether it is asked only where no other form is recognised.
      takes: names of the options that it reads, beside those that every form does (SHAPES or MASKS).
    """

    summary: str
    signs: str
    recognise: Callable[[Place], bool]
    open: Callable[[Place, Options], Opened]
    last: bool = False
    takes: tuple[str, ...] = SHAPES


def classes_of(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """The classes with the given names, each once, without IGNORED.

    Args:
      labels: names in order, repeated or not.
      where: the source, for the error.

    Raises:
      UserError: there are none, or more than a mask can hold.
    """
    names = tuple(dict.fromkeys(name for name in labels if name != IGNORED))
    if not names:
        raise UserError(f"{where}: no class in it; expected labels of some class that is not ignored")
    for name in names:
        require_name(name, where)
        try:
            name.encode()
        except UnicodeEncodeError:  # half a letter of JSON, or bytes of a terminal that is not in UTF-8
            raise UserError(f"{where}: a class is called {name!r:.80}; expected a name that UTF-8 can hold") from None
    if len(names) > IGNORE:
        raise UserError(
            f"{where}: {len(names)} classes; expected at most {IGNORE}, as a mask has 8 bits: merge some with "
            "--classes LABEL=NAME"
        )
    return names


def fitted(ids: np.ndarray, photo: Photo, where: str, what: str) -> Drawn:
    """Fits a mask to its photo: turns it as the photo is turned, where it was drawn on the photo as it is stored.

    Args:
      ids: uint8 [H, W].
      photo: that the mask is of.
      where: file of the annotation, for errors.
      what: what has the size of `ids` there, for errors.

    Returns:
      The mask, uint8 [photo.height, photo.width].

    Raises:
      UserError: the sizes differ.
    """
    height, width = ids.shape
    require_size((height, width), photo, where, what)
    if (height, width) != (photo.height, photo.width):
        whole = images.turned(ids, photo.orientation)
        return Drawn(whole, {"masks turned as the EXIF orientation of their photos says": 1})
    notes = {TURNED: 1} if photo.orientation != 1 and (photo.orientation < 5 or height == width) else {}
    return Drawn(ids, notes)


def require_size(size: tuple[int, int], photo: Photo, where: str, what: str) -> None:
    """Checks that a mask is of the size of its photo, as people see it or as it is stored.

    Args:
      size: height and width of the mask.
      photo: that the mask is of.
      where: file of the annotation, for errors.
      what: what has the size there, for errors.

    Raises:
      UserError: the sizes differ.
    """
    seen = (photo.height, photo.width)
    if size == seen or (photo.orientation >= 5 and size == seen[::-1]):
        return
    found, expected = (f"{height} x {width}" for height, width in (size, seen))
    raise UserError(
        f"{where}: {what} has {found} pixels (height x width) and its photo {photo.path} has {expected}; expected one "
        "size: was the photo resized after it was annotated?"
    )
