"""Sources: one split of one dataset, opened as a config says: classes dropped, photos chosen, sizes, cache."""

import hashlib
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from mdp_jax.configs import DataConfig, FinetuneConfig, PretrainConfig, SourceConfig
from mdp_jax.data import images
from mdp_jax.data.batches.bad_images import ON_BAD_IMAGE, SkippingSource
from mdp_jax.data.class_groups import Grouped, grouped
from mdp_jax.data.doctor import findings, scan, shrinking
from mdp_jax.data.kinds import KINDS, listing
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import TransientError, UserError
from mdp_jax.storage import buckets, photo_cache
from mdp_jax.storage.files import require_regular, unreadable
from mdp_jax.words import some

_SUBSET = 0x6C696D6974  # keeps the choice of `limit` photos apart from the seed's other uses
_HOLDOUT = 0x686F6C64  # the seed of what is set aside: the same photos in every run
_OF_BUCKETS = 16  # threads that wait for a network
NO_CONTENT = hashlib.sha256(b"").hexdigest()  # of samples of which no content is known (photos_of)
_SAMPLES, _SAMPLE = 16, 64  # parts of a file that its fingerprint reads, and bytes of each


class _Prepared:
    """A source whose classes are dropped, photos chosen and resized, and samples kept in memory, by the config."""

    def __init__(
        self,
        source: Source,
        split: str,
        chosen: np.ndarray,
        grouped: Grouped,
        short_side: int,
        cache: bool,
        resize_labels: bool,
    ):
        self.name = source.name
        self.split = split
        self.classes = grouped.classes
        self.own_classes = source.classes  # before any was dropped or grouped
        first = [of[0] for of in grouped.of]
        self.palette: np.ndarray | None = None if source.palette is None else source.palette[first]
        self.passed_over = source.passed_over
        self.content = source.content
        self.stored_short_side = getattr(source, "stored_short_side", 0)
        self._source = source
        self._chosen = chosen
        self._short_side = short_side
        self._resize_labels = resize_labels
        self.own_sizes: dict[int, tuple[int, int]] = {}  # (height, width) of the photos that were read, as they are
        self._kept: dict[int, dict[str, np.ndarray]] | None = {} if cache else None
        # One entry more than classes: label -1 reads the last one, which stays -1.
        self._new_id: np.ndarray | None = None
        if grouped.of != tuple((index,) for index in range(len(source.classes))):
            self._new_id = grouped.new_ids(len(source.classes))

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
        """The name of a sample in messages."""
        return self._source.describe(int(self._chosen[index]))

    def files(self, index: int) -> tuple[pathlib.Path, ...]:
        """The files of the photo and of its mask; none where a sample has no files of its own."""
        return self._source.files(int(self._chosen[index]))

    def facts(self, index: int) -> images.Facts | None:
        """What the bytes of a photo say that its pixels do not, where it has no file of its own; None if not known."""
        found = getattr(self._source, "facts", None)
        return found(int(self._chosen[index])) if found else None

    def _prepare(self, index: int) -> dict[str, np.ndarray]:
        sample = self._source[int(self._chosen[index])]
        image, label = sample["image"], sample["label"]
        self.own_sizes[index] = image.shape[:2]
        if self._new_id is not None:
            label = self._new_id[label]
        try:
            height, width = images.short_side_size(image.shape[0], image.shape[1], self._short_side)
        except UserError as error:
            raise UserError(f"dataset {self.name!r}: {self.describe(index)}: {error}") from None
        if self._resize_labels:
            label = images.resize_label(label, height, width)
        return {"image": images.resize_photo(image, height, width), "label": label}


