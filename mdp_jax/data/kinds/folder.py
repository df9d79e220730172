"""The plain folder layout: images/{split}/*.jpg, masks/{split}/*.png, classes.txt, 255 = ignore."""

import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.data import images
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import IGNORE, numbered
from mdp_jax.data.kinds.files import FileSource
from mdp_jax.errors import UserError

_PHOTOS = (".jpg", ".jpeg", ".png")
_MASKS = (".png",)


class FolderSource(FileSource):
    """Photos and masks of one split, in the order of their names; the classes are the lines of classes.txt."""

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.folder makes it; its root is joined to `data_dir` unless absolute.

        UserError where the folder, a split or classes.txt is missing or empty, where a photo has no mask or a mask no
        photo, and where classes.txt has empty, equal or more than 255 names.
        """
        root = listing.root_of(config, data_dir, ("images", "masks", "classes.txt"))
        table = numbered(_read_classes(root / "classes.txt"))
        photos, masks = root / "images" / split, root / "masks" / split
        pairs = listing.paired(
            listing.files(photos, _PHOTOS), listing.files(masks, _MASKS), f"{photos}/*.jpg", f"{masks}/*.png"
        )
        super().__init__(config.name, table, pairs, palette_masks=False, ids_of="the lines of classes.txt")


class FolderPhotos:
    """Photos of one split without labels, in the order of their names; of the layout there need be no more."""

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.folder makes it; its root is joined to `data_dir` unless absolute.

        UserError where the folder or the split is missing or has no photos.
        """
        root = listing.root_of(config, data_dir, ("images",))
        self.name = config.name
        self.classes: tuple[str, ...] = ()
        self.palette = None
        self._photos = [photo for _, photo in sorted(listing.files(root / "images" / split, _PHOTOS).items())]

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image = images.read_photo(self._photos[index])
        return {"image": image, "label": np.full(image.shape[:2], -1, np.int16)}

    def describe(self, index: int) -> str:
        """The photo's file name."""
        return os.path.basename(self._photos[index])

    def files(self, index: int) -> tuple[pathlib.Path]:
        """The file of the photo."""
        return (pathlib.Path(self._photos[index]),)


def _read_classes(path: pathlib.Path) -> tuple[str, ...]:
    names = tuple(listing.lines(path, "one class name on each line"))
    if not names:
        raise UserError(f"{path} is empty; expected one class name on each line")
    if len(names) > IGNORE:
        raise UserError(f"{path} has {len(names)} classes; expected at most {IGNORE}, as a mask has 8 bits")
    for i, name in enumerate(names):
        if not name:
            raise UserError(f"{path} line {i + 1} is empty; expected a class name on each line")
        if name in names[:i]:
            raise UserError(f"{path} line {i + 1} repeats class {name!r}; expected each class name once")
    return names
