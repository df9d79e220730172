"""Whole-image inference: photos at their own size, labelled or scored pixel by pixel (METHOD.md section 6)."""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.evaluation import metrics
from mdp_jax.models.network import upsample
from mdp_jax.training.normalisation import normalise_image

# Photos of one shape run together up to this many pixels, which bounds the memory of their logits, and photos.
PIXELS = 2**20
PHOTOS = 16

# Photos of rare shapes wait for others of their shape; this many at most, so that a large set of many shapes does not
# gather in memory.
HELD_PHOTOS = 256


def label_maps(segmenter, config, variables, images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The most likely class of every pixel; pure.

    Args:
        segmenter: models.network.Segmenter, or what has its `apply`.
        config: of fine-tuning; `data.mean`, `data.std` and `model.compute_dtype` are read.
        variables: {"params", "batch_stats"}; may be replicated over the devices of a mesh, which then all do the same.
        images: uint8 [B,H,W,3], RGB, at the size that the network is to see.
        size: (H', W') of the result, static; the logits are brought to it before the maximum is taken.

    Returns:
        int32 [B,H',W'], class ids 0..C-1.
    """
    images = normalise_image(images, config.data, config.model.compute_dtype)
    logits = segmenter.apply(variables, images, train=False)
    return jnp.argmax(upsample(logits, size), axis=-1).astype(jnp.int32)


class Predictor:
    """Labels single photos; compiles once for each distinct pair of sizes."""

    def __init__(self, segmenter, config):
        """`segmenter` and `config` as label_maps takes them."""
        self._labels = jax.jit(functools.partial(label_maps, segmenter, config), static_argnums=2)

    def __call__(self, variables, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H,W,3], at the size that the network is to see, to class ids int32 [H',W'] with size = (H', W')."""
        return np.asarray(self._labels(variables, image[None], size))[0]


class Evaluator:
    """Scores a network on whole photos; compiles once for each distinct shape, kept for as long as the object lives.

    Photos are never padded: those of one image shape and one label shape form batches, and a batch that is not full is
    filled up with repeated photos whose labels are all ignored. The weights are an argument of every call, so that new
    ones compile nothing. `predict` labels single photos with the same network (Predictor).
    """

    def __init__(self, segmenter, source, config, pixels: int = PIXELS):
        """Args:
        segmenter: as label_maps takes it, with a class for each of the source's.
        source: has `classes`, `__len__`, `describe(i)` and `__getitem__(i)` -> {"image": uint8 [H,W,3], "label":
            int16 [H',W'], local ids, negative = ignore}. Logits are brought to the label's size.
        config: as label_maps takes it; `data.threads` decode ahead.
        pixels: that run together at most, a photo larger than that by itself.
        """
        self._source, self._pixels, self._threads = source, pixels, config.data.threads
        self._num_classes = len(source.classes)
        self._photos_of: dict[tuple, int] = {}
        self.predict = Predictor(segmenter, config)
        self._count = jax.jit(functools.partial(self._confusion, segmenter, config))

    @property
    def compiled_shapes(self) -> int:
        """How many distinct (batch, image shape, label shape) have been compiled so far."""
        return len(self._photos_of)

    def __call__(self, variables, report: Callable[[int], None] = lambda photos: None) -> dict:
        """Scores over the whole source, as one confusion matrix.

        Args:
            variables: as label_maps takes them.
            report: called after every batch with the number of photos done so far.

        Returns:
            What metrics.scores returns, and "images", the number of photos.

        Raises:
            UserError: a label of C or more, naming the photo; and whatever the source raises.
        """
        counts = np.zeros((self._num_classes + 1, self._num_classes + 1), np.int64)
        done = 0
        for shape, group in self._batches(self._decoded()):
            images, labels = _filled(group, self._photos_of.setdefault(shape, len(group)))
            counts += np.asarray(self._count(variables, images, labels))
            done += len(group)
            report(done)
        return {**metrics.scores(counts, self._source.classes), "images": done}

    def _confusion(self, segmenter, config, variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        """uint8 [B,H,W,3] and int16 [B,H',W'] to int32 [C+1,C+1]."""
        prediction = label_maps(segmenter, config, variables, images, labels.shape[1:])
        return metrics.confusion(labels, prediction, self._num_classes)

    def _decoded(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Image and label of every photo, in the source's order."""
        for index, sample in enumerate(_ahead(self._source.__getitem__, range(len(self._source)), self._threads)):
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
            together = min(max(self._pixels // max(image[..., 0].size, label.size), 1), PHOTOS)
            if len(waiting[shape]) == self._photos_of.get(shape, together):
                yield shape, waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= HELD_PHOTOS:
                fullest = max(waiting, key=lambda held: len(waiting[held]))
                yield fullest, waiting.pop(fullest)
        yield from waiting.items()


def _filled(group: list[tuple], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos as uint8 [size,H,W,3] and int16 [size,H',W']; the first one is repeated, all ignored, where some lack."""
    image, label = group[0]
    group = group + [(image, np.full_like(label, -1))] * (size - len(group))
    return np.stack([image for image, _ in group]), np.stack([label for _, label in group])


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
