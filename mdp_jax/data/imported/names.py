"""Names of photos and masks: patterns that users write, and what folders and ends of names mean without one."""

import os
import pathlib
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from mdp_jax.data.imported.place import Place
from mdp_jax.data.kinds import listing
from mdp_jax.errors import UserError
from mdp_jax.words import some

# Names that people's folders have for splits.
_SPLITS = {
    "train": ("train", "training", "train2014", "train2017"),
    "val": ("val", "valid", "validation", "dev", "eval", "val2014", "val2017"),
    "test": ("test", "testing", "test2014", "test2015", "test2017"),
}
SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
# Names of folders, and beginnings or ends of names of files, that say what a picture is.
_PHOTO_WORDS = (
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpegimages", "leftimg8bit", "rgb",
    "sat",
)  # fmt: skip
_MASK_WORDS = (
    "mask", "masks", "annotation", "annotations", "annot", "annots", "label", "labels", "seg", "segmentation",
    "segmentations", "segmentationclass", "gt", "groundtruth", "ground_truth", "truth", "trimap", "trimaps", "target",
    "targets", "labelids", "ann", "anns",
)  # fmt: skip
_ENDS = re.compile(rf"(.+)[_\-. ]({'|'.join((*_PHOTO_WORDS, *_MASK_WORDS))})", re.I)
_BEGINNINGS = re.compile(rf"({'|'.join((*_PHOTO_WORDS, *_MASK_WORDS))})[_\-. ](.+)", re.I)
_FIELDS = {"name": ".+", "split": "[^/]+", "group": ".+?"}
_TOKENS = re.compile(r"\{(\w*)\}|\*\*|\*")


class Named(NamedTuple):
    """A file by what its name says.

    Attributes:
      name: that a photo and its mask share, with / between folders, in composed form (NFC).
      split: "train", "val", "test" or "".
    """

    name: str
    split: str


class Understood(NamedTuple):
    """What a path means without a pattern.

    Attributes:
      named: name and split.
      is_mask: whether a word for masks is in it.
      is_photo: whether a word for photos is in it.
    """

    named: Named
    is_mask: bool
    is_photo: bool


def understood(file: str) -> Understood:
    """Takes the words for photos, masks and splits out of a path.

    Args:
      file: relative, with /.
    """
    *folders, base = listing.composed(file).split("/")
    stem = posixpath.splitext(base)[0]
    split, words, kept = "", [], []
    for folder in folders:
        word = folder.lower()
        if word in SPLIT_OF:
            split = SPLIT_OF[word]
        elif word in _PHOTO_WORDS or word in _MASK_WORDS:
            words.append(word)
        elif whole := re.fullmatch(r"(\w+?)[_\-](\w+)", word):  # train_masks, images-val
            parts = [whole[1], whole[2]]
            meant = [part in SPLIT_OF or part in _PHOTO_WORDS or part in _MASK_WORDS for part in parts]
            if not all(meant):
                kept.append(folder)
                continue
            split = next((SPLIT_OF[part] for part in parts if part in SPLIT_OF), split)
            words += [part for part in parts if part not in SPLIT_OF]
        else:
            kept.append(folder)
    if match := _ENDS.fullmatch(stem):
        stem = match[1]
        words.append(match[2].lower())
    elif match := _BEGINNINGS.fullmatch(stem):
        stem = match[2]
        words.append(match[1].lower())
    named = Named("/".join([*kept, stem]), split)
    return Understood(named, any(word in _MASK_WORDS for word in words), any(word in _PHOTO_WORDS for word in words))


def split_of(file: str) -> str:
    """The split that a path names: by a folder, or by a word in the file's own name.

    Args:
      file: relative, with /.

    Returns:
      "train", "val", "test", or "" where it names none, or several.
    """
    parts = listing.composed(file).lower().split("/")
    for words in (parts[:-1][::-1], re.split(r"[_\-. ]", parts[-1])):
        found = {SPLIT_OF[word] for word in words if word in SPLIT_OF}
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""


def expression(pattern: str, option: str, fields: Sequence[str], needed: str) -> re.Pattern:
    """The regular expression of a pattern.

    Args:
      pattern: text with fields in braces; * stands for any letters but /, and ** for any.
      option: that it is the value of, for errors.
      fields: that it may have, of "name", "split" and "group".
      needed: the field that it must have.

    Raises:
      UserError: it has another field, or lacks the needed one.
    """
    parts, at, seen = [], 0, set()
    for token in _TOKENS.finditer(pattern):
        parts.append(re.escape(listing.composed(pattern[at : token.start()])))
        at, field = token.end(), token[1]
        if field is None:
            parts.append(".*" if token[0] == "**" else "[^/]*")
            continue
        if field not in fields:
            raise UserError(
                f"{option} {pattern}: has {token[0]}; expected {' and '.join(f'{{{name}}}' for name in fields)}"
            )
        parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>{_FIELDS[field]})")
        seen.add(field)
    if needed not in seen:
        raise UserError(f"{option} {pattern}: expected {{{needed}}} in it")
    return re.compile("".join([*parts, re.escape(listing.composed(pattern[at:]))]), re.S)


def matching(place: Place, pattern: str, option: str, suffixes: Sequence[str]) -> dict[Named, str]:
    """The image files that fit to a pattern.

    Args:
      place: that relative patterns begin at.
      pattern: such as images/{name}.jpg or {split}/{name}_mask.png; a folder stands for FOLDER/{name}.*
      option: that it is the value of, for errors.
      suffixes: of the files.

    Returns:
      {name and split: path}.

    Raises:
      UserError: no file fits, two fit with the same name, or a split has an unknown name.
    """
    pattern = pattern.replace(os.sep, "/")
    if "{" not in pattern:
        folder = place.root / pattern
        if not folder.is_dir():
            raise UserError(
                f"{option} {pattern}: {folder} is no folder; expected one, or a pattern such as images/{{name}}.jpg; "
                f"{listing.found_at(folder)}"
            )
        pattern = posixpath.join(pattern, "{name}.*")
    found = expression(pattern, option, ("name", "split"), "name")
    files = [(file, place.path(file)) for file in place.images]
    if pattern.startswith(("/", "..")):
        top = pathlib.Path(place.root / pattern.partition("{")[0].partition("*")[0])
        other = Place(str(top if pattern.partition("{")[0].endswith("/") else top.parent))
        start = "" if pattern.startswith("/") else str(place.root)
        files = [
            (os.path.relpath(other.path(file), start) if start else other.path(file), other.path(file))
            for file in other.images
        ]
    named: dict[Named, str] = {}
    for file, path in files:
        match = found.fullmatch(listing.composed(file))
        if not match or not file.lower().endswith(tuple(suffixes)):
            continue
        word = match.groupdict().get("split") or ""
        if word and word.lower() not in SPLIT_OF:
            raise UserError(
                f"{option} {pattern}: {path} has {word!r} for {{split}}; expected one of {', '.join(SPLIT_OF)}"
            )
        name = Named(match["name"], SPLIT_OF.get(word.lower(), ""))
        if name in named:
            raise UserError(
                f"{option} {pattern}: {named[name]} and {path} have the name {name.name}; expected one of each"
            )
        named[name] = path
    if not named:
        raise UserError(
            f"{option} {pattern}: no file in {place.root} fits it; expected a pattern of its images: "
            f"{some(place.images, 3) or 'none'}"
        )
    return named
