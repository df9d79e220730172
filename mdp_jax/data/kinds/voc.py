"""PASCAL VOC 2012: 20 classes of objects and the background; 255 is their border. With the masks of SBD, if wanted."""

import dataclasses
import pathlib

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import colours, released
from mdp_jax.data.kinds.files import FileSource
from mdp_jax.data.kinds.kind import Kind, RootedConfig
from mdp_jax.errors import UserError
from mdp_jax.storage import folders as trees

_PHOTOS, _MASKS, _SBD_MASKS = "JPEGImages", "SegmentationClass", "SegmentationClassAug"
_LISTS = pathlib.PurePath("ImageSets", "Segmentation")
_OWN_LISTS = {"train": [("train", _MASKS)], "trainval": [("trainval", _MASKS)], "val": [("val", _MASKS)]}
# Two ways of adding SBD are about, each of (list, folder of its masks). MMSegmentation's comes first, as it keeps VOC's
# own masks where VOC has them; its trainaug.txt does not say which those are.
_SBD_LISTS = {
    "aug": [("train", _MASKS), ("aug", _SBD_MASKS)],
    "train_aug": [("train_aug", _SBD_MASKS)],
    "trainaug": [("trainaug", _SBD_MASKS)],
}
TRAIN_LISTS = ("train", "trainval", "train_aug")
_BORDER = (224, 224, 192)  # of objects in the masks, where they are colours


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "voc"
    train_list: str = "train_aug"  # train: 1,464 photos; trainval: 2,913; train_aug: 10,582, with those of SBD


class VocSource(FileSource):
    """Photos of ImageSets/Segmentation/LIST.txt, in its order: JPEGImages/*.jpg, SegmentationClass/*.png.

    The training photos are those of the config's train_list. train_aug: train.txt, and aug.txt with masks from
    SegmentationClassAug; or, where there is no aug.txt, train_aug.txt or trainaug.txt with all masks from there.
    """

    def __init__(self, config: VocConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: "train" or "val".

        Raises:
          UserError: a directory or list is missing; a list names a missing file or a photo twice; a list of SBD names
            photos for validation; or the split has no masks.
        """
        root = listing.root_of(config, data_dir, (_PHOTOS, _MASKS, str(_LISTS)))
        if config.train_list not in TRAIN_LISTS:
            lists = ", ".join(TRAIN_LISTS)
            raise UserError(f"dataset {config.name!r} has train_list {config.train_list!r}; expected one of {lists}")
        name = listing.split_of(config, split, {"train": config.train_list, "val": "val"})
        folder_of_lists = root / _LISTS
        parts = _with_sbd(folder_of_lists) if name == "train_aug" else _OWN_LISTS[name]
        photos = listing.files(root / _PHOTOS, (".jpg",))
        pairs: list[tuple[str, str]] = []
        named = _named(folder_of_lists)
        known = list(photos.values())  # most of them have boxes alone
        for part, folder in parts:
            masks = listing.files(root / folder, (".png",))
            places = (f"{root / _PHOTOS}/*.jpg", f"{root / folder}/*.png")
            file = folder_of_lists / f"{part}.txt"
            pairs += listing.listed(file, _names(file), photos, masks, places)
            known += [path for stem, path in masks.items() if stem in named]
        super().__init__(
            config.name,
            released("voc"),
            pairs,
            palette_masks=True,
            ids_of="VOC 2012",
            passed_over=listing.passed_over((root / _PHOTOS, *(root / folder for _, folder in parts)), known),
        )


def _with_sbd(lists: pathlib.Path) -> list[tuple[str, str]]:
    """The (list, folder of its masks) that make up train_aug."""
    name = next((name for name in _SBD_LISTS if trees.exists(lists / f"{name}.txt")), None)
    if name is None:
        expected = ", ".join(f"{name}.txt" for name in _SBD_LISTS)
        raise UserError(
            f"{lists} has no list with the photos of SBD; expected one of {expected}; VOC's own photos alone are "
            f'configs.voc(train_list="train") in a config, --config.train_list=train with mdp data; '
            f"{listing.found_at(lists)}"
        )
    others = [other for other, _ in [*_OWN_LISTS["val"], *_SBD_LISTS[name]] if other != name]
    for other in others:
        _require_apart(lists / f"{name}.txt", lists / f"{other}.txt")
    return _SBD_LISTS[name]


def _require_apart(file: pathlib.Path, other: pathlib.Path) -> None:
    """SBD's own lists hold photos that VOC keeps for validation, and all that VOC trains on."""
    taken = {name for _, name in _names(other)}
    both = [(line, name) for line, name in _names(file) if name in taken]
    if both:
        line, name = both[0]
        raise UserError(
            f"{file} line {line} names {name}, as {other.name} does ({len(both)} such); expected no photo of both"
        )


def _named(lists: pathlib.Path) -> set[str]:
    """The names in all lists together."""
    return {listing.composed(name) for file in _lists_in(lists) for _, name in _names(file)}


def _lists_in(lists: pathlib.Path) -> list[pathlib.Path]:
    return [lists / name for name in trees.names(lists) if name.endswith(".txt")]


def _names(file: pathlib.Path) -> list[tuple[int, str]]:
    """(line, name) of a list, whose lines hold a name or the paths of photo and mask; empty ones are left out."""
    lines = listing.lines(file, "a name of a photo on each line")
    return [(i, pathlib.PurePath(line.split()[0]).stem) for i, line in enumerate(lines, start=1) if line]


def _mask_colours() -> np.ndarray:
    return np.vstack([colours("voc"), [_BORDER]])


def config(
    name: str = "voc",
    root: str = "VOCdevkit/VOC2012",
    train_list: str = "train_aug",
    drop_classes: tuple[str, ...] = (),
    limit: int = 0,
) -> ConfigDict:
    """Makes the config of PASCAL VOC 2012: 20 classes of objects and the background.

    Args:
      name: of the dataset.
      root: the folder that holds JPEGImages, joined to the run's data_dir unless absolute.
      train_list: "train", "trainval", or "train_aug" with the masks of SBD.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    found = VocConfig(name=name, root=root, train_list=train_list, drop_classes=drop_classes, limit=limit)
    return as_config_dict(found).lock()


KIND = Kind(
    config=config,
    config_type=VocConfig,
    source=VocSource,
    has_masks_on_disk=True,
    plain_ids=True,
    mask_colours=_mask_colours,
    official_archives={"VOCtrainval_11-May-2012.tar": "../.."},  # holds VOCdevkit/VOC2012
)
