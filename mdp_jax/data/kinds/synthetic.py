"""The built-in drawn scenes (mdp_jax/data/drawn) as a dataset kind."""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import SourceConfig, as_config_dict
from mdp_jax.data.drawn import scenes
from mdp_jax.data.kinds.kind import NONE_PASSED_OVER, Kind
from mdp_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig(SourceConfig):
    """The keys of such a dataset; `name` is one of the taxonomies."""

    kind: str = "synthetic"
    images: int  # training scenes
    val_images: int = 64  # validation scenes, disjoint from the training scenes
    size: tuple[int, int] = (96, 128)  # height, width in pixels


class SyntheticSource:
    """Drawn scenes of one taxonomy, each drawn anew when it is asked for; a Source (kinds/kind.py)."""

    palette: np.ndarray | None = None
    passed_over: Mapping[str, str] = NONE_PASSED_OVER
    content = ""

    def __init__(self, config: SyntheticConfig, data_dir: str, split: str):
        """Draws nothing yet.

        Args:
          config: of the dataset.
          data_dir: not used.
          split: "train", "val" or "test".

        Raises:
          UserError: the name is unknown, or there are no images.
        """
        del data_dir
        self.name = config.name
        self.classes = scenes.classes(config.name)
        key, images = ("images", config.images) if split == "train" else ("val_images", config.val_images)
        if images < 1:
            raise UserError(f"synthetic dataset {config.name!r} has {key} = {images}; expected at least 1")
        self._split = split
        self._length = images
        self._size = config.size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image, label = scenes.draw(self.name, self._split, index, size=self._size)
        return {"image": image, "label": label}

    def describe(self, index: int) -> str:
        """A file name for the scene."""
        return f"{self.name}_{self._split}_{index:05d}.png"

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """None: scenes are drawn."""
        return ()


def config(name: str, images: int, val_images: int = 64, size: tuple[int, int] = (96, 128)) -> ConfigDict:
    """Makes the config of a built-in drawn dataset.

    Args:
      name: of a taxonomy (mdp_jax/data/drawn/scenes.py).
      images: number of training scenes.
      val_images: number of validation scenes.
      size: height and width in pixels.
    """
    return as_config_dict(SyntheticConfig(name=name, images=images, val_images=val_images, size=size)).lock()


KIND = Kind(config=config, config_type=SyntheticConfig, source=SyntheticSource)
