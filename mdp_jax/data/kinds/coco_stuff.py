"""COCO-Stuff on the photos of COCO 2017 (164k): 171 classes, whose ids from 0 to 181 leave gaps."""

import dataclasses

from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import numbered, released
from mdp_jax.data.kinds.files import FileSource
from mdp_jax.data.kinds.kind import Kind, RootedConfig

SPLITS = {"train": "train2017", "val": "val2017"}
_TRAIN_IDS = "_labelTrainIds"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoStuffConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "coco_stuff"


class CocoStuffSource(FileSource):
    """images/{train2017,val2017}/*.jpg with annotations/{train2017,val2017}/*.png, in the order of their names.

    The masks of a split are those that MMSegmentation's converter writes, *_labelTrainIds.png, where there are any, and
    the release's own *.png where there are none; both give the same labels.
    """

    def __init__(self, config: CocoStuffConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: "train" or "val".

        Raises:
          UserError: a directory or file is missing, or the split has no masks.
        """
        root = listing.root_of(config, data_dir, ("images", "annotations"))
        folder = listing.split_of(config, split, SPLITS)
        photos, masks = root / "images" / folder, root / "annotations" / folder
        found = listing.files(masks, (".png",))
        converted = {name.removesuffix(_TRAIN_IDS): path for name, path in found.items() if name.endswith(_TRAIN_IDS)}
        suffix = f"{_TRAIN_IDS}.png" if converted else ".png"
        pairs = listing.paired(
            listing.files(photos, (".jpg",)), converted or found, f"{photos}/*.jpg", f"{masks}/*{suffix}"
        )
        table = released("coco_stuff")
        if converted:
            table = numbered(table.names, table.palette)
        taken = (*found.values(), *(photo for photo, _ in pairs))  # either form of the masks is known
        super().__init__(
            config.name,
            table,
            pairs,
            palette_masks=True,
            ids_of=f"COCO-Stuff in its files *{suffix}",
            passed_over=listing.passed_over((photos, masks), taken),
        )


def config(
    name: str = "coco_stuff", root: str = "coco_stuff164k", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """Makes the config of COCO-Stuff on all of COCO 2017 (164k): 171 classes.

    Args:
      name: of the dataset.
      root: the folder that holds images and annotations, joined to the run's data_dir unless absolute.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    found = CocoStuffConfig(name=name, root=root, drop_classes=drop_classes, limit=limit)
    return as_config_dict(found).lock()


KIND = Kind(
    config=config,
    config_type=CocoStuffConfig,
    source=CocoStuffSource,
    has_masks_on_disk=True,
    official_archives={
        "train2017.zip": "images",
        "val2017.zip": "images",
        "stuffthingmaps_trainval2017.zip": "annotations",
    },
)
