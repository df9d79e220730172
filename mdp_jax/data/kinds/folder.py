"""The plain folder layout: images/{split}/*.jpg, masks/{split}/*.png, classes.txt, 255 = ignore.

Photos and masks may lie in sub-folders, the same ones on both sides, and have any suffix of a format that is read.
Where there is palette.txt, it has the colours in which the classes are shown.
"""

import dataclasses
import itertools
import os
import pathlib
import re

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import IGNORE, numbered
from mdp_jax.data.kinds.files import FileSource, PhotoSource
from mdp_jax.data.kinds.kind import Kind, RootedConfig
from mdp_jax.errors import UserError
from mdp_jax.storage import folders as trees

# Photos and masks directly in the folder of a split with these suffixes need a partner. Others are passed over, with
# the reason, where they have none: such files lie beside the photos of a set for other purposes, too.
_PHOTOS = (".jpg", ".jpeg", ".png")
_MASKS = (".png",)
PALETTE = "palette.txt"
_COLOUR = "a colour as R G B, three whole numbers from 0 to 255, or as #rrggbb"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "folder"


class FolderSource(FileSource):
    """Photos and masks of one split, in the order of their names; the classes are the lines of classes.txt."""

    def __init__(self, config: FolderConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: name of the folders in images/ and masks/.

        Raises:
          UserError: the folder, a split or classes.txt is missing or empty; a photo has no mask or a mask no photo;
            classes.txt has empty, equal or more than 255 names; palette.txt has other than one colour for each class.
        """
        root = listing.root_of(config, data_dir, ("images", "masks", "classes.txt"))
        names = listing.class_names(root / "classes.txt", IGNORE, "as a mask has 8 bits")
        table = numbered(names, _read_palette(root / PALETTE, len(names)))
        photos, masks = root / "images" / split, root / "masks" / split
        pairs, why = _pairs(photos, masks)
        super().__init__(
            config.name,
            table,
            pairs,
            palette_masks=table.palette is not None,  # as mdp predict then writes them
            ids_of="the lines of classes.txt",
            passed_over=listing.passed_over((photos, masks), itertools.chain.from_iterable(pairs), why=why),
            below=str(photos),
        )


class FolderPhotos(PhotoSource):
    """Photos of one split without labels, in the order of their names; masks and classes.txt need not exist."""

    def __init__(self, config: FolderConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: name of the folder in images/.

        Raises:
          UserError: the folder or the split is missing or has no photos.
        """
        folder = listing.root_of(config, data_dir, ("images",)) / "images" / split
        found, why = _found(folder, _PHOTOS, listing.PHOTOS)
        photos = [path for _, path in sorted(found.items())]
        super().__init__(config.name, photos, listing.passed_over((folder,), photos, why=why), str(folder))


def _pairs(photos: pathlib.Path, masks: pathlib.Path) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(photo, mask) of each sample, in the order of their names; and the reason for each file that is passed over."""
    of_photos, why = _found(photos, _PHOTOS, listing.PHOTOS)
    of_masks, why_no_mask = _found(masks, _MASKS, listing.MASKS)
    why |= why_no_mask
    for here, there, own, suffixes, what in (
        (of_photos, of_masks, photos, _PHOTOS, "mask"),
        (of_masks, of_photos, masks, _MASKS, "photo"),
    ):
        for name in sorted(here.keys() - there.keys()):
            if os.path.dirname(name) or not here[name].lower().endswith(suffixes):
                why[here.pop(name)] = f"without a {what} of the same name"
        if not here:
            raise UserError(f"{own}: no file has a {what} of the same name; {listing.found_at(own)}")
    places = f"{photos}/*{_PHOTOS[0]}", f"{masks}/*{_MASKS[0]}"
    return listing.paired(of_photos, of_masks, *places), why


def _found(
    folder: pathlib.Path, first: tuple[str, ...], suffixes: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """{name without suffix: path} of the files in a folder and its sub-folders, and {path: why} of others.

    Of two files of one name in the folder itself, one with a suffix among the first ones is taken.
    """
    nested = [name for name in listing.nested(folder) if name.lower().endswith(suffixes)]
    if not nested:
        listing.files(folder, first)  # says what is missing
    direct = [name for name in nested if os.sep not in name and name.lower().endswith(first)]
    found = listing.files(folder, first) if direct else {}
    why: dict[str, str] = {}
    for name in sorted(set(nested) - set(direct)):
        stem, path = listing.composed(os.path.splitext(name)[0]), f"{folder}{os.sep}{name}"
        listing.require_text(folder, name)
        if stem in found:
            why[path] = "of the same name as another file"
        found.setdefault(stem, path)
    return found, why


def _read_palette(path: pathlib.Path, count: int) -> np.ndarray | None:
    """The colours of the classes, uint8 RGB [C, 3]; None where there is no such file."""
    if not trees.exists(path):
        return None
    lines = listing.lines(path, f"{_COLOUR}, on a line for each class")
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != count:
        raise UserError(f"{path} has {len(lines)} lines; expected {count}, a colour for each line of classes.txt")
    return np.array([_colour(path, number, line) for number, line in enumerate(lines, start=1)], np.uint8)


def _colour(path: pathlib.Path, number: int, line: str) -> tuple[int, ...]:
    if re.fullmatch("#[0-9a-fA-F]{6}", line):
        return tuple(bytes.fromhex(line[1:]))
    parts = line.split()
    if len(parts) != 3 or not all(re.fullmatch("[0-9]{1,3}", part) and int(part) < 256 for part in parts):
        raise UserError(f"{path} line {number} is {line!r:.80}; expected {_COLOUR}")
    return tuple(map(int, parts))


def config(name: str, root: str, drop_classes: tuple[str, ...] = (), limit: int = 0) -> ConfigDict:
    """A dataset in the folder layout: images/{train,val}/*.jpg, masks/{train,val}/*.png, classes.txt.

    palette.txt may be there too: the colours of the classes, one on a line.

    Args:
      name: of the dataset.
      root: its folder, joined to the run's data_dir unless absolute.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    return as_config_dict(FolderConfig(name=name, root=root, drop_classes=drop_classes, limit=limit)).lock()


KIND = Kind(
    config=config,
    config_type=FolderConfig,
    source=FolderSource,
    photos_alone=FolderPhotos,
    has_masks_on_disk=True,
    plain_ids=True,
    palette_file=PALETTE,
)