def open_source(
    source: SourceConfig, data: DataConfig, data_dir: str, split: str, seed: int, scored: bool = False
) -> Source:
    """Opens a split of a dataset; reads no photo yet.

    `drop_classes`: the remaining ids move together, dropped pixels become -1. `class_groups`: classes get other names
    and another order, or become one (class_groups.py). `limit` (train alone): that many photos, chosen by the seed;
    those of a smaller limit are among those of a larger one. `short_side`: photos are resized to
    it, and so are the labels of the train split; labels of the other splits keep the photo's own size, in which it is
    evaluated. `cache`: samples stay in memory, read-only, after they were read once. `holdout`: that many training
    photos, the same for every seed, leave the split 'train' and become the split 'val'. `on_bad_image` (train alone):
    what happens where a photo cannot be read (data/batches/bad_images.py). `labels` "none" (train alone): there are no
    classes and all pixels are ignored; some kinds do not need masks then.

    OpenCV's own threads are turned off for the process, since samples are read in several threads.

    Args:
      source: config of the dataset.
      data: how photos are read.
      data_dir: folder of all datasets.
      split: "train", "val" or "test".
      seed: of the run.
      scored: whether the photos are evaluated; then photos of the train split are read like those of the others.

    Returns:
      The source.

    Raises:
      UserError: the kind or `labels` is unknown; unknown classes, or all of them, are dropped; a limit, holdout or
        short side is impossible; the split has no photos; or the kind finds something wrong.
    """
    cv2.setNumThreads(0)
    photo_cache.choose(data.cache_dir, data.cache_gb)
    if source.kind not in KINDS:
        known = ", ".join(KINDS)
        raise UserError(f"dataset {source.name!r} is of kind {source.kind!r}; expected one of {known}")
    if data.short_side < 0:
        raise UserError(
            f"config.data.short_side={data.short_side}: expected a number of pixels, or 0 for photos as they are"
        )
    holdout = source.holdout if split in ("train", "val") else 0
    if source.labels not in _OPEN:
        known, found = ", ".join(_OPEN), source.labels
        raise UserError(f"dataset {source.name!r} has labels={found!r}; expected one of {known}")
    if source.labels == "none" and split != "train":
        raise UserError(
            f"dataset {source.name!r}: labels='none', so there is no split {split!r} to score on; expected 'masks'"
        )
    opened, classes = _OPEN[source.labels](source, data_dir, "train" if holdout else split)
    require_photos(opened, "train" if holdout else split)
    train = split == "train"
    chosen = np.arange(len(opened))
    if holdout:
        chosen = _hold_out(opened, holdout, train)
    if train and source.limit:
        chosen = chosen[_choose(opened.name, len(chosen), source.limit, seed)]
    trains = train and not scored
    prepared = _Prepared(opened, split, chosen, classes, data.short_side, data.cache, trains)
    # Never in a split that is evaluated: the scores would be those of other photos.
    return ON_BAD_IMAGE[data.on_bad_image](prepared, data.bad_image_share) if trains else prepared


def datasets_of(config: PretrainConfig | FinetuneConfig) -> tuple[SourceConfig, ...]:
    """The configs of the datasets of a run.

    Args:
      config: of either loop.

    Returns:
      In pretraining all sources, in fine-tuning the one dataset.
    """
    found = (config.dataset,) if hasattr(config, "dataset") else tuple(config.sources)
    return tuple(source for source in found if source is not None)


def require_photos(source: Source, split: str) -> None:
    """Checks that a split has photos.

    Args:
      source: the opened split.
      split: its name, for the error.

    Raises:
      UserError: it has none.
    """
    if not len(source):
        raise UserError(f"dataset {source.name!r}: no photo in its split {split!r}; expected at least one")


def require_size(source: Source, short_side: int) -> None:
    """Checks that a run resizes all photos at least as much as those that `mdp data prepare` made smaller.

    Otherwise the validation photos, which are stored as they are, would be larger than those of the training.

    Args:
      source: what `open_source` gives.
      short_side: `data.short_side` of the run.

    Raises:
      UserError: it does not.
    """
    stored = getattr(source, "stored_short_side", 0)
    if stored and not 0 < short_side <= stored:
        raise UserError(
            f"config.data.short_side={short_side}: dataset {source.name!r} was prepared with --short_side {stored}; "
            f"expected 1 to {stored}, or records that are prepared without it"
        )


def _open_labelled(config: SourceConfig, data_dir: str, split: str) -> tuple[Source, Grouped]:
    """A split with masks, and its classes that are left."""
    source = KINDS[config.kind].source(config, data_dir, split)
    drop_classes = tuple(config.drop_classes)
    for label in drop_classes:
        if label not in source.classes:
            known = some(source.classes)
            raise UserError(f"dataset {source.name!r}: drop_classes has {label!r:.80}; expected one of {known}")
    if set(drop_classes) == set(source.classes):
        raise UserError(f"dataset {source.name!r}: drop_classes names every class; expected one to stay")
    return source, grouped(f"dataset {source.name!r}", source.classes, drop_classes, config.class_groups)


def _open_unlabelled(config: SourceConfig, data_dir: str, split: str) -> tuple[Source, Grouped]:
    """A split whose masks are not wanted; none of the classes is left that it has all the same."""
    if config.drop_classes:
        raise UserError(f"dataset {config.name!r}: drop_classes with labels='none'; expected no classes to drop")
    if config.class_groups:
        raise UserError(f"dataset {config.name!r}: class_groups with labels='none'; expected no classes to group")
    kind = KINDS[config.kind]
    source = (kind.photos_alone or kind.source)(config, data_dir, split)
    return source, Grouped((), ())


_OPEN = {"masks": _open_labelled, "none": _open_unlabelled}


def _hold_out(source: Source, holdout: int, train: bool) -> np.ndarray:
    """The training photos that stay, or those that are set aside; they depend on the number of photos alone."""
    if not 1 <= holdout < len(source):
        most = len(source) - 1
        fits = [", as the set has one photo", ", or 1 photo"][most] if most < 2 else f", or 1 to {most} photos"
        raise UserError(f"dataset {source.name!r}: holdout is {holdout}; expected 0 for none{fits}")
    order = np.random.default_rng(_HOLDOUT).permutation(len(source))
    return np.sort(order[holdout:] if train else order[:holdout])


