"""The plain folder layout: images/{split}/*.jpg, masks/{split}/*.png, classes.txt, 255 = ignore."""

import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.data import images
from mdp_jax.errors import UserError

_PHOTOS = (".jpg", ".jpeg", ".png")
_MASKS = (".png",)
_IGNORE = 255


class FolderSource:
    """Photos and masks of one split, in the order of their names.

    `name`; `classes`, the lines of classes.txt; source[i] = {"image": uint8 [H, W, 3] RGB, "label": int16 [H, W], the
    line of classes.txt from 0, -1 where the mask holds 255}. Reading a sample raises UserError where a file is
    unreadable or truncated, where mask and photo differ in size, and where an id is outside classes.txt.
    """

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.folder makes it; its root is joined to `data_dir` unless absolute.

        UserError where the folder, a split or classes.txt is missing or empty, where a photo has no mask or a mask no
        photo, and where classes.txt has empty, equal or more than 255 names.
        """
        root = pathlib.Path(os.path.expanduser(data_dir), os.path.expanduser(config.root))
        if not root.is_dir():
            raise UserError(
                f"{root} of dataset {config.name!r} is no folder; expected images, masks and classes.txt in it"
            )
        self.name = config.name
        self.classes = _read_classes(root / "classes.txt")
        photos = _files(root / "images" / split, _PHOTOS)
        masks = _files(root / "masks" / split, _MASKS)
        for stem, path in photos.items():
            if stem not in masks:
                raise UserError(f"{path} has no mask; expected {root / 'masks' / split / stem}.png")
        for stem, path in masks.items():
            if stem not in photos:
                raise UserError(f"{path} has no photo; expected {root / 'images' / split / stem}.jpg")
        self._files = [(photos[stem], masks[stem]) for stem in sorted(photos)]
        self._to_label = np.full(256, -1, np.int16)
        self._to_label[: len(self.classes)] = np.arange(len(self.classes))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        photo_path, mask_path = self._files[index]
        image = images.read_photo(photo_path)
        mask = images.read_mask(mask_path)
        if mask.shape != image.shape[:2]:
            found, expected = (f"{height} x {width}" for height, width in (mask.shape, image.shape[:2]))
            raise UserError(f"{mask_path} is {found} pixels (height x width); expected {expected} as its photo")
        self._check_ids(mask_path, mask)
        return {"image": image, "label": self._to_label[mask]}

    def describe(self, index: int) -> str:
        """The photo's file name."""
        return self._files[index][0].name

    def _check_ids(self, path: pathlib.Path, mask: np.ndarray) -> None:
        if mask.max() < len(self.classes):
            return
        ids = np.unique(mask)
        wrong = ids[(ids >= len(self.classes)) & (ids != _IGNORE)]
        if len(wrong):
            limit = len(self.classes) - 1
            raise UserError(
                f"{path} holds id {wrong[0]}; expected 0 to {limit}, the lines of classes.txt, or {_IGNORE}"
            )


def _files(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Files of `folder` by name without suffix; other suffixes and hidden files are not ours."""
    expected = ", ".join(suffixes)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected files {expected} in it")
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(f"{path} has the name of {found[path.stem].name}; expected one file for each name")
        found[path.stem] = path
    if not found:
        raise UserError(f"{folder} is empty; expected files {expected} in it")
    return found


def _read_classes(path: pathlib.Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # "-sig": some editors begin a file with a mark
    except FileNotFoundError:
        raise UserError(f"{path} is missing; expected one class name on each line") from None
    except ValueError:
        raise UserError(f"{path} is not UTF-8 text; expected one class name on each line") from None
    names = tuple(line.strip() for line in lines)
    if not names:
        raise UserError(f"{path} is empty; expected one class name on each line")
    if len(names) > _IGNORE:
        raise UserError(f"{path} has {len(names)} classes; expected at most {_IGNORE}, as a mask has 8 bits")
    for i, name in enumerate(names):
        if not name:
            raise UserError(f"{path} line {i + 1} is empty; expected a class name on each line")
        if name in names[:i]:
            raise UserError(f"{path} line {i + 1} repeats class {name!r}; expected each class name once")
    return names
