"""Inference: labels or scores photos at their own size, pixel by pixel (METHOD.md section 6)."""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdp_jax import distributed
from mdp_jax.configs import ModelConfig
from mdp_jax.data import images
from mdp_jax.data.kinds.kind import Source
from mdp_jax.errors import UserError
from mdp_jax.evaluation import metrics
from mdp_jax.evaluation.tiles import Tile, cut, maps_by_tiles
from mdp_jax.evaluation.views import WHOLE, Views, class_scores
from mdp_jax.evaluation.whole_photos import variables_of_tiles
from mdp_jax.models.network import most_likely
from mdp_jax.models.normalisation import Normalise

# Photos of one shape run together on a device up to this many pixels, which bounds the memory of their logits, and
# photos.
PIXELS = 2**20
PHOTOS = 16

# Photos of rare shapes wait for others of their shape; this many at most, so that a large set of many shapes does not
# gather in memory.
HELD_PHOTOS = 256

Report = Callable[[int], None]  # of the number of photos done
Each = Callable[[int, np.ndarray], None]  # of a photo's index and its confusion matrix


def _nothing(*found: object) -> None:
    del found


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """Makes the mesh of an evaluation: photos are split over its one axis.

    Args:
      devices: of this process.
    """
    return Mesh(np.array(devices), ("data",))


class Segmenter(Protocol):
    """models.network.Segmenter, or anything that can take its place."""

    def apply(self, variables: dict, images: jax.Array, train: bool) -> Any:
        """Maps normalised images [B,H,W,3] to logits [B,h,w,C]."""


def label_maps(
    segmenter: Segmenter,
    normalise: Normalise,
    views: Views,
    variables: dict,
    seen: Sequence[jax.Array],
    size: tuple[int, int],
) -> jax.Array:
    """Finds the most likely class of every pixel; pure.

    Args:
      segmenter: the network.
      normalise: makes the network's inputs from uint8 photos.
      views: how each photo is shown.
      variables: {"params", "batch_stats"}; may be replicated over the devices of a mesh, which then all do the same.
      seen: uint8 [B,H_i,W_i,3], RGB, for each scale, as views.of makes them.
      size: (H', W') of the result, static; the logits are resized to it before the maximum is taken.

    Returns:
      int32 [B,H',W'], class ids 0..C-1.
    """

    def logits_of(images: jax.Array) -> jax.Array:
        return segmenter.apply(variables, normalise(images), train=False)

    if views.single and views.crop is None:  # the logits of all pixels need not be there at once
        return most_likely(logits_of(seen[0]), size)
    return jnp.argmax(class_scores(logits_of, views, seen, size), axis=-1).astype(jnp.int32)


def probability_maps(
    segmenter: Segmenter,
    normalise: Normalise,
    views: Views,
    variables: dict,
    seen: Sequence[jax.Array],
    size: tuple[int, int],
    of_classes: bool,
) -> tuple[jax.Array, jax.Array]:
    """Finds the most likely class of every pixel and how likely it is; pure.

    Args:
      segmenter: as for `label_maps`.
      normalise: as for `label_maps`.
      views: as for `label_maps`.
      variables: as for `label_maps`.
      seen: as for `label_maps`.
      size: (H', W') of the result, static.
      of_classes: static; whether the probabilities of all classes are given.

    Returns:
      int32 [B,H',W'], class ids, and uint8 [B,H',W'], or [B,H',W',C] with `of_classes`: 255 times the probability,
      rounded.
    """

    def logits_of(images: jax.Array) -> jax.Array:
        return segmenter.apply(variables, normalise(images), train=False)

    found = class_scores(logits_of, views, seen, size)
    labels = jnp.argmax(found, axis=-1).astype(jnp.int32)
    probabilities = jax.nn.softmax(found, axis=-1) if views.single else found
    if not of_classes:
        probabilities = jnp.max(probabilities, axis=-1)
    return labels, jnp.round(255 * probabilities).astype(jnp.uint8)


class Probable(NamedTuple):
    """The labels of a photo and how likely they are.

    Attributes:
      label: int32 [H,W], class ids.
      probability: uint8 [H,W], 255 times the probability of the label; or [H,W,C], of every class.
    """

    label: np.ndarray
    probability: np.ndarray


