"""ADE20K as the scene parsing challenge of 2016 released it: 150 classes, and 0 for pixels of no class."""

from ml_collections import ConfigDict

from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import released
from mdp_jax.data.kinds.files import FileSource

SPLITS = {"train": "training", "val": "validation"}


class Ade20kSource(FileSource):
    """images/{training,validation}/*.jpg with annotations/{training,validation}/*.png, in the order of their names."""

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.ade20k makes it; its root is joined to `data_dir` unless absolute.

        UserError where a directory or file is missing, and on a split without masks.
        """
        root = listing.root_of(config, data_dir, ("images", "annotations"))
        folder = listing.split_of(config, split, SPLITS)
        photos, masks = root / "images" / folder, root / "annotations" / folder
        pairs = listing.paired(
            listing.files(photos, (".jpg",)), listing.files(masks, (".png",)), f"{photos}/*.jpg", f"{masks}/*.png"
        )
        super().__init__(config.name, released("ade20k"), pairs, palette_masks=True, ids_of="ADE20K")
