"""Sources: one split of one dataset as a sequence of {"image": uint8 [H, W, 3] RGB, "label": int16 [H, W]} samples.

A source has `name`, `classes`, `palette` (the set's own colours, uint8 RGB [C, 3], or None), `len`, `[i]` and
`describe(i)`. Labels are local ids, -1 = ignore.
"""

import hashlib
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from ml_collections import ConfigDict

from mdp_jax.data import images
from mdp_jax.data.batches.bad_images import ON_BAD_IMAGE
from mdp_jax.data.drawn import scenes as synthetic
from mdp_jax.data.kinds import listing
from mdp_jax.data.kinds.ade20k import Ade20kSource
from mdp_jax.data.kinds.array_record import ArrayRecordSource
from mdp_jax.data.kinds.cityscapes import CityscapesSource
from mdp_jax.data.kinds.coco_stuff import CocoStuffSource
from mdp_jax.data.kinds.folder import FolderPhotos, FolderSource
from mdp_jax.data.kinds.tfds import TfdsSource
from mdp_jax.data.kinds.voc import VocSource
from mdp_jax.errors import UserError

_SUBSET = 0x6C696D6974  # keeps the choice of `limit` photos apart from the seed's other uses
_HOLDOUT = 0x686F6C64  # the seed of what is set aside: the same photos in every run


class SyntheticSource:
    """Drawn scenes of one taxonomy (mdp_jax/data/drawn/scenes.py), each drawn anew when it is asked for."""

    def __init__(self, config: ConfigDict, data_dir: str, split: str):
        """`config` as configs.base.synthetic makes it; `data_dir` is not used.

        UserError on an unknown name or no images.
        """
        del data_dir
        self.name = config.name
        self.classes = synthetic.classes(config.name)
        self.palette = None
        key = "images" if split == "train" else "val_images"
        if config[key] < 1:
            raise UserError(f"synthetic dataset {config.name!r} has {key} = {config[key]}; expected at least 1")
        self._split = split
        self._length = config[key]
        self._size = tuple(config.size)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        image, label = synthetic.draw(self.name, self._split, index, size=self._size)
        return {"image": image, "label": label}

    def describe(self, index: int) -> str:
        """A file name for the scene."""
        return f"{self.name}_{self._split}_{index:05d}.png"


SOURCES = {
    "folder": FolderSource,
    "voc": VocSource,
    "ade20k": Ade20kSource,
    "coco_stuff": CocoStuffSource,
    "cityscapes": CityscapesSource,
    "array_record": ArrayRecordSource,
    "tfds": TfdsSource,
    "synthetic": SyntheticSource,
}
_PHOTOS = SOURCES | {"folder": FolderPhotos}  # of sets without labels; the other kinds' masks are read in vain


class _Prepared:
    """A source with classes dropped, photos chosen, sizes changed and samples kept in memory, as the config says."""

    def __init__(
        self,
        source,
        chosen: np.ndarray,
        drop_classes: tuple[str, ...],
        short_side: int,
        cache: bool,
        resize_labels: bool,
    ):
        self.name = source.name
        self.classes = tuple(label for label in source.classes if label not in drop_classes)
        stays = [label not in drop_classes for label in source.classes]
        self.palette = None if source.palette is None else source.palette[stays]
        self._source = source
        self._chosen = chosen
        self._short_side = short_side
        self._resize_labels = resize_labels
        self._kept: dict[int, dict[str, np.ndarray]] | None = {} if cache else None
        # One entry more than classes: label -1 reads the last one, which stays -1.
        self._new_id = np.full(len(source.classes) + 1, -1, np.int16) if drop_classes else None
        if drop_classes:
            self._new_id[:-1][stays] = np.arange(len(self.classes))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if self._kept is None:
            return self._prepare(index)
        # Two threads may prepare one sample at a time; both make the same, so the dict needs no lock of its own.
        sample = self._kept.get(index)
        if sample is None:
            sample = self._prepare(index)
            for array in sample.values():
                array.flags.writeable = False
            self._kept[index] = sample
        return sample

    def describe(self, index: int) -> str:
        return self._source.describe(int(self._chosen[index]))

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """The files of the photo and of its mask; none where a sample comes from something else."""
        return self._source.files(int(self._chosen[index])) if hasattr(self._source, "files") else ()

    def _prepare(self, index: int) -> dict[str, np.ndarray]:
        sample = self._source[int(self._chosen[index])]
        image, label = sample["image"], sample["label"]
        if self._new_id is not None:
            label = self._new_id[label]
        height, width = images.short_side_size(*image.shape[:2], self._short_side)
        if self._resize_labels:
            label = images.resize_label(label, height, width)
        return {"image": images.resize_photo(image, height, width), "label": label}