class Predictor:
    """Labels single photos; compiles once for each distinct pair of sizes."""

    def __init__(
        self, segmenter: Segmenter, normalise: Normalise, views: Views = WHOLE, model: ModelConfig | None = None
    ):
        """Makes the predictor; compiles nothing yet.

        Args:
          segmenter: the network.
          normalise: makes the network's inputs from uint8 photos.
          views: how each photo is shown.
          model: the network under the head, for tiles.
        """
        self._views, self._normalise, self._model = views, normalise, model
        self._labels = jax.jit(functools.partial(label_maps, segmenter, normalise, views), static_argnums=2)
        probable = functools.partial(probability_maps, segmenter, normalise, views)
        self._probable = jax.jit(probable, static_argnums=(2, 3))

    def probable(
        self, variables: dict, image: np.ndarray, size: tuple[int, int], of_classes: bool, tile: int = 0
    ) -> Probable:
        """Labels a photo and says how likely the labels are.

        Args:
          variables: as for `label_maps`.
          image: uint8 [H,W,3], at the size that the network sees with scale 1.
          size: (H', W') of the result.
          of_classes: whether the probabilities of all classes are given, and not that of the label alone.
          tile: as for a call.
        """

        def of(variables: dict, image: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
            return [
                np.asarray(found)[0] for found in self._probable(variables, self._views.of([image]), size, of_classes)
            ]

        return Probable(*self._by_tiles(of, variables, image, size, tile))

    def __call__(self, variables: dict, image: np.ndarray, size: tuple[int, int], tile: int = 0) -> np.ndarray:
        """Labels a photo.

        Args:
          variables: as for `label_maps`.
          image: uint8 [H,W,3], at the size that the network sees with scale 1.
          size: (H', W') of the result.
          tile: side in pixels of the tiles that a larger photo is cut into (tiles.py), so that the memory does not grow
            with the photo; 0 = none. What is found in tiles is brought to another size by the nearest neighbour. A
            decoder that looks at the whole photo is given its means (whole_photos.py) where there is one view, the
            photo as it is; in other views it looks at the tile.

        Returns:
          int32 [H',W'], class ids.
        """

        def of(variables: dict, image: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
            return [np.asarray(self._labels(variables, self._views.of([image]), size))[0]]

        return self._by_tiles(of, variables, image, size, tile)[0]

    def _by_tiles(
        self,
        maps_of: Callable[..., list[np.ndarray]],
        variables: dict,
        image: np.ndarray,
        size: tuple[int, int],
        tile: int,
    ) -> list[np.ndarray]:
        """What a function finds of variables, an image and a size, as a whole or tile by tile."""
        if self._model is None or not tile or max(image.shape[:2]) <= tile:
            return maps_of(variables, image, size)
        tiles = cut(image, tile, self._model.output_stride)
        of_tile = None
        if self._views == WHOLE:
            of_tile = variables_of_tiles(self._model, self._normalise, variables, tiles)

        def of_one(tile: Tile) -> list[np.ndarray]:
            return maps_of(of_tile(tile) if of_tile else variables, tile.image, tiles.size)

        found = maps_by_tiles(of_one, tiles)
        return [images.resize_nearest(each[: image.shape[0], : image.shape[1]], *size) for each in found]


class Evaluator:
    """Scores a network on whole photos; compiles once for each distinct shape, kept for as long as the object lives.

    Photos are never padded: those of one image shape and one label shape form batches, and a batch that is not full is
    filled up with repeated photos whose labels are all ignored. The weights are an argument of every call, so that new
    ones compile nothing. `predict` labels single photos with the same network (Predictor).
    """

    def __init__(
        self,
        segmenter: Segmenter,
        source: Source,
        normalise: Normalise,
        pixels: int = PIXELS,
        views: Views = WHOLE,
        process_index: int = 0,
        process_count: int = 1,
        threads: int = 2,
        mesh: Mesh | None = None,
    ):
        """Makes the evaluator; compiles nothing yet.

        Args:
          segmenter: the network, with a class for each class of the source.
          source: the photos; `classes`, `len`, `describe` and the samples are read. A label may have another size than
            its photo; logits are resized to the label's size.
          normalise: makes the network's inputs from uint8 photos.
          pixels: number of pixels that run together on a device, at most; a larger photo runs alone.
          views: how each photo is shown.
          process_index: number of this process; it scores photos [process_index::process_count].
          process_count: number of processes that share the source. Each computes by itself, with variables on its own
            devices.
          threads: number of threads that decode ahead.
          mesh: of `mesh_of`, over which each batch is split; variables are on all its devices. None: one device.
        """
        self._source, self._pixels, self._views, self._threads = source, pixels, views, threads
        self._indices = range(process_index, len(source), process_count)
        self._num_classes = len(source.classes)
        self._devices, self._split = 1, None
        if mesh is not None:
            self._devices, self._split = mesh.size, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
        self._photos_of: dict[tuple, int] = {}
        self.predict = Predictor(segmenter, normalise, views)
        self._count = jax.jit(functools.partial(self._confusion, segmenter, normalise))

    @property
    def compiled_shapes(self) -> int:
        """The number of distinct (batch, image shape, label shape) that were compiled so far."""
        return len(self._photos_of)

    def __call__(self, variables: dict, report: Report = _nothing, each: Each = _nothing) -> dict:
        """Scores the photos of all processes, as one confusion matrix. With several processes each must call it.

        Args:
          variables: as for `label_maps`.
          report: called after every batch with the number of photos done so far.
          each: as for `counts`.

        Returns:
          What metrics.scores returns, and "images", the number of photos.

        Raises:
          UserError: for the same reasons as `counts`.
        """
        return self.scores(*self.total(variables, report, each))

    def total(self, variables: dict, report: Report = _nothing, each: Each = _nothing) -> tuple[np.ndarray, int]:
        """Computes `counts` over the photos of all processes. With several processes each must call it.

        Args:
          variables: as for `label_maps`.
          report: called after every batch with the number of photos done so far.
          each: as for `counts`.
        """
        counts, photos = self.counts(variables, report, each)
        return distributed.total(counts), int(distributed.total(np.array([photos]))[0])

    def scores(self, counts: np.ndarray, photos: int) -> dict:
        """Gives the scores of what `total` gives.

        Args:
          counts: the confusion matrix.
          photos: their number.
        """
        return {**metrics.scores(counts, self._source.classes), "images": photos}

    def counts(self, variables: dict, report: Report = _nothing, each: Each = _nothing) -> tuple[np.ndarray, int]:
        """Computes the confusion matrix of this process's photos; those of all processes can be added.

        Args:
          variables: as for `label_maps`.
          report: called after every batch with the number of photos done so far.
          each: called with the index of every photo in the source and its own confusion matrix, int64 [C+1,C+1].

        Returns:
          int64 [C+1,C+1], counted like metrics.confusion, and the number of photos.

        Raises:
          UserError: a label is C or more (the message names the photo), or the source raises it.
        """
        counts = np.zeros((self._num_classes + 1, self._num_classes + 1), np.int64)
        done = 0
        for shape, group in self._batches(self._decoded()):
            size = -(-len(group) // self._devices) * self._devices
            images, labels = _filled(group, self._photos_of.setdefault(shape, size))
            batch = (self._views.of(images), labels)
            if self._split is not None:
                batch = jax.device_put(batch, self._split)
            of_photos = np.asarray(self._count(variables, *batch), np.int64)
            counts += of_photos.sum(axis=0)
            for (index, _, _), own in zip(group, of_photos, strict=False):  # the batch may be filled up
                each(index, own)
            done += len(group)
            report(done)
        return counts, done

    def _confusion(
        self,
        segmenter: Segmenter,
        normalise: Normalise,
        variables: dict,
        seen: tuple[jax.Array, ...],
        labels: jax.Array,
    ) -> jax.Array:
        """From uint8 [B,H_i,W_i,3] of every scale and int16 [B,H',W'] to int32 [B,C+1,C+1]."""
        _, height, width = labels.shape
        prediction = label_maps(segmenter, normalise, self._views, variables, seen, (height, width))
        return jax.vmap(lambda label, found: metrics.confusion(label, found, self._num_classes))(labels, prediction)

    def _decoded(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Index, image and label of every photo of this process, in the source's order."""
        samples = _ahead(self._source.__getitem__, self._indices, self._threads)
        for index, sample in zip(self._indices, samples, strict=True):
            largest = sample["label"].max(initial=-1)
            if largest >= self._num_classes:
                where = self._source.describe(index)
                raise UserError(f"{where}: label {largest}, expected ids below {self._num_classes}, or ignore")
            yield index, sample["image"], sample["label"]

    def _batches(self, photos: Iterable[tuple]) -> Iterator[tuple[tuple, list[tuple]]]:
        """(shapes, photos of these shapes), in an order that depends on the photos' order and shapes alone.

        The first batch of a shape settles how many photos its compiled program takes: as many as may run together on
        all devices, or fewer where no more of them came. Later batches are never larger.
        """
        waiting: dict[tuple, list[tuple]] = {}
        for index, image, label in photos:
            shape = (image.shape, label.shape)
            waiting.setdefault(shape, []).append((index, image, label))
            largest = max(height * width for height, width in (label.shape, *self._views.sizes(*image.shape[:2])))
            together = min(max(self._pixels // largest, 1), PHOTOS) * self._devices
            if len(waiting[shape]) == self._photos_of.get(shape, together):
                yield shape, waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= HELD_PHOTOS:
                fullest = max(waiting, key=lambda held: len(waiting[held]))
                yield fullest, waiting.pop(fullest)
        yield from waiting.items()


def _filled(group: list[tuple], size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """`size` photos uint8 [H,W,3] and int16 [size,H',W']; the first one is repeated, all ignored, where some lack."""
    _, image, label = group[0]
    group = group + [(-1, image, np.full_like(label, -1))] * (size - len(group))
    return [image for _, image, _ in group], np.stack([label for _, _, label in group])


def _ahead(function: Callable, items: Iterable, threads: int) -> Iterator:
    """function(item) for every item, in order, with a few calls under way in threads."""
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    under_way: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 4 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
