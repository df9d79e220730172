"""Batches for the two loops: grain interleaves the shuffled, repeated sources, and its threads read and augment.

Each sample depends on (config.seed, its number in the whole run) alone, so batch k is the same whichever batch a run
begins at, and whatever the number of threads and processes.
"""

import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import grain
import numpy as np

from mdp_jax import runtime
from mdp_jax.configs import (
    FinetuneConfig,
    FinetuneDataConfig,
    PhotometricConfig,
    PretrainConfig,
    PretrainDataConfig,
)
from mdp_jax.data.batches import augment, mixture, stages
from mdp_jax.data.batches.shuffle import ShuffledEpochs
from mdp_jax.data.kinds.kind import Source
from mdp_jax.data.label_space import LabelSpace, build

_NO_DISTORTION = PhotometricConfig(0.0, 0.0, 0.0, 0.0)


class Batches(Protocol):
    """An iterator of batches, to be closed after its last use: it has threads."""

    def __iter__(self) -> "Batches": ...

    def __next__(self) -> dict[str, np.ndarray]: ...

    def close(self) -> None:
        """Ends the threads."""


class _Shown:
    """A source whose reading is shown in a profile."""

    def __init__(self, source: Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        with runtime.span("read photo"):
            return self._source[index]


class Places(NamedTuple):
    """The parts of each global batch that a process takes.

    Attributes:
      own: numbers of the parts, ascending.
      parts: number of equal parts that a global batch is cut into; pairs are not cut.
    """

    own: tuple[int, ...]
    parts: int


class _Share:
    """Selection map for grain: the samples of the run that one process takes, batch after batch."""

    def __init__(self, batch: int, places: Places):
        self._batch, self._own, self._part = batch, places.own, batch // places.parts
        self.size = self._part * len(self._own)  # samples of a batch of this process

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        return 0, self.sample(index)

    def sample(self, index: int) -> int:
        """The number in the run of this process's sample `index`."""
        number, within = divmod(index, self.size)
        part, at = divmod(within, self._part)
        return number * self._batch + self._own[part] * self._part + at


_SHUFFLE, _VIEWS = 3, 4  # keep these uses of the seed apart from each other and from those of the mixture


def pretrain_schedule(config: PretrainConfig, sources: Sequence[Source]) -> mixture.Schedule:
    """Makes the schedule by which `pretrain_batches` draws pairs from the sources.

    Datasets are drawn by config.mixture_weights, or else by their sizes; datasets outside of a stage of config.stages
    are not drawn in it. From its steps on, a row of config.mixture_schedule replaces these weights. Pairs are mixed
    from step config.mixing.start on.

    Args:
      config: of the run.
      sources: its datasets.

    Returns:
      The schedule.

    Raises:
      UserError: a stage has no step.
    """
    weights: Sequence[float] = config.mixture_weights
    if not weights:
        lengths = [len(source) for source in sources]
        weights = mixture.mixture_weights(lengths, config.mixture_temperature).tolist()
    pairs = config.batch // 2  # of a step
    rows = dict(stages.weights(config, sources, weights)) | {step: row for step, *row in config.mixture_schedule}
    starts = sorted((step * pairs, row) for step, row in rows.items())
    phases = mixture.phases(starts, config.mixing.region, config.mixing.pixel, config.mixing.start * pairs)
    return mixture.Schedule(phases, config.seed)


def pretrain_batches(
    config: PretrainConfig,
    sources: Sequence[Source],
    label_space: LabelSpace,
    *,
    start_batch: int,
    key_view: bool = True,
    process_index: int = 0,
    process_count: int = 1,
    places: Places | None = None,
) -> Batches:
    """Makes endless batches of pairs of samples, each with two views (METHOD.md section 4).

    A process gets its contiguous block of each global batch of config.batch samples, or the parts of `places`: B of
    them, P = B / 2 pairs, whose members are 2j and 2j + 1.

      image, key_image  uint8 [B, H, W, 3], RGB: the query view and, with `key_view`, the second view, augmented
                        independently; of a photo of an unlabelled dataset with the query view's crop and flip
      label, key_label  int16 [B, H, W], global id, -1 ignore
      dataset           int32 [B]
      mix_kind          int32 [P]: 0 plain, 1 region, 2 pixel
      lam               float32 [P]: 1 in plain pairs
      box               int32 [P, 4]: y0, x0, y1, x1, half open; 0 unless the pair is region-mixed

    Args:
      config: of the run; checks.py has accepted it.
      sources: its datasets.
      label_space: of them.
      start_batch: number of the first batch.
      key_view: whether samples have a second view.
      process_index: of this process.
      process_count: of all.
      places: of this process, where the devices of the run say which samples it takes.

    Returns:
      An iterator of batches; reading raises what the sources raise.

    Raises:
      UserError: the label space is of other datasets.
    """
    build(sources, label_space.kind).require_same(label_space, "the label space given to the pipeline")
    schedule = pretrain_schedule(config, sources)
    streams = [
        _stream(source, config.seed, d).map(functools.partial(_globally, dataset=d, ids=np.array([*ids, -1], np.int16)))
        for d, (source, ids) in enumerate(zip(sources, label_space.global_ids, strict=True))
    ]
    samples = grain.MapDataset.select_from_datasets(streams, schedule)
    views = functools.partial(_views, data=config.data, key_view=key_view)
    samples = samples.random_map(views, seed=_view_seed(config.seed))
    share = _Share(config.batch, places or Places((process_index,), process_count))
    batches = _own(samples, share)
    mixed = functools.partial(
        _add_mixing, share=share, schedule=schedule, size=config.data.crop, beta=config.mixing.beta, seed=config.seed
    )
    return _iterate(batches.map_with_index(mixed), config.data.threads, start_batch)


def finetune_batches(
    config: FinetuneConfig,
    source: Source,
    *,
    start_batch: int,
    process_index: int = 0,
    process_count: int = 1,
    places: Places | None = None,
) -> Batches:
    """Makes endless batches of one dataset (METHOD.md section 6).

    A process gets its contiguous block of B samples of each global batch of config.batch, or the parts of `places`:
    "image" uint8 [B, H, W, 3] RGB, "label" int16 [B, H, W], local id, -1 ignore.

    Args:
      config: of the run; checks.py has accepted it.
      source: its dataset.
      start_batch: number of the first batch.
      process_index: of this process.
      process_count: of all.
      places: of this process, where the devices of the run say which samples it takes.

    Returns:
      An iterator of batches; reading raises what the source raises.
    """
    samples = _stream(source, config.seed, 0)
    samples = samples.random_map(functools.partial(_one_view, data=config.data), seed=_view_seed(config.seed))
    share = _Share(config.batch, places or Places((process_index,), process_count))
    return _iterate(_own(samples, share), config.data.threads, start_batch)


def _view_seed(seed: int) -> int:
    """The seed of the augmentation for grain, which takes 32 bits."""
    return int(np.random.SeedSequence((seed, _VIEWS)).generate_state(1)[0])


def _stream(source: Source, seed: int, dataset: int) -> grain.MapDataset:
    """The source's samples, shuffled anew in each epoch, for ever."""
    order = ShuffledEpochs(len(source), (seed, _SHUFFLE, dataset))
    return grain.MapDataset.select_from_datasets([grain.MapDataset.source(_Shown(source))], order)


def _globally(sample: dict, dataset: int, ids: np.ndarray) -> dict:
    """Adds what the mixture must know of a sample's dataset: `ids`, the global ids of its classes, then -1."""
    return {**sample, "dataset": np.int32(dataset), "ids": ids}


def _views(sample: dict, rng: np.random.Generator, data: PretrainDataConfig, key_view: bool) -> dict:
    with runtime.span("augment"):
        return _both_views(sample, rng, data, key_view)


def _both_views(sample: dict, rng: np.random.Generator, data: PretrainDataConfig, key_view: bool) -> dict:
    photo = sample["image"], sample["label"]
    if key_view and len(sample["ids"]) == 1:
        # The pixels of an unlabelled photo are labelled by their own embeddings in the key view (METHOD.md section 7).
        image, label = augment.pretrain_view(*photo, rng, data, _NO_DISTORTION)
        found = [(augment.photometric(image, rng, data.photometric), label) for _ in range(2)]
    else:
        found = [augment.pretrain_view(*photo, rng, data) for _ in range(1 + key_view)]
    views = {"dataset": sample["dataset"]}
    for prefix, (image, label) in zip(("", "key_"), found, strict=False):
        # Label -1 takes the last of the ids.
        views |= {f"{prefix}image": image, f"{prefix}label": sample["ids"].take(label, mode="wrap")}
    return views


def _one_view(sample: dict, rng: np.random.Generator, data: FinetuneDataConfig) -> dict:
    with runtime.span("augment"):
        image, label = augment.finetune_view(sample["image"], sample["label"], rng, data)
    return {"image": image, "label": label}


def _own(samples: grain.MapDataset, share: _Share) -> grain.MapDataset:
    """Batches of one process: batch k holds its own samples of the run's batch k."""
    own = grain.MapDataset.select_from_datasets([samples], share)
    return own.batch(share.size, drop_remainder=True)


def _add_mixing(
    number: int, batch: dict, share: _Share, schedule: mixture.Schedule, size: tuple[int, int], beta: float, seed: int
) -> dict:
    """Adds kind, lam and box to a process's share of the run's batch of this number."""
    firsts = range(number * share.size, (number + 1) * share.size, 2)
    rows = [mixture.pair_mixing(schedule, share.sample(first) // 2, size, beta, seed) for first in firsts]
    mixing = {
        "mix_kind": np.array([row.kind for row in rows], np.int32),
        "lam": np.array([row.lam for row in rows], np.float32),
        "box": np.array([row.box for row in rows], np.int32),
    }
    return {**batch, **mixing}


def _iterate(batches: grain.MapDataset, threads: int, start: int) -> Batches:
    """The batches from number `start` on; every thread makes whole ones."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return cast(Batches, iterator)
