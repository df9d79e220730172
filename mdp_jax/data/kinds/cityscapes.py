"""Cityscapes with fine masks: 19 classes out of 34 ids."""

import pathlib

from ml_collections import ConfigDict

from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import numbered, released
from mdp_jax.data.kinds.files import FileSource

SPLITS = {"train": "train", "val": "val"}  # the masks of "test" are not public
_PHOTO = "_leftImg8bit.png"
_IDS, _TRAIN_IDS = "_gtFine_labelIds", "_gtFine_labelTrainIds"


class CityscapesSource(FileSource):
    """leftImg8bit/{train,val}/CITY/*_leftImg8bit.png with gtFine/{train,val}/CITY/*, in the order of their names.

    The masks of a split are those that cityscapesScripts writes, *_gtFine_labelTrainIds.png, where there are any, and
    the release's own *_gtFine_labelIds.png where there are none; both give the same labels.
    """

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.cityscapes makes it; its root is joined to `data_dir` unless absolute.

        UserError where a directory or file is missing, and on a split without masks.
        """
        root = listing.root_of(config, data_dir, ("leftImg8bit", "gtFine"))
        folder = listing.split_of(config, split, SPLITS)
        photos, fine = root / "leftImg8bit" / folder, root / "gtFine" / folder
        found = _of_cities(fine, ".png")
        converted = _ending(found, _TRAIN_IDS)
        kind = _TRAIN_IDS if converted else _IDS
        masks = converted or _ending(found, _IDS)
        pairs = listing.paired(
            _of_cities(photos, _PHOTO), masks, f"{photos}/CITY/*{_PHOTO}", f"{fine}/CITY/*{kind}.png"
        )
        table = released("cityscapes")
        if converted:
            table = numbered(table.names, table.palette)
        super().__init__(config.name, table, pairs, palette_masks=True, ids_of=f"Cityscapes in its files *{kind}.png")


def _of_cities(folder: pathlib.Path, suffix: str) -> dict[str, str]:
    """`listing.files` of all cities; a file's name begins with its city."""
    found: dict[str, str] = {}
    for city in listing.folders(folder):
        found |= listing.files(city, (suffix,))
    return found


def _ending(found: dict[str, str], end: str) -> dict[str, str]:
    return {name.removesuffix(end): path for name, path in found.items() if name.endswith(end)}
