"""The kind `array_record`: the shards that `mdp data prepare` wrote, read at random without TensorFlow."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.configs import as_config_dict
from mdp_jax.data import images
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.classes import numbered
from mdp_jax.data.kinds.files import label_of
from mdp_jax.data.kinds.kind import NONE_PASSED_OVER, Kind, RootedConfig
from mdp_jax.data.prepared import manifest, smaller
from mdp_jax.errors import UserError
from mdp_jax.storage import buckets, photo_cache
from mdp_jax.storage.bucket_path import BucketPath

_AGAIN = "start mdp data prepare again, it makes anew what is damaged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayRecordConfig(RootedConfig):
    """The keys of such a dataset."""

    kind: str = "array_record"


class ArrayRecordSource:
    """The samples of one split, in the order and with the bits of the directories that they were made of.

    Photos of the training may have been made smaller: to `stored_short_side`, or 0. A Source (kinds/kind.py) with the
    classes and the palette of the manifest. Reading a sample raises UserError where the shard is damaged, and where
    photo or mask are not what prepare writes. Prepare checks the checksums of whole shards when it is started again;
    here the checksum of each record is checked.
    """

    passed_over: Mapping[str, str] = NONE_PASSED_OVER

    def __init__(self, config: ArrayRecordConfig, data_dir: str, split: str):
        """Opens one split; reads no photo yet.

        Args:
          config: of the dataset; its root is joined to `data_dir` unless absolute.
          data_dir: of the run.
          split: of the manifest.

        Raises:
          UserError: the folder is not prepared to the end, has no such split, or a shard that is missing or of another
            size or number of records than the manifest says.
        """
        from array_record.python import array_record_data_source
        from tensorflow_datasets.proto import tf_example_pb2

        self._root = listing.folder_of(config.root, data_dir, config.name)
        found = manifest.read_complete(self._root)
        if split not in found["splits"]:
            raise UserError(f"{self._root} of dataset {config.name!r} has no split {split!r}; it has {_list(found)}")
        self.name = config.name
        self._table = numbered(found["classes"])
        self.classes = self._table.names
        palette = found["palette"]
        self.palette: np.ndarray | None = None if palette is None else np.array(palette, np.uint8)
        self.stored_short_side = found.get("short_side", 0) if split == smaller.SPLIT else 0
        shards = found["splits"][split]["shards"]
        self.content = hashlib.sha256(" ".join(shard["sha256"] for shard in shards).encode()).hexdigest()
        for shard in shards:
            _require_size(self._root / shard["file"], shard["bytes"])
        files = [self._root / shard["file"] for shard in shards]
        if isinstance(self._root, BucketPath):
            files = _copies(files, sum(shard["bytes"] for shard in shards), f"{self._root}: the shards of {split}")
        try:
            self._records = array_record_data_source.ArrayRecordDataSource([str(file) for file in files])
        except RuntimeError as error:
            raise UserError(f"{self._root}: a shard of {split} is damaged ({_line(error)}); {_AGAIN}") from None
        if len(self._records) != found["splits"][split]["records"]:
            expected = found["splits"][split]["records"]
            raise UserError(f"{self._root}: {split} holds {len(self._records)} records, expected {expected}; {_AGAIN}")
        self._parse = tf_example_pb2.Example.FromString

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        record = self._read(index)
        where = f"{self._root}: {record['file_name'].decode()}"
        image = images.decode_photo(where, record["image"])
        mask = images.decode_mask(f"{where} (mask)", record["mask"])
        return {"image": image, "label": label_of(image, mask, self._table, f"{where} (mask)", "its manifest.json")}

    def facts(self, index: int) -> images.Facts:
        """What the bytes of the photo say that its pixels do not."""
        record = self._read(index)
        return images.facts_of(record["file_name"].decode(), record["image"])

    def describe(self, index: int) -> str:
        """The name that the source of the records gave the sample."""
        return self._read(index)["file_name"].decode()

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """None: the samples share their files."""
        return ()

    def _read(self, index: int) -> dict[str, bytes]:
        try:
            record = self._records[index]
        except RuntimeError as error:
            raise UserError(f"{self._root}: record {index} is damaged ({_line(error)}); {_AGAIN}") from None
        features = self._parse(record).features.feature
        return {key: feature.bytes_list.value[0] for key, feature in features.items()}


def _copies(files: list[pathlib.Path], size: int, what: str) -> list[pathlib.Path]:
    """Shards of a bucket on this machine: their reader needs files that it can seek in at any time."""
    cache = photo_cache.in_use()
    cache.require_room(size, what)
    copies = [copy for copy in buckets.together(photo_cache.local, files) if copy is not None]
    for copy in copies:
        cache.pin(copy)
    return copies


def _list(found: dict) -> str:
    return ", ".join(found["splits"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _require_size(path: pathlib.Path, expected: int) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    if path.stat().st_size != expected:
        raise UserError(f"{path} has {path.stat().st_size} bytes, expected {expected}; {_AGAIN}")


def config(name: str, root: str = "", drop_classes: tuple[str, ...] = (), limit: int = 0) -> ConfigDict:
    """Makes the config of a dataset that `mdp data prepare` wrote.

    Args:
      name: of the dataset.
      root: the folder with manifest.json, joined to the run's data_dir unless absolute; "" = prepared/NAME.
      drop_classes: names of classes whose pixels become ignored.
      limit: train on this many photos; 0 = all.
    """
    root = root or f"prepared/{name}"
    return as_config_dict(ArrayRecordConfig(name=name, root=root, drop_classes=drop_classes, limit=limit)).lock()


KIND = Kind(config=config, config_type=ArrayRecordConfig, source=ArrayRecordSource)
