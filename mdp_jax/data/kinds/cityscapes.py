"""Cityscapes with fine masks: 19 classes out of 34 ids."""

import dataclasses
import itertools
import pathlib

from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import colours, numbered, released
from mdp_jax.data.kinds.files import FileSource
from mdp_jax.data.kinds.kind import Kind, RootedConfig

SPLITS = {"train": "train", "val": "val"}  # the masks of "test" are not public
_PHOTO = "_leftImg8bit.png"
_IDS, _TRAIN_IDS = "_gtFine_labelIds", "_gtFine_labelTrainIds"
# What the release and its scripts have beside the masks that are read.
_FORMS = ("color", "instanceIds", "instanceTrainIds", "labelIds", "labelTrainIds")
_BESIDE = tuple(f"_gtFine_{form}.png" for form in _FORMS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CityscapesConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "cityscapes"


class CityscapesSource(FileSource):
    """leftImg8bit/{train,val}/CITY/*_leftImg8bit.png with gtFine/{train,val}/CITY/*, in the order of their names.

    The masks of a split are those that cityscapesScripts writes, *_gtFine_labelTrainIds.png, where there are any, and
    the release's own *_gtFine_labelIds.png where there are none; both give the same labels.
    """

    def __init__(self, config: CityscapesConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: "train" or "val".

        Raises:
          UserError: a directory or file is missing, or the split has no masks.
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
        super().__init__(
            config.name,
            table,
            pairs,
            palette_masks=True,
            ids_of=f"Cityscapes in its files *{kind}.png",
            passed_over=listing.passed_over((photos, fine), itertools.chain.from_iterable(pairs), known=_BESIDE),
        )


def _of_cities(folder: pathlib.Path, suffix: str) -> dict[str, str]:
    """`listing.files` of all cities; a file's name begins with its city."""
    found: dict[str, str] = {}
    for city in listing.folders(folder):
        found |= listing.files(city, (suffix,))
    return found


def _ending(found: dict[str, str], end: str) -> dict[str, str]:
    return {name.removesuffix(end): path for name, path in found.items() if name.endswith(end)}


def config(
    name: str = "cityscapes", root: str = "cityscapes", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """Makes the config of Cityscapes with fine masks: 19 classes.

    Args:
      name: of the dataset.
      root: the folder that holds leftImg8bit and gtFine, joined to the run's data_dir unless absolute.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    found = CityscapesConfig(name=name, root=root, drop_classes=drop_classes, limit=limit)
    return as_config_dict(found).lock()


KIND = Kind(
    config=config,
    config_type=CityscapesConfig,
    source=CityscapesSource,
    has_masks_on_disk=True,
    mask_colours=lambda: colours("cityscapes"),
    official_archives={"leftImg8bit_trainvaltest.zip": "", "gtFine_trainvaltest.zip": ""},
)
