"""The kind `tfds`: a set of TensorFlow Datasets that has photos and masks, prepared as ArrayRecords; no TensorFlow."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data import images
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import NO_CLASS, ClassTable
from mdp_jax.data.kinds.files import label_of
from mdp_jax.data.kinds.kind import NONE_PASSED_OVER, Kind, RootedConfig
from mdp_jax.errors import UserError, of_system
from mdp_jax.storage.buckets import is_bucket


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "tfds"
    tfds_name: str  # as tfds.builder takes it: NAME, NAME/CONFIG or NAME:VERSION
    image_key: str = "image"
    mask_key: str = "segmentation_mask"
    train_split: str = "train"  # as TFDS writes splits, e.g. train[:90%]
    val_split: str = "test"
    classes: tuple[str, ...] = ()
    label_offset: int = 0  # value of the first class in the masks
    ignore: tuple[int, ...] = (255,)  # values in the masks that are no class


class TfdsSource:
    """The samples of one split.

    A Source (kinds/kind.py) with the classes that the config names. Labels are the mask's values minus `label_offset`,
    -1 where the mask holds one of `ignore`. Photos are not turned by their EXIF orientation, since TensorFlow does not
    turn them either. Reading a sample raises UserError where the record is damaged, where mask and photo differ in
    size, and where a mask's value is not a class.
    """

    palette: np.ndarray | None = None
    passed_over: Mapping[str, str] = NONE_PASSED_OVER
    content: str  # a digest of what TFDS says of the files

    def __init__(self, config: TfdsConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: "train" or "val".

        Raises:
          UserError: the config has no classes or no such split, or the set is missing, not prepared as ArrayRecords or
            has no such photos and masks.
        """
        self.name = config.name
        self._table = _table(config)
        self.classes = self._table.names
        self._keys = (config.image_key, config.mask_key)
        self._where = f"dataset {config.name!r}"
        names = {"train": config.train_split, "val": config.val_split}
        if split not in names:
            raise UserError(f"{self._where} has no split {split!r}; expected {' or '.join(names)}")
        folder = listing.folder_of(config.root, data_dir, config.name)
        if is_bucket(folder):
            raise UserError(
                f"{self._where}: {folder} is in a bucket, where TensorFlow Datasets is not read; expected a folder of "
                "this machine, or the kind array_record of a set that mdp data prepare made"
            )
        self._records = self._open(config.tfds_name, str(folder), names[split])
        self._split = names[split]

    def _open(self, tfds_name: str, folder: str, split: str) -> Sequence[Any]:
        import tensorflow_datasets as tfds

        asked = f"tfds.builder({tfds_name!r}, data_dir={folder!r}, file_format='array_record')"
        try:
            builder = tfds.builder(tfds_name, data_dir=folder, file_format="array_record")
        except Exception as error:  # of any type: code of the set itself runs
            raise UserError(f"{self._where}: {asked} fails: {_line(error)}") from None
        if not builder.is_prepared():
            raise UserError(f"{self._where}: {builder.data_dir} is missing; expected {asked} to be prepared")
        parts = ((name, part.num_bytes, part.shard_lengths) for name, part in sorted(builder.info.splits.items()))
        self.content = hashlib.sha256(repr((builder.info.full_name, *parts)).encode()).hexdigest()
        features = dict(builder.info.features.items())
        for key in self._keys:
            if not isinstance(features.get(key), tfds.features.Image):
                known = ", ".join(sorted(features))
                raise UserError(f"{self._where}: {key!r} of {tfds_name} is no image; its keys are {known}")
        decoders = dict.fromkeys(self._keys, tfds.decode.SkipDecoding())
        try:
            return builder.as_data_source(split, decoders=decoders)
        except (ValueError, NotImplementedError, RuntimeError, OSError) as error:
            line = f"{self._where}: {builder.data_dir} has no {split!r} to read: {_line(error)}"
            raise of_system(error, line) from None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        where = f"{self._where}: {self.describe(index)}"
        photo, encoded = self._read(index, where)
        image = images.decode_photo(where, photo, turn=False)
        mask = images.decode_mask(f"{where} (mask)", encoded)
        return {"image": image, "label": label_of(image, mask, self._table, f"{where} (mask)", "its config")}

    def facts(self, index: int) -> images.Facts:
        """What the bytes of the photo say that its pixels do not. It is as it is stored, whatever its EXIF says."""
        where = f"{self._where}: {self.describe(index)}"
        return dataclasses.replace(images.facts_of(where, self._read(index, where)[0]), orientation=1)

    def _read(self, index: int, where: str) -> tuple[bytes, bytes]:
        """The bytes of photo and mask."""
        try:
            record = self._records[index]
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{where} is damaged: {_line(error)}") from None
        image, mask = (record[key] for key in self._keys)
        return image, mask

    def describe(self, index: int) -> str:
        """Split and number of the record: sets have no common key for a file name."""
        return f"{self._split}[{index}]"

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """None: the samples share their files."""
        return ()


def _table(config: TfdsConfig) -> ClassTable:
    """The classes of a config; UserError where they do not fit into the 256 values of a mask."""
    names, offset, ignore = tuple(config.classes), config.label_offset, tuple(config.ignore)
    if not names or len(set(names)) != len(names):
        raise UserError(f"dataset {config.name!r}: classes = {names}; expected the names of the classes, each once")
    last = offset + len(names) - 1
    if offset < 0 or last > 255 or any(not 0 <= value <= 255 or offset <= value <= last for value in ignore):
        raise UserError(
            f"dataset {config.name!r}: label_offset {offset}, {len(names)} classes and ignore {ignore}; expected "
            "values from 0 to 255, those of the classes apart from those to ignore"
        )
    to_label = np.full(256, NO_CLASS, np.int16)
    to_label[offset : last + 1] = np.arange(len(names))
    to_label[list(ignore)] = -1
    return ClassTable(names, to_label)


def _line(error: Exception) -> str:
    """The beginning of what TFDS says, which may be a list of all its sets."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def config(
    name: str,
    tfds_name: str = "",
    classes: tuple[str, ...] = (),
    root: str = "",
    drop_classes: tuple[str, ...] = (),
    limit: int = 0,
) -> ConfigDict:
    """Makes the config of a set of TensorFlow Datasets that has photos and masks.

    Args:
      name: of the dataset.
      tfds_name: NAME, NAME/CONFIG or NAME:VERSION of the set; "" = `name`.
      classes: names of its classes, in the order of their values in the masks.
      root: the folder in which it was prepared with file_format="array_record", joined to the run's data_dir unless
        absolute.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    found = TfdsConfig(
        name=name, tfds_name=tfds_name or name, classes=classes, root=root, drop_classes=drop_classes, limit=limit
    )
    return as_config_dict(found).lock()


KIND = Kind(config=config, config_type=TfdsConfig, source=TfdsSource)
