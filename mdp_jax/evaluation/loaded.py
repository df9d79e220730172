"""A trained network as a Python object: NumPy photos in, NumPy arrays out."""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax import runtime
from mdp_jax.configs import DataConfig, FinetuneDataConfig, ModelConfig, PretrainConfig, typed
from mdp_jax.data import images as photos_of
from mdp_jax.errors import UserError
from mdp_jax.evaluation import inference, workdirs
from mdp_jax.evaluation.pretrained import ALL, ClassScorer, answers_in
from mdp_jax.evaluation.tiles import Tile, Tiles, cells_by_tiles, cut, labels_by_tiles, require_tile
from mdp_jax.evaluation.views import WHOLE
from mdp_jax.evaluation.whole_photos import variables_of_tiles
from mdp_jax.models import network
from mdp_jax.models.apply import Network as Module
from mdp_jax.models.apply import apply_layers
from mdp_jax.models.normalisation import Normalise
from mdp_jax.objectives.registry import OBJECTIVES
from mdp_jax.storage.paths import expanded
from mdp_jax.weights import files
from mdp_jax.weights.whole import read_network

Photos = np.ndarray | Sequence[np.ndarray]
MOST_PROBABILITIES = 2**30  # of one photo, 4 GiB


class Network:
    """A trained network that labels photos; made by `mdp_jax.load`.

    Photos are uint8 RGB: one [H, W, 3], several of one size [B, H, W, 3], or a list of photos of any sizes. A result
    has the form of the photos: an array, an array with a leading B, or a list. A photo is resized as the network's
    config says, and results are brought back to its own size. Each size of photo is compiled once.

    Attributes:
      classes: class names by id. Of a pretrained network with no dataset chosen, "dataset/class" of all its datasets.
      datasets: names of the datasets that it was trained on; () for a file of weights.
      model: the network under the head.
      data: how its photos are read.
      variables: {"params", "batch_stats"}, and "memory" of a pretraining; nested dicts of arrays.
      answers: what `as_` may be: the labelled sets of a pretrained network, and "all"; () where there is one set alone.
    """

    def __init__(
        self,
        model: ModelConfig,
        data: DataConfig,
        module: Module,
        scorer: ClassScorer | Module | None,
        variables: dict,
        classes: Sequence[str],
        datasets: Sequence[str] = (),
        prototypes: np.ndarray | None = None,
        in_classes_of: Callable[[str], "Network"] | None = None,
        answers: Sequence[str] = (),
    ):
        """Puts a network together; `mdp_jax.load` is the usual way.

        Args:
          model: the network under the head.
          data: how photos are read.
          module: the whole network.
          scorer: has `apply(variables, images, train)` -> logits [B, h, w, C]; None where it has no classes.
          variables: of the network.
          classes: C names.
          datasets: names.
          prototypes: float [C, D], rows in the order of the classes, NaN where a class was never seen; or None.
          in_classes_of: name of a set, or "all" -> this network with its answers in those classes; None where it has
            no others.
          answers: names that `in_classes_of` takes.
        """
        self.model, self.data, self.variables = model, data, variables
        self.classes, self.datasets, self.answers = tuple(classes), tuple(datasets), tuple(answers)
        self._module, self._prototypes = module, prototypes
        self._in_classes_of, self._others = in_classes_of, dict[str, Network]()
        self._normalise = normalise = Normalise.of(data, model.compute_dtype)
        self._labels = self._scores = self._logits = None
        if scorer is not None:

            def logits(variables: dict, images: jax.Array) -> jax.Array:
                return cast(jax.Array, scorer.apply(variables, normalise(images), train=False)).astype(jnp.float32)

            self._logits = jax.jit(logits)
            self._labels = jax.jit(functools.partial(inference.label_maps, scorer, normalise, WHOLE), static_argnums=2)

            def scores(variables: dict, seen: Sequence[jax.Array], size: tuple[int, int]) -> jax.Array:
                logits = cast(jax.Array, scorer.apply(variables, normalise(seen[0]), train=False))
                return network.probabilities(logits, size)

            self._scores = jax.jit(scores, static_argnums=2)

        def features(variables: dict, seen: Sequence[jax.Array], layers: tuple[str, ...]) -> jax.Array:
            found = apply_layers(module, variables, normalise(seen[0]), layers)
            return found.astype(jnp.promote_types(found.dtype, jnp.float32))

        self._features = jax.jit(features, static_argnames="layers")

    def in_classes_of(self, name: str) -> "Network":
        """This network with its answers in the classes of another set; the weights are shared.

        Args:
          name: one of `datasets`, or "all", whose classes are named "dataset/class".

        Raises:
          UserError: no such dataset, or a network that was not pretrained.
        """
        if self._in_classes_of is None:
            raise UserError(f"as_={name!r}: this network was not pretrained, and has one set of classes; expected none")
        if name not in self._others:
            self._others[name] = self._in_classes_of(name)
        return self._others[name]

    def predict(self, photos: Photos, as_: str = "", tile: int = 0) -> np.ndarray | list[np.ndarray]:
        """The class of each pixel.

        Args:
          photos: see the class.
          as_: of a pretrained network, the dataset in whose classes it answers, or "all" (see `in_classes_of`); "" =
            `classes`.
          tile: side in pixels of the tiles that larger photos are cut into, so that the memory does not grow with the
            photo (see `mdp predict --tile`); 0 = as a whole.

        Returns:
          int32 [H, W], or [B, H, W], or a list: ids of the classes.

        Raises:
          UserError: photos of another type, shape or range, an unknown dataset, or a network without classes.
        """
        if as_:
            return self.in_classes_of(as_).predict(photos, tile=tile)
        require_tile(tile, f"tile={tile}")
        labels = self._of_classes(self._labels)

        def by_tiles(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
            tiles, of_tile = self._tiles(photo, tile)
            found = labels_by_tiles(
                lambda one: np.asarray(labels(of_tile(one), (one.image[None],), tiles.size))[0], tiles
            )
            found = found[: photo.shape[0], : photo.shape[1]].astype(np.int16)
            return photos_of.resize_label(found, *size).astype(np.int32)

        def of_photos(seen: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray | jax.Array:
            if tile and max(seen[0].shape[1:3]) > tile:
                return np.stack([by_tiles(photo, size) for photo in seen[0]])
            return cast(jax.Array, labels(self.variables, seen, size))

        return self._each(photos, of_photos)

    def probabilities(self, photos: Photos, as_: str = "") -> np.ndarray | list[np.ndarray]:
        """The probability of each class in each pixel.

        Args:
          photos: see the class.
          as_: as for `predict`.

        Returns:
          float32 [H, W, C], or [B, H, W, C], or a list; the sum over the classes is 1.

        Raises:
          UserError: photos of another type, shape or range, an unknown dataset, a network without classes, or a photo
            of which they would take more than 4 GiB.
        """
        if as_:
            return self.in_classes_of(as_).probabilities(photos)
        scores = self._of_classes(self._scores)

        def of_pixels(seen: Sequence[np.ndarray], size: tuple[int, int]) -> jax.Array:
            if size[0] * size[1] * len(self.classes) > MOST_PROBABILITIES:
                raise UserError(
                    f"a photo of {size[0]} x {size[1]} pixels (height x width): {len(self.classes)} probabilities of "
                    f"each are more than {MOST_PROBABILITIES:,} in all (4 GiB); give parts of it or make it smaller; "
                    "predict takes photos of any size"
                )
            return scores(self.variables, seen, size)

        return self._each(photos, of_pixels)

    def embed(self, photos: Photos, layer: str = "") -> np.ndarray | list[np.ndarray]:
        """The features of photos.

        Args:
          photos: see the class.
          layer: "backbone", "decoder" or "projection"; "" is the last one that the network has. The outputs of the
            projection are made unit vectors, which are what prototypes are compared with.

        Returns:
          float32 [h, w, D], or [B, h, w, D], or a list. Feature (i, j) describes the pixels around (s i, s j) of the
          resized photo, s the stride of the layer; with ConvNeXt, Swin and ViT those of the cell that begins there.

        Raises:
          UserError: photos of another type, shape or range, or a layer that the network does not have.
        """
        layer = layer or self.layers[-1]
        if layer not in self.layers:
            raise UserError(f"layer={layer!r}: expected one of {', '.join(self.layers)}")

        def features(seen: Sequence[np.ndarray], size: tuple[int, int]) -> jax.Array:
            del size
            return self._features(self.variables, seen, (layer,))

        return self._each(photos, features)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that have features, from the image upwards: some of "backbone", "decoder", "projection"."""
        return tuple(name for name in network.LAYERS if name in self.variables["params"])

    def channels(self, layers: tuple[str, ...]) -> tuple[int, ...]:
        """The number of channels of each of some layers; computes nothing.

        Args:
          layers: some of `layers`.
        """
        image = jax.ShapeDtypeStruct((1, self.model.output_stride, self.model.output_stride, 3), jnp.uint8)

        def of(layer: str) -> int:
            features = functools.partial(self._features, layers=(layer,))
            return jax.eval_shape(lambda variables, x: features(variables, (x,)), self.variables, image).shape[-1]

        return tuple(of(layer) for layer in layers)

    def features_as_they_are(self, photo: np.ndarray, layers: tuple[str, ...], tile: int = 0) -> np.ndarray:
        """The features of one photo that has its size already.

        Args:
          photo: uint8 [H, W, 3].
          layers: some of `layers`, whose features come side by side (METHOD.md section 8).
          tile: as for `predict`; the sides of the photo are then multiples of the output stride.

        Returns:
          float32 [h, w, D].
        """
        return self._cells(photo, tile, lambda variables, part: self._features(variables, (part,), layers))

    @property
    def prototypes(self) -> np.ndarray:
        """The prototypes of `classes`, float32 [C, D], unit rows; a row of a class never seen is NaN.

        Raises:
          UserError: a network without prototypes.
        """
        if self._prototypes is None:
            raise UserError("this network has no prototypes; expected a pretrained one whose objective has them")
        return self._prototypes

    def logits_as_they_are(self, photo: np.ndarray, tile: int = 0) -> np.ndarray:
        """The logits of one photo that has its size already, at the stride of the network.

        Args:
          photo: uint8 [H, W, 3].
          tile: as for `features_as_they_are`.

        Returns:
          float32 [h, w, C].

        Raises:
          UserError: a network without classes.
        """
        return self._cells(photo, tile, self._of_classes(self._logits))

    def _cells(self, photo: np.ndarray, tile: int, of: Callable[[dict, np.ndarray], jax.Array]) -> np.ndarray:
        """What a function of variables and photos [1, H, W, 3] gives of a photo, as a whole or by tiles."""
        _one(photo, "the photo")
        if not tile or max(photo.shape[:2]) <= tile:
            return np.asarray(of(self.variables, photo[None]))[0]
        tiles, of_tile = self._tiles(photo, tile)
        return cells_by_tiles(lambda one: np.asarray(of(of_tile(one), one.image[None]))[0], tiles)

    def _tiles(self, photo: np.ndarray, tile: int) -> tuple[Tiles, Callable[[Tile], dict]]:
        """The tiles of a photo, and the variables with which the network sees each."""
        tiles = cut(photo, tile, self.model.output_stride)
        return tiles, variables_of_tiles(self.model, self._normalise, self.variables, tiles)

    def require_classes(self) -> None:
        """Checks that the network can label photos.

        Raises:
          UserError: it has neither prototypes nor a classifier.
        """
        self._of_classes(self._logits)

    @property
    def has_prototypes(self) -> bool:
        """Whether there are `prototypes`."""
        return self._prototypes is not None

    def _of_classes(self, function: Callable | None) -> Callable:
        if function is None:
            raise UserError("this network has neither prototypes nor a classifier; expected a fine-tuned one")
        return function

    def _each(
        self, photos: Photos, function: Callable[[Sequence[np.ndarray], tuple[int, int]], np.ndarray | jax.Array]
    ) -> np.ndarray | list[np.ndarray]:
        """What a function of resized photos [B, H, W, 3] and their own size gives of each photo."""
        if not isinstance(photos, np.ndarray):
            if not isinstance(photos, Sequence) or isinstance(photos, str | bytes):
                raise UserError(f"photos of type {type(photos).__name__}: {_EXPECTED}")
            return [np.asarray(self._each(_one(photo, f"photo {i}"), function)) for i, photo in enumerate(photos)]
        if photos.ndim == 3:
            return np.asarray(self._each(_one(photos, "the photo")[None], function))[0]
        if photos.ndim != 4 or photos.shape[-1] != 3 or photos.dtype != np.uint8 or 0 in photos.shape:
            raise UserError(f"photos of shape {photos.shape} and type {photos.dtype}: {_EXPECTED}")
        size = (photos.shape[1], photos.shape[2])
        seen = photos_of.short_side_size(size[0], size[1], self.data.short_side)
        together = max(1, inference.PIXELS // max(size[0] * size[1], seen[0] * seen[1]))
        found = []
        for start in range(0, len(photos), together):
            resized = np.stack([photos_of.resize_photo(photo, *seen) for photo in photos[start : start + together]])
            found.append(np.asarray(function((resized,), size)))
        return np.concatenate(found)


_EXPECTED = (
    "expected uint8 RGB from 0 to 255, [H, W, 3] or [B, H, W, 3], or a list of [H, W, 3]; "
    "photos of floats from 0 to 1 are brought there by (255 * x).round().astype('uint8')"
)


def _one(photo: np.ndarray, what: str) -> np.ndarray:
    if not isinstance(photo, np.ndarray):
        raise UserError(f"{what} of type {type(photo).__name__}: {_EXPECTED}")
    if photo.ndim != 3 or photo.shape[-1] != 3 or photo.dtype != np.uint8 or 0 in photo.shape:
        raise UserError(f"{what} of shape {photo.shape} and type {photo.dtype}: {_EXPECTED}")
    return photo


def load(
    path: str | os.PathLike,
    dataset: str = "",
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    classes: Sequence[str] = (),
    step: str | int = "",
    weights: str = "",
) -> Network:
    """Loads a trained network; says on stderr what of a file of weights was changed or left out.

    Args:
      path: a workdir of `mdp pretrain`, `mdp finetune` or `mdp adopt`, or a file of weights (.safetensors, .pth, .pt)
        of a library that docs/weights.md names.
      dataset: of a pretrained workdir, the dataset in whose classes it answers; "" = the classes of all.
        `predict(photos, as_=...)` answers in those of another one.
      model: of a file, what its weights do not tell: output stride and rates; None = those of the published networks.
      data: of a file, how photos are read; None = normalised as for ImageNet, at their own size.
      classes: of a file, the class names; () = numbers.
      step: of a workdir, the checkpoint: "best", "last" or a step; "" = that of the best validation where it is kept,
        which is said on stderr, else the newest.
      weights: of a workdir, which weights of the checkpoint: "plain"; "ema": their moving average; "momentum": the
        momentum encoder of a pretraining; "" = the moving average where it is kept, else plain.

    Returns:
      The network.

    Raises:
      UserError: nothing there, not a workdir, no such checkpoint or weights in it, weights of another architecture, or
        an unknown dataset.
    """
    runtime.prepare()
    place = expanded(path)
    if place.is_dir():
        if model is not None or data is not None or classes:
            raise UserError(f"{place}: a workdir, which says what its network is; expected no model, data or classes")
        return of_workdir(workdirs.load(place, step=step, weights=weights), dataset)
    if place.is_file() or place.suffix in files.SUFFIXES:
        if dataset:
            raise UserError(f"dataset={dataset!r}: {place} is a file of weights, which has no datasets; expected none")
        if step != "":
            raise UserError(f"step={step!r}: {place} is a file of weights, which has no steps; expected none")
        if weights:
            raise UserError(f"weights={weights!r}: {place} is a file, which has one set of weights; expected none")
        return _of_file(place, model, data, classes)
    raise UserError(f"{place}: no such file or folder; expected the workdir of a run, or a file of weights")


def of_workdir(run: workdirs.Workdir, dataset: str = "") -> Network:
    """The network of a workdir that was loaded.

    Args:
      run: of either loop.
      dataset: as for `load`.

    Raises:
      UserError: an unknown dataset.
    """
    config = typed(run.config)
    answers_in(run.label_space, dataset, f"dataset={dataset!r}: {run.folder}")
    if isinstance(config, PretrainConfig):
        return _pretrained(run, config, dataset, "dataset")
    names = [name for name, _ in run.label_space.datasets]
    segmenter = network.segmenter(config.model, len(run.classes))
    return Network(config.model, config.data, segmenter, segmenter, run.variables, run.classes, names)


def _pretrained(run: workdirs.Workdir, config: PretrainConfig, name: str, option: str) -> Network:
    names = [known for known, _ in run.label_space.datasets]
    labels, ids = answers_in(run.label_space, name, f"{option}={name!r}: {run.folder}")
    objective, count = OBJECTIVES[config.objective], run.label_space.num_classes
    module: Module = (
        network.pixel_encoder(config.model)
        if objective.head == "projection"
        else network.segmenter(config.model, count)
    )
    prototypes = None
    if objective.bank is not None:
        bank = objective.bank(run.variables["memory"])
        vectors, seen = np.asarray(bank.vectors, np.float32), np.asarray(bank.images_seen) > 0
        prototypes = np.where(seen[:, None], vectors, np.nan)[ids]
    scorer = None
    if objective.scorer is not None:
        scorer = ClassScorer(objective.scorer(config.model, config.method, count, ids))
    others = functools.partial(_pretrained, run, config, option="as_")
    labelled = (known for known, classes in run.label_space.datasets if classes)
    answers = tuple(dict.fromkeys((*labelled, ALL)))
    return Network(config.model, config.data, module, scorer, run.variables, labels, names, prototypes, others, answers)


def _of_file(file: pathlib.Path, model: ModelConfig | None, data: DataConfig | None, classes: Sequence[str]) -> Network:
    found = read_network(file, model)
    for note in found.notes:
        print(f"{file}: {note}", file=sys.stderr)
    count = found.classes
    if classes and len(classes) != count:
        raise UserError(f"{file}: has {count} classes; expected as many names, and {len(classes)} are given")
    names = tuple(classes) or tuple(map(str, range(count)))
    module = network.segmenter(found.model, max(count, 1))
    variables = jax.device_put({"params": found.params, "batch_stats": found.batch_stats}, jax.local_devices()[0])
    if data is None:
        data = dataclasses.replace(FinetuneDataConfig(), short_side=0)
    return Network(found.model, data, module, module if count else None, variables, names)
