"""ADE20K as the scene parsing challenge of 2016 released it: 150 classes, and 0 for pixels of no class."""

import dataclasses
import itertools

from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import released
from mdp_jax.data.kinds.files import FileSource
from mdp_jax.data.kinds.kind import Kind, RootedConfig

SPLITS = {"train": "training", "val": "validation"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ade20kConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "ade20k"


class Ade20kSource(FileSource):
    """images/{training,validation}/*.jpg with annotations/{training,validation}/*.png, in the order of their names."""

    def __init__(self, config: Ade20kConfig, data_dir: str, split: str):
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
        pairs = listing.paired(
            listing.files(photos, (".jpg",)), listing.files(masks, (".png",)), f"{photos}/*.jpg", f"{masks}/*.png"
        )
        taken = itertools.chain.from_iterable(pairs)
        super().__init__(
            config.name,
            released("ade20k"),
            pairs,
            palette_masks=True,
            ids_of="ADE20K",
            passed_over=listing.passed_over((photos, masks), taken),
        )


def config(
    name: str = "ade20k", root: str = "ade/ADEChallengeData2016", drop_classes: tuple[str, ...] = (), limit: int = 0
) -> ConfigDict:
    """Makes the config of ADE20K, the release of the scene parsing challenge of 2016: 150 classes.

    Args:
      name: of the dataset.
      root: the folder ADEChallengeData2016, joined to the run's data_dir unless absolute.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    found = Ade20kConfig(name=name, root=root, drop_classes=drop_classes, limit=limit)
    return as_config_dict(found).lock()


KIND = Kind(
    config=config,
    config_type=Ade20kConfig,
    source=Ade20kSource,
    has_masks_on_disk=True,
    official_archives={"ADEChallengeData2016.zip": ".."},
)
