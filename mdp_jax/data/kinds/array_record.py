"""The kind `array_record`: the shards that `mdp data prepare` wrote, read at random without TensorFlow."""

import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from mdp_jax.data import images
from mdp_jax.data.kinds.classes import numbered
from mdp_jax.data.kinds.files import label_of
from mdp_jax.data.prepared import manifest
from mdp_jax.errors import UserError

_AGAIN = "start mdp data prepare again, it makes anew what is damaged"


class ArrayRecordSource:
    """The samples of one split, in the order and with the bits of the directories that they were made of.

    `name`; `classes` and `palette`, uint8 RGB [C, 3] or None, as the manifest has them; source[i] = {"image": uint8
    [H, W, 3] RGB, "label": int16 [H, W], class id, -1 ignored}. Reading a sample raises UserError where the shard is
    damaged, and where photo or mask are not what prepare writes. The checksums of whole shards are looked at by prepare
    when it is started again; here each record has one of its own.
    """

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.array_record makes it; its root is joined to `data_dir` unless absolute.

        UserError where the folder is not prepared to the end, has no such split, or a shard that is missing or of
        another size or number of records than the manifest says.
        """
        from array_record.python import array_record_data_source
        from tensorflow_datasets.proto import tf_example_pb2

        self._root = pathlib.Path(os.path.expanduser(data_dir), os.path.expanduser(config.root))
        found = manifest.read_complete(self._root)
        if split not in found["splits"]:
            raise UserError(f"{self._root} of dataset {config.name!r} has no split {split!r}; it has {_list(found)}")
        self.name = config.name
        self._table = numbered(found["classes"])
        self.classes = self._table.names
        self.palette = None if found["palette"] is None else np.array(found["palette"], np.uint8)
        shards = found["splits"][split]["shards"]
        for shard in shards:
            _require_size(self._root / shard["file"], shard["bytes"])
        try:
            self._records = array_record_data_source.ArrayRecordDataSource(
                [str(self._root / s["file"]) for s in shards]
            )
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

    def describe(self, index: int) -> str:
        """What the source of the records called the sample."""
        return self._read(index)["file_name"].decode()

    def _read(self, index: int) -> dict[str, bytes]:
        try:
            record = self._records[index]
        except RuntimeError as error:
            raise UserError(f"{self._root}: record {index} is damaged ({_line(error)}); {_AGAIN}") from None
        features = self._parse(record).features.feature
        return {key: feature.bytes_list.value[0] for key, feature in features.items()}


def _list(found: dict) -> str:
    return ", ".join(found["splits"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _require_size(path: pathlib.Path, expected: int) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; {_AGAIN}")
    if path.stat().st_size != expected:
        raise UserError(f"{path} has {path.stat().st_size} bytes, expected {expected}; {_AGAIN}")