def open_source(
    source_config: ConfigDict, data_config: ConfigDict, data_dir: str, split: str, seed: int, scored: bool = False
) -> _Prepared:
    """Opens the split 'train', 'val' or 'test' of a dataset; reads no photo yet.

    `drop_classes`: the remaining ids move together, dropped pixels become -1. `limit` (train alone): that many photos,
    chosen by the seed; those of a smaller limit are among those of a larger one. `short_side`: photos are resized to
    it, and so are the labels of the train split; those of the other splits keep the photo's own size, in which it is
    evaluated. `cache`: samples stay in memory, read-only, once they were asked for. `holdout`: that many training
    photos, the same whatever the seed, leave the split 'train' and are the split 'val'. `on_bad_image` (train alone):
    what happens where a photo cannot be read (data/bad_images.py). `labels` "none" (train alone): no classes, and all
    pixels are ignored; the kind `folder` then needs photos alone.

    `scored`: the photos are to be evaluated, so those of the train split are read as those of the others are.

    OpenCV's own threads are turned off for the process: whoever reads samples does so in several threads.

    UserError on an unknown kind or `labels`, unknown or all classes dropped, a limit, holdout or short side that cannot
    be, a split without photos, and whatever the kind finds wrong.
    """
    cv2.setNumThreads(0)
    if source_config.kind not in SOURCES:
        known = ", ".join(SOURCES)
        raise UserError(f"dataset {source_config.name!r} is of kind {source_config.kind!r}; expected one of {known}")
    if data_config.short_side < 0:
        raise UserError(f"data.short_side is {data_config.short_side}; expected pixels, or 0 for photos as they are")
    holdout = source_config.holdout if split in ("train", "val") else 0
    if source_config.labels not in _OPEN:
        known, found = ", ".join(_OPEN), source_config.labels
        raise UserError(f"dataset {source_config.name!r} has labels={found!r}; expected one of {known}")
    if source_config.labels == "none" and split != "train":
        raise UserError(f"dataset {source_config.name!r}: labels='none', so there is no split {split!r} to score on")
    source, drop_classes = _OPEN[source_config.labels](source_config, data_dir, "train" if holdout else split)
    require_photos(source, "train" if holdout else split)
    train = split == "train"
    chosen = np.arange(len(source))
    if holdout:
        chosen = _hold_out(source, holdout, train)
    if train and source_config.limit:
        chosen = chosen[_choose(source.name, len(chosen), source_config.limit, seed)]
    trains = train and not scored
    prepared = _Prepared(source, chosen, drop_classes, data_config.short_side, data_config.cache, trains)
    # Never in a split that is evaluated: the scores would be those of other photos.
    return ON_BAD_IMAGE[data_config.on_bad_image](prepared, data_config.bad_image_share) if trains else prepared


def photos_of(source) -> dict:
    """What a checkpoint keeps of the photos that a run draws from: {"count", "names"}, a digest of their files' names.

    Samples that lie in other files have no names, and their digest is that of nothing.
    """
    names = "\n".join(listing.composed(path.name) for i in range(len(source)) for path in source.files(i)[:1])
    digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
    return {"count": len(source), "names": digest}


def require_photos(source, split: str) -> None:
    """UserError where a split has no photo at all."""
    if not len(source):
        raise UserError(f"dataset {source.name!r}: no photo in its split {split!r}; expected at least one")


def _open_labelled(config: ConfigDict, data_dir: str, split: str) -> tuple:
    """A split with masks, and the classes of it that are dropped."""
    source = SOURCES[config.kind](config, data_dir, split)
    drop_classes = tuple(config.drop_classes)
    for label in drop_classes:
        if label not in source.classes:
            known = ", ".join(source.classes)
            raise UserError(f"dataset {source.name!r}: drop_classes has {label!r}; expected one of {known}")
    if set(drop_classes) == set(source.classes):
        raise UserError(f"dataset {source.name!r}: drop_classes names every class; expected one to stay")
    return source, drop_classes


def _open_unlabelled(config: ConfigDict, data_dir: str, split: str) -> tuple:
    """A split whose masks are not wanted, and all classes that it has all the same."""
    if config.drop_classes:
        raise UserError(f"dataset {config.name!r}: drop_classes with labels='none'; expected no classes to drop")
    source = _PHOTOS[config.kind](config, data_dir, split)
    return source, source.classes


_OPEN = {"masks": _open_labelled, "none": _open_unlabelled}


def _hold_out(source, holdout: int, train: bool) -> np.ndarray:
    """The training photos that stay, or those that are set aside; they depend on the number of photos alone."""
    if not 1 <= holdout < len(source):
        raise UserError(
            f"dataset {source.name!r}: holdout is {holdout}; expected 0 for none, or 1 to {len(source) - 1} photos"
        )
    order = np.random.default_rng(_HOLDOUT).permutation(len(source))
    return np.sort(order[holdout:] if train else order[:holdout])


def _choose(name: str, count: int, limit: int, seed: int) -> np.ndarray:
    """The first `limit` of `count` photos in a random order that depends on the seed and their number alone."""
    if seed < 0:
        raise UserError(f"seed is {seed}; expected 0 or more")
    if not 1 <= limit <= count:
        raise UserError(f"dataset {name!r}: limit is {limit}; expected 0 for all, or 1 to {count} photos")
    return np.sort(np.random.default_rng((seed, _SUBSET)).permutation(count)[:limit])


def check_source(source, limit: int) -> None:
    """Opens up to `limit` evenly spaced samples, in threads; raises the first UserError in the order of the samples."""
    count = min(limit, len(source))
    indices = np.arange(count) * len(source) // max(count, 1)

    def open_one(index: int) -> None:
        source[index]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(open_one, indices.tolist()):
            pass
