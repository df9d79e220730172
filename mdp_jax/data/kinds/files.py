"""What all sources of photo and mask files share."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from mdp_jax.data import images
from mdp_jax.data.kinds.classes import NO_CLASS, ClassTable
from mdp_jax.errors import UserError
from mdp_jax.storage.paths import as_path


class FileSource:
    """One split of a dataset, a photo and a mask for each sample; a Source (kinds/kind.py).

    Reading a sample raises UserError where a file is unreadable, truncated or huge, where mask and photo differ in
    size, and where the mask holds an id that it must not hold.
    """

    content = ""

    def __init__(
        self,
        name: str,
        table: ClassTable,
        pairs: Sequence[tuple[str, str]],
        *,
        palette_masks: bool,
        ids_of: str,
        passed_over: Mapping[str, str],
        below: str = "",
    ):
        """Makes the source of pairs of files; opens none of them.

        Args:
          name: of the dataset.
          table: its classes.
          pairs: (photo, mask), paths of the samples in order.
          palette_masks: whether masks may be palette PNGs, whose indices are the ids.
          ids_of: what defines the ids of a mask, for errors.
          passed_over: path -> reason, of image files beside them that are not in a sample.
          below: folder of the photos, from which on their paths are their names; "" = the file's name alone.
        """
        self.name = name
        self.classes = table.names
        self.palette = table.palette
        self.passed_over = passed_over
        self._table = table
        self._pairs = pairs
        self._palette_masks = palette_masks
        self._ids_of = ids_of
        self._below = below

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        photo_path, mask_path = self._pairs[index]
        image = images.read_photo(photo_path)
        mask = images.read_mask(mask_path, self._palette_masks)
        return {"image": image, "label": label_of(image, mask, self._table, mask_path, self._ids_of)}

    def describe(self, index: int) -> str:
        """The photo's file name, or its path from the folder of the photos on."""
        return _name(self._pairs[index][0], self._below)

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """The files of the photo and of its mask."""
        photo, mask = self._pairs[index]
        return as_path(photo), as_path(mask)


class PhotoSource:
    """Photos of one split without labels; a Source (kinds/kind.py) whose pixels are all ignored."""

    classes: tuple[str, ...] = ()
    palette: np.ndarray | None = None
    content = ""

    def __init__(self, name: str, photos: Sequence[str], passed_over: Mapping[str, str], below: str = ""):
        """Makes the source of files; opens none of them.

        Args:
          name: of the dataset.
          photos: paths of the samples in order.
          passed_over: path -> reason, of image files beside them that are not in a sample.
          below: folder of the photos, from which on their paths are their names; "" = the file's name alone.
        """
        self.name = name
        self.passed_over = passed_over
        self._photos = photos
        self._below = below

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image = images.read_photo(self._photos[index])
        return {"image": image, "label": np.full(image.shape[:2], -1, np.int16)}

    def describe(self, index: int) -> str:
        """The photo's file name, or its path from the folder of the photos on."""
        return _name(self._photos[index], self._below)

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """The file of the photo."""
        return (as_path(self._photos[index]),)


def _name(path: str, below: str) -> str:
    return os.path.relpath(path, below) if below else os.path.basename(path)


def label_of(image: np.ndarray, mask: np.ndarray, table: ClassTable, where: str, ids_of: str) -> np.ndarray:
    """Makes the label of a photo from its mask.

    Args:
      image: uint8 [H, W, 3].
      mask: uint8 [H, W], with the ids of the table.
      table: the class of each id.
      where: the name of the mask in errors.
      ids_of: what defines the ids of a mask, for errors.

    Returns:
      int16 [H, W], class id, -1 ignored.

    Raises:
      UserError: mask and photo differ in size, or the mask holds an id that it must not hold.
    """
    if mask.shape != image.shape[:2]:
        found, expected = (f"{height} x {width}" for height, width in (mask.shape, image.shape[:2]))
        turned = " (turned by its EXIF orientation?)" if mask.shape == image.shape[1::-1] else ""
        raise UserError(f"{where} is {found} pixels (height x width); expected {expected} as its photo{turned}")
    label = cv2.LUT(mask, table.to_label)  # several times as fast as NumPy's own indexing
    if label.min() == NO_CLASS:
        wrong = mask[label == NO_CLASS].min()
        raise UserError(f"{where} holds id {wrong}; expected {table.expected()}, the ids of {ids_of}")
    return label
