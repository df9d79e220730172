"""COCO-Stuff on the photos of COCO 2017 (164k): 171 classes, whose ids from 0 to 181 leave gaps."""

from ml_collections import ConfigDict

from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import numbered, released
from mdp_jax.data.kinds.files import FileSource

SPLITS = {"train": "train2017", "val": "val2017"}
_TRAIN_IDS = "_labelTrainIds"


class CocoStuffSource(FileSource):
    """images/{train2017,val2017}/*.jpg with annotations/{train2017,val2017}/*.png, in the order of their names.

    The masks of a split are those that MMSegmentation's converter writes, *_labelTrainIds.png, where there are any, and
    the release's own *.png where there are none; both give the same labels.
    """

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.coco_stuff makes it; its root is joined to `data_dir` unless absolute.

        UserError where a directory or file is missing, and on a split without masks.
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
        super().__init__(config.name, table, pairs, palette_masks=True, ids_of=f"COCO-Stuff in its files *{suffix}")