def _choose(name: str, count: int, limit: int, seed: int) -> np.ndarray:
    """The first `limit` of `count` photos in a random order that depends on the seed and their number alone."""
    if seed < 0:
        raise UserError(f"seed is {seed}; expected 0 or more")
    if not 1 <= limit <= count:
        raise UserError(f"dataset {name!r}: limit is {limit}; expected 0 for all, or 1 to {count} photos")
    return np.sort(np.random.default_rng((seed, _SUBSET)).permutation(count)[:limit])


def check_source(
    source: Source,
    limit: int,
    say: Callable[[str], None] | None = None,
    short_side: int = 0,
    stride: int = 0,
) -> None:
    """Opens evenly spaced samples, in threads, and says on stderr what is likely to spoil a run.

    Args:
      source: what `open_source` gives.
      limit: samples at most.
      say: called with each line, in place of stderr.
      short_side: that its photos are resized to; 0 = they stay as they are.
      stride: of the features, in pixels, for what is lost by the size of the photos; 0 = that is not said.

    Raises:
      UserError: a sample cannot be used (the message names the first), or no sample has a labelled pixel.
    """
    count = min(limit, len(source))
    indices = (np.arange(count) * len(source) // max(count, 1)).tolist()
    found = scan.nothing(len(source.classes))
    in_bucket = any(buckets.is_bucket(path) for index in indices[:1] for path in source.files(index))
    with ThreadPoolExecutor(_OF_BUCKETS if in_bucket else os.cpu_count()) as pool:
        for of_sample in pool.map(lambda index: scan.look(source, [index], compare=False), indices):
            if of_sample.problems:
                raise UserError(of_sample.problems[0].line)
            found.add(of_sample)
    where = f"dataset {source.name!r} {getattr(source, 'split', '')}".rstrip()
    failure = findings.unlearnable(where, source.classes, found)
    if failure and count == len(source):
        raise UserError(failure)
    lines = [failure] if failure else findings.remarks(where, source, found, plain_ids=False)
    if stride:
        own_sizes = getattr(source, "own_sizes", {})
        sizes = [own_sizes[index] for index in indices if index in own_sizes]
        lines += shrinking.remarks(where, sizes, found.areas_of(source.classes), short_side, stride)
    for line in lines:
        (say or _to_stderr)(line)


def _to_stderr(line: str) -> None:
    print(f"mdp: warning: {line}", file=sys.stderr, flush=True)


def photos_of(source: Source) -> dict:
    """What a checkpoint stores about the photos that a run draws from.

    Args:
      source: what `open_source` gives.

    Returns:
      {"count"; "names", a digest of the names of the photos' files; "content", a digest of the sizes of all files and
      of some bytes of each}. Samples without files of their own have no names; their digest is that of nothing. Times
      and folders do not count: a copy on another disk has the same photos. Where bad photos are skipped, files that
      cannot be read are all alike.

    Raises:
      UserError: a file cannot be read, and bad photos are not skipped.
    """
    files = [source.files(i) for i in range(len(source))]
    names = "\n".join(listing.composed(paths[0].name) for paths in files if paths)
    in_bucket = any(buckets.is_bucket(path) for paths in files for path in paths)
    fingerprint = _fingerprint_or_none if isinstance(source, SkippingSource) else _fingerprint
    with ThreadPoolExecutor(_OF_BUCKETS if in_bucket else 2 * (os.cpu_count() or 1)) as pool:  # they wait for the disk
        samples = list(pool.map(fingerprint, (path for paths in files for path in paths)))
    content = hashlib.sha256(source.content.encode() + b"".join(samples)).hexdigest()
    return {"count": len(source), "names": _digest(names), "content": content}


def is_same(before: Mapping, now: Mapping) -> bool:
    """Whether photos are those of before, as far as it is known what they were.

    Args:
      before: as `photos_of` gave them, maybe in an earlier version.
      now: as it gives them.
    """
    return all(value in (now.get(key), NO_CONTENT) for key, value in before.items())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _fingerprint(path: pathlib.Path) -> bytes:
    """A digest of a file's size and of bytes at evenly spaced offsets, which include the end."""
    if not buckets.is_bucket(path):
        require_regular(path, "a photo or mask")
    try:
        with photo_cache.opened(path) as file:
            size = file.seek(0, os.SEEK_END)
            found = hashlib.sha256(str(size).encode())
            last = max(0, size - _SAMPLE)
            for offset in sorted({last * k // (_SAMPLES - 1) for k in range(_SAMPLES)}):
                file.seek(offset)
                found.update(file.read(_SAMPLE))
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "a photo or mask") from None
    return found.digest()


def _fingerprint_or_none(path: pathlib.Path) -> bytes:
    try:
        return _fingerprint(path)
    except TransientError:
        raise
    except UserError:
        return hashlib.sha256(b"").digest()
