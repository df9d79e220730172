"""The TensorFlow Datasets builder of a segmentation dataset, from the directory that it was released in.

Photos and masks are given to TFDS as encoded bytes: it would import TensorFlow to encode arrays.
"""

import functools
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.prepared import manifest, smaller
from mdp_jax.storage import buckets, photo_cache
from mdp_jax.storage.paths import as_path

# Masks of few flat regions: the fastest setting that is also about the smallest.
_PNG = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_COMPRESSION, 1)
_IGNORE = 255


# TFDS has no types, so its bases' keyword is unknown to the type checker.
class SegmentationBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Records of the samples of sources, in their order.

    A record holds "image", the bytes of the photo's own file, or of a smaller one (smaller.py); "mask", a PNG of 8 bits
    with the source's local ids, 255 where the label is -1; and "file_name", the source's name of the sample.
    """

    VERSION = tfds.core.Version(manifest.VERSION)

    def __init__(
        self, name: str, sources: Mapping[str, Source], shards: Mapping[str, int], data_dir: str, short_side: int = 0
    ):
        """Makes the builder; writes nothing.

        Args:
          name: of the dataset, a word that TFDS accepts.
          sources: split -> source of its kind.
          shards: split -> number of shards.
          data_dir: where `download_and_prepare` of TFDS would write, in NAME/VERSION.
          short_side: that larger photos of the training are resized to, in pixels; 0 = they stay as they are.
        """
        self.name = name
        self.short_side = short_side
        self.sources = dict(sources)
        self.shards = dict(shards)
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        classes = next(iter(self.sources.values())).classes
        features = {
            "image": tfds.features.Image(),
            "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png", use_colormap=True),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Photos and masks of class ids, 255 = ignore. Classes from id 0: {', '.join(classes)}.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "mask"),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: Any = None) -> dict[str, Sequence[Callable]]:
        del dl_manager  # nothing is downloaded
        return {
            split: [functools.partial(self._examples, split, indices) for indices in self.shard_indices(split)]
            for split in self.sources
        }

    def shard_indices(self, split: str) -> list[range]:
        """The samples of each shard of a split: contiguous, and their numbers differ by at most one."""
        photos, shards = len(self.sources[split]), self.shards[split]
        return [range(photos * k // shards, photos * (k + 1) // shards) for k in range(shards)]

    def _examples(self, split: str, indices: range) -> Iterator[tuple[int, dict]]:
        source = self.sources[split]
        for index in indices:
            photo, _ = source.files(index)
            sample = source[index]  # decodes the photo, too: a file that cannot be read is found here
            side = self.short_side if split == smaller.SPLIT else 0
            stored = smaller.made_smaller(
                photo_cache.read_bytes(photo, "a photo"), sample["image"], sample["label"], side
            )
            example = {
                "image": io.BytesIO(stored.photo),
                "mask": io.BytesIO(mask_png(stored.label)),
                "file_name": source.describe(index),
            }
            yield index, example

    def records(self, split: str, indices: range) -> Iterator[bytes]:
        """Makes the serialized records of some samples of a split, the same bytes each time.

        Args:
          split: their split.
          indices: of the samples.

        Yields:
          The bytes of a record.

        Raises:
          UserError: a sample cannot be read.
        """
        serializer = tfds.core.ExampleSerializer(self.info.features.get_serialized_info())
        for _, example in self._examples(split, indices):
            record = serializer.get_tf_example(self.info.features.encode_example(example))
            # Otherwise, the keys would come in another order in each process, and checksums would differ.
            yield record.SerializeToString(deterministic=True)

    def write_metadata(self, folder: str | os.PathLike, splits: Mapping[str, dict]) -> None:
        """Writes dataset_info.json and features.json, with which TFDS reads the shards.

        Args:
          folder: of the shards.
          splits: those of a manifest (manifest.py).
        """
        infos = [
            tfds.core.SplitInfo(
                name=split, shard_lengths=[shard["records"] for shard in part["shards"]], num_bytes=part["bytes"]
            )
            for split, part in splits.items()
        ]
        self.info.set_splits(tfds.core.SplitDict(infos))
        if not buckets.is_bucket(folder):
            self.info.write_to_directory(folder)
            return
        with tempfile.TemporaryDirectory(prefix="mdp-prepare-") as place:
            self.info.write_to_directory(place)
            buckets.upload_folder(pathlib.Path(place), str(as_path(folder)))


def shard_name(name: str, split: str, shard: int, shards: int) -> str:
    """The file name of a shard, as TFDS names it.

    Args:
      name: of the dataset.
      split: of the shard.
      shard: its number in the split.
      shards: number of shards of the split.
    """
    template = tfds.core.ShardedFileTemplate(
        data_dir=".", dataset_name=name, split=split, filetype_suffix="array_record"
    )
    return template.sharded_filepath(shard_index=shard, num_shards=shards).name


def mask_png(label: np.ndarray) -> bytes:
    """Encodes a label as a PNG of 8 bits, in which -1 becomes 255.

    Args:
      label: int16 [H, W] in -1..254.
    """
    mask = np.where(label < 0, _IGNORE, label).astype(np.uint8)
    return cv2.imencode(".png", mask, _PNG)[1].tobytes()
