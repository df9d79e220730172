"""Inference: photos at their own size, labelled or scored pixel by pixel (METHOD.md section 6)."""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax import distributed
from mdp_jax.errors import UserError
from mdp_jax.evaluation import metrics
from mdp_jax.evaluation.views import WHOLE, Views, class_scores
from mdp_jax.models.network import most_likely
from mdp_jax.models.normalisation import Normalise

# Photos of one shape run together up to this many pixels, which bounds the memory of their logits, and photos.
PIXELS = 2**20
PHOTOS = 16

# Photos of rare shapes wait for others of their shape; this many at most, so that a large set of many shapes does not
# gather in memory.
HELD_PHOTOS = 256


def label_maps(
    segmenter: Any,
    normalise: Normalise,
    views: Views,
    variables: dict,
    seen: Sequence[jax.Array],
    size: tuple[int, int],
) -> jax.Array:
    """The most likely class of every pixel; pure.

    Args:
        segmenter: models.network.Segmenter, or what has its `apply`.
        normalise: uint8 photos to what the network takes.
        views: how each photo is shown.
        variables: {"params", "batch_stats"}; may be replicated over the devices of a mesh, which then all do the same.
        seen: uint8 [B,H_i,W_i,3], RGB, for each scale, as views.of makes them.
        size: (H', W') of the result, static; the logits are brought to it before the maximum is taken.

    Returns:
        int32 [B,H',W'], class ids 0..C-1.
    """

    def logits_of(images: jax.Array) -> jax.Array:
        return segmenter.apply(variables, normalise(images), train=False)

    if views.single and views.crop is None:  # the logits of all pixels need not be there at once
        return most_likely(logits_of(seen[0]), size)
    return jnp.argmax(class_scores(logits_of, views, seen, size), axis=-1).astype(jnp.int32)


class Predictor:
    """Labels single photos; compiles once for each distinct pair of sizes."""

    def __init__(self, segmenter: Any, normalise: Normalise, views: Views = WHOLE):
        """`segmenter`, `normalise` and `views` as label_maps takes them."""
        self._views = views
        self._labels = jax.jit(functools.partial(label_maps, segmenter, normalise, views), static_argnums=2)

    def __call__(self, variables, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H,W,3], at the size that scale 1 is to see, to class ids int32 [H',W'] with size = (H', W')."""
        return np.asarray(self._labels(variables, self._views.of([image]), size))[0]


class Evaluator:
    """Scores a network on whole photos; compiles once for each distinct shape, kept for as long as the object lives.

    Photos are never padded: those of one image shape and one label shape form batches, and a batch that is not full is
    filled up with repeated photos whose labels are all ignored. The weights are an argument of every call, so that new
    ones compile nothing. `predict` labels single photos with the same network (Predictor).
    """

    def __init__(
        self,
        segmenter: Any,
        source: Any,
        normalise: Normalise,
        pixels: int = PIXELS,
        views: Views = WHOLE,
        process_index: int = 0,
        process_count: int = 1,
        threads: int = 2,
    ):
        """Args:
        segmenter: as label_maps takes it, with a class for each of the source's.
        source: has `classes`, `__len__`, `describe(i)` and `__getitem__(i)` -> {"image": uint8 [H,W,3], "label":
            int16 [H',W'], local ids, negative = ignore}. Logits are brought to the label's size.
        normalise: uint8 photos to what the network takes.
        pixels: that run together at most, a photo larger than that by itself.
        views: how each photo is shown.
        process_index: which of several processes this one is; it scores photos [process_index::process_count].
        process_count: how many share the source. Each of them computes by itself, with variables of its own devices.
        threads: that decode ahead.
        """
        self._source, self._pixels, self._views, self._threads = source, pixels, views, threads
        self._indices = range(process_index, len(source), process_count)
        self._num_classes = len(source.classes)
        self._photos_of: dict[tuple, int] = {}
        self.predict = Predictor(segmenter, normalise, views)
        self._count = jax.jit(functools.partial(self._confusion, segmenter, normalise))

    @property
    def compiled_shapes(self) -> int:
        """How many distinct (batch, image shape, label shape) have been compiled so far."""
        return len(self._photos_of)

    def __call__(self, variables, report: Callable[[int], None] = lambda photos: None) -> dict:
        """Scores over the photos of all processes, as one confusion matrix; arguments and errors as `counts` has them.

        With several processes each must make the call.

        Returns:
            What metrics.scores returns, and "images", the number of photos.
        """
        return self.scores(*self.total(variables, report))

    def total(self, variables, report: Callable[[int], None] = lambda photos: None) -> tuple[np.ndarray, int]:
        """`counts` over the photos of all processes; with several of them each must make the call."""
        counts, photos = self.counts(variables, report)
        return distributed.total(counts), int(distributed.total(np.array([photos]))[0])

    def scores(self, counts: np.ndarray, photos: int) -> dict:
        """The scores of what `total` gives."""
        return {**metrics.scores(counts, self._source.classes), "images": photos}

    def counts(self, variables, report: Callable[[int], None] = lambda photos: None) -> tuple[np.ndarray, int]:
        """Confusion matrix of this process's photos, and their number; those of all processes can be added.

        Args:
            variables: as label_maps takes them.
            report: called after every batch with the number of photos done so far.

        Returns:
            int64 [C+1,C+1], as metrics.confusion counts, and the number of photos.

        Raises:
            UserError: a label of C or more, naming the photo; and whatever the source raises.
        """
        counts = np.zeros((self._num_classes + 1, self._num_classes + 1), np.int64)
        done = 0
        for shape, group in self._batches(self._decoded()):
            images, labels = _filled(group, self._photos_of.setdefault(shape, len(group)))
            counts += np.asarray(self._count(variables, self._views.of(images), labels))
            done += len(group)
            report(done)
        return counts, done

    def _confusion(
        self, segmenter: Any, normalise: Normalise, variables: dict, seen: tuple[jax.Array, ...], labels: jax.Array
    ) -> jax.Array:
        """uint8 [B,H_i,W_i,3] of every scale and int16 [B,H',W'] to int32 [C+1,C+1]."""
        prediction = label_maps(segmenter, normalise, self._views, variables, seen, labels.shape[1:])
        return metrics.confusion(labels, prediction, self._num_classes)

    def _decoded(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Image and label of every photo of this process, in the source's order."""
        samples = _ahead(self._source.__getitem__, self._indices, self._threads)
        for index, sample in zip(self._indices, samples, strict=True):
            largest = sample["label"].max(initial=-1)
            if largest >= self._num_classes:
                where = self._source.describe(index)
                raise UserError(f"{where}: label {largest}, expected ids below {self._num_classes}, or ignore")
            yield sample["image"], sample["label"]

    def _batches(self, photos: Iterable[tuple]) -> Iterator[tuple[tuple, list[tuple]]]:
        """(shapes, photos of these shapes), in an order that depends on the photos' order and shapes alone.

        The first batch of a shape settles how many photos its compiled program takes: as many as may run together, or
        fewer where no more of them came. Later batches are never larger.
        """
        waiting: dict[tuple, list[tuple]] = {}
        for image, label in photos:
            shape = (image.shape, label.shape)
            waiting.setdefault(shape, []).append((image, label))
            largest = max(height * width for height, width in (label.shape, *self._views.sizes(*image.shape[:2])))
            together = min(max(self._pixels // largest, 1), PHOTOS)
            if len(waiting[shape]) == self._photos_of.get(shape, together):
                yield shape, waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= HELD_PHOTOS:
                fullest = max(waiting, key=lambda held: len(waiting[held]))
                yield fullest, waiting.pop(fullest)
        yield from waiting.items()


def _filled(group: list[tuple], size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """`size` photos uint8 [H,W,3] and int16 [size,H',W']; the first one is repeated, all ignored, where some lack."""
    image, label = group[0]
    group = group + [(image, np.full_like(label, -1))] * (size - len(group))
    return [image for image, _ in group], np.stack([label for _, label in group])


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
