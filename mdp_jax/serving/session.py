"""What the page asks for: labels and probabilities of photos, and classes that are adopted from strokes."""

import dataclasses
import functools
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mdp_jax.configs import MethodConfig
from mdp_jax.data import images
from mdp_jax.errors import UserError
from mdp_jax.evaluation import closed_form, discriminant
from mdp_jax.evaluation.discriminant import NEVER
from mdp_jax.evaluation.loaded import Network
from mdp_jax.evaluation.tiles import require_tile
from mdp_jax.reporting import colors
from mdp_jax.words import counted

MOST_SEEN = 1 << 21  # pixels of a photo on the page: they bound the memory of features, 268 MB for 2048 channels
PHOTOS = 3  # the newest ones are kept
MOST_STROKES = 200
MOST_POINTS = 5000  # of a stroke
RADII = (0.5, 500)  # of a brush, least and most
MOST_NAME = 60  # characters
TOP = 5  # classes and prototypes that are listed for a pixel
_COSINE = "projection"  # the layer whose unit vectors are compared with prototypes
_TEMPERATURE = MethodConfig().temperature


class Stroke(NamedTuple):
    """Pixels of a photo that somebody says are of a new class.

    Attributes:
      name: of the class.
      points: (x, y) in pixels of the photo on the page, joined by lines.
      radius: of the brush, in the same pixels.
    """

    name: str
    points: list[tuple[float, float]]
    radius: float


@dataclasses.dataclass
class _Photo:
    """A photo of the page, and what was computed of it.

    Attributes:
      shown: uint8 [H, W, 3], as the page shows it.
      seen: uint8 [H', W', 3], as the network sees it.
      strokes: on it.
      cells: what was computed at the stride of the network, by name.
    """

    shown: np.ndarray
    seen: np.ndarray
    strokes: list[Stroke] = dataclasses.field(default_factory=list)
    cells: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Pixel(NamedTuple):
    """What is known of a pixel.

    Attributes:
      classes: the most likely ones, (name, probability), the best first.
      prototypes: the nearest ones of all sets, (name, cosine); None where the network has none.
    """

    classes: list[tuple[str, float]]
    prototypes: list[tuple[str, float]] | None


class Session:
    """Photos, strokes and the network under them; all of it is in memory. One call at a time.

    Attributes:
      name: what the page calls the network.
      sets: names of the sets in whose classes it answers.
      first: the one that is shown first.
    """

    def __init__(
        self,
        net: Network,
        name: str,
        answers: str = "",
        palette: np.ndarray | None = None,
        tile: int = 1024,
        layers: tuple[str, ...] = (),
    ):
        """Starts without photos.

        Args:
          net: the network.
          name: what the page calls it.
          answers: the set that is shown first; "" = all together.
          palette: colours that the only set has of its own, uint8 RGB [C, 3].
          tile: side of the tiles that larger photos are cut into, in pixels.
          layers: whose features tell new classes apart; () = the last one that it has.

        Raises:
          UserError: a network without classes, or a set, tile or layer that cannot be.
        """
        require_tile(tile, f"--tile {tile}")
        layers = layers or net.layers[-1:]
        closed_form.require_layers(net, layers)
        self._net, self.name, self._palette, self._tile, self._layers = net, name, palette, tile, layers
        self.sets = net.answers or net.datasets[:1]
        net.require_classes()
        self.first = answers or self.sets[-1]
        if self.first not in self.sets:
            raise UserError(f"--as {answers}: expected one of {', '.join(self.sets)}")
        self._known_names = {known.casefold() for known in (*self._plain_names(), *net.classes)}
        self._photos: dict[str, _Photo] = {}
        self._painted: list[str] = []  # names of strokes, in the order of the first of each on any photo
        self._vectors: dict[str, np.ndarray] = {}
        self._newest: dict[tuple[str, str], np.ndarray] = {}  # the last logits with new classes

    def network_of(self, name: str) -> Network:
        """The network with its answers in the classes of a set.

        Args:
          name: of the set.

        Raises:
          UserError: there is no such set.
        """
        if name not in self.sets:
            raise UserError(f"set {name!r:.80}: expected one of {', '.join(self.sets)}")
        return self._net.in_classes_of(name) if self._net.answers else self._net

    def new_classes(self) -> list[str]:
        """The names of the classes that were adopted, in the order of their first strokes."""
        return [name for name in self._painted if not self._is_known(name)]

    def classes_of(self, name: str) -> list[str]:
        """The classes of a set, and those that were adopted.

        Args:
          name: of the set.
        """
        return [*self.network_of(name).classes, *self.new_classes()]

    def colours_of(self, name: str) -> np.ndarray:
        """Their colours, uint8 RGB [C + N, 3]; equal names have equal colours in all sets.

        Args:
          name: of the set.
        """
        if self._palette is not None:
            return colors.of_classes([(self._net.classes, self._palette), (self.new_classes(), None)])
        every, own = self._plain_names(), self.network_of(name).classes
        wanted = every if own == self._net.classes else own
        return colors.of_classes([(every, None), (wanted, None), (self.new_classes(), None)])[len(every) :]

    def add(self, image: np.ndarray) -> str:
        """Adds a photo; of more than PHOTOS the oldest is forgotten, with its strokes.

        Args:
          image: uint8 [H, W, 3].

        Returns:
          Its key.

        Raises:
          UserError: the network would see it larger than memory allows.
        """
        height, width, _ = image.shape
        shown = _at_most(image, height, width)
        seen = _at_most(image, *images.short_side_size(height, width, self._net.data.short_side))
        if max(seen.shape) > self._tile:
            seen = closed_form.at_whole_strides(seen, self._net.model.output_stride)
        while len(self._photos) >= PHOTOS:
            del self._photos[next(iter(self._photos))]
            self._change()
        key = secrets.token_urlsafe(12)
        self._photos[key] = _Photo(shown, seen)
        return key

    def shown(self, key: str) -> np.ndarray:
        """A photo as the page shows it, uint8 [H, W, 3].

        Args:
          key: of the photo.
        """
        return self._photo(key).shown

    def seen(self, key: str) -> np.ndarray:
        """The same as the network sees it, uint8 [H', W', 3].

        Args:
          key: of the photo.
        """
        return self._photo(key).seen

    def labels(self, key: str, name: str) -> np.ndarray:
        """The class of each pixel, int16 [H, W]: ids of `classes_of`.

        Args:
          key: of the photo.
          name: of the set.

        Raises:
          UserError: the photo is not there any more, or there is no such set.
        """
        photo = self._photo(key)
        return closed_form.label_map([self._logits(key, name)], photo.shown.shape[:2])

    def pixel(self, key: str, name: str, x: int, y: int) -> Pixel:
        """What is known of a pixel.

        Args:
          key: of the photo.
          name: of the set.
          x: column in the photo on the page.
          y: row.

        Raises:
          UserError: the photo is not there any more, or has no such pixel; or there is no such set.
        """
        photo = self._photo(key)
        height, width = photo.shown.shape[:2]
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"pixel ({x}, {y}): expected one of the photo, which is {width} x {height} (width x height)"
            )
        at = functools.partial(_interpolated, x=(x + 0.5) / width, y=(y + 0.5) / height)
        probabilities = np.exp(_log_softmax(at(self._logits(key, name)).astype(np.float64)))
        nearest = None
        if self._net.has_prototypes and _COSINE in self._net.layers:
            feature = at(self._layers_of(photo, (_COSINE,)))
            cosines = self._net.prototypes @ (feature / max(float(np.linalg.norm(feature)), 1e-12))
            nearest = _largest(np.nan_to_num(cosines, nan=-2.0), self._net.classes)
            nearest = [(label, cosine) for label, cosine in nearest if cosine > -2]
        return Pixel(_largest(probabilities, self.classes_of(name)), nearest)

    def adopt(self, key: str, stroke: Stroke) -> None:
        """Takes a stroke of a new class in; nothing is written anywhere.

        A stroke with the name of a class that the network has says what new classes are not like.

        Args:
          key: of the photo.
          stroke: at least one point.

        Raises:
          UserError: the photo is not there any more, or a stroke that cannot be.
        """
        photo, name = self._photo(key), stroke.name.strip()
        if not name or len(name) > MOST_NAME or not name.isprintable():
            raise UserError(f"a class named {name!r:.80}: expected a name of 1 to {MOST_NAME} characters")
        least, most = RADII
        if not least <= stroke.radius <= most:
            raise UserError(f"a brush of radius {stroke.radius:g}: expected {least} to {most} pixels")
        if not 0 < len(stroke.points) <= MOST_POINTS:
            raise UserError(f"a stroke of {counted(len(stroke.points), 'point')}: expected 1 to {MOST_POINTS}")
        if sum(len(each.strokes) for each in self._photos.values()) >= MOST_STROKES:
            raise UserError(f"{MOST_STROKES} strokes are there, as many as are kept; forget some")
        height, width = photo.shown.shape[:2]
        if not all(0 <= x < width and 0 <= y < height for x, y in stroke.points):
            raise UserError(
                f"a stroke that leaves the photo, which is {width} x {height} (width x height); expected one inside"
            )
        photo.strokes.append(stroke._replace(name=name))
        if name not in self._painted:
            self._painted.append(name)
        self._change()

    def undo(self, key: str) -> None:
        """Forgets the last stroke on a photo, if there is one.

        Args:
          key: of the photo.
        """
        del self._photo(key).strokes[-1:]
        self._change()

    def forget(self) -> None:
        """Forgets all strokes and so all classes that were adopted."""
        for photo in self._photos.values():
            photo.strokes.clear()
        self._change()

    def _is_known(self, name: str) -> bool:
        return name.casefold() in self._known_names

    def _plain_names(self) -> tuple[str, ...]:
        """The names of all classes, without those of their sets."""
        names = self._net.classes
        if not self._net.answers:
            return names
        ahead = sorted((f"{name}/" for name in self._net.datasets), key=len, reverse=True)  # sets may have a / too
        return tuple(name[len(next(filter(name.startswith, ahead))) :] for name in names)

    def _change(self) -> None:
        """Forgets what depends on the strokes."""
        there = {stroke.name for photo in self._photos.values() for stroke in photo.strokes}
        self._painted = [name for name in self._painted if name in there]
        self._vectors.clear()
        self._newest.clear()

    def _photo(self, key: str) -> _Photo:
        if key not in self._photos:
            raise UserError(f"this photo is not kept any more, only the newest {PHOTOS} are; give it to the page again")
        return self._photos[key]

    def _cells(self, photo: _Photo, name: str, of: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        if name not in photo.cells:
            photo.cells[name] = of(photo.seen, self._tile)
        return photo.cells[name]

    def _known(self, photo: _Photo, name: str) -> np.ndarray:
        """The logits of the classes of a set, float32 [h, w, C]."""
        return self._cells(photo, f"logits of {name}", self.network_of(name).logits_as_they_are)

    def _layers_of(self, photo: _Photo, layers: tuple[str, ...]) -> np.ndarray:
        """Unit features of some layers, float32 [h, w, D]."""
        return self._cells(
            photo, "+".join(layers), lambda seen, tile: _unit(self._net.features_as_they_are(seen, layers, tile))
        )

    def _features(self, photo: _Photo) -> np.ndarray:
        """Unit features that tell new classes apart, float32 [h, w, D]."""
        return self._layers_of(photo, self._layers)

    def _logits(self, key: str, name: str) -> np.ndarray:
        """Log-odds of the classes of a set and of the new ones, float32 [h, w, C + N].

        Prototypes of this page's photos say how likely each new class is. The classes of the network share the rest,
        in the proportions that the network gives them.
        """
        photo = self._photo(key)
        known = self._known(photo, name)
        if not self.new_classes():
            return known
        if (key, name) not in self._newest:
            self._newest = {(key, name): self._with_new(photo, name, known)}
        return self._newest[key, name]

    def _with_new(self, photo: _Photo, name: str, known: np.ndarray) -> np.ndarray:
        if name not in self._vectors:
            self._vectors[name] = self._prototypes(name)
        count, vectors = known.shape[-1], self._vectors[name].astype(np.float32)
        odds = self._features(photo) @ vectors.T / _TEMPERATURE
        odds = _log_softmax(np.where(vectors.any(axis=1), odds, NEVER))
        if known.shape[:2] != odds.shape[:2]:  # the decoder and the backbone may have different strides
            odds = _resized(odds, known.shape[:2])
        new = slice(count, count + len(self.new_classes()))
        rest = np.logaddexp.reduce(np.delete(odds, new, axis=-1), axis=-1, keepdims=True)
        return np.concatenate([_log_softmax(known) + rest, odds[..., new]], axis=-1)

    def _prototypes(self, name: str) -> np.ndarray:
        """The two-step averages of the classes of a set and of the new ones (METHOD.md sections 3 and 8).

        The photos are those with strokes. Where there is no stroke, pixels are of the classes that the network sees.

        Returns:
          float64 [C + N + K, D], unit rows; the last K are of strokes with names of classes that the network has. 0 for
          a class that is in no such photo.
        """
        names = [*self.classes_of(name), *filter(self._is_known, self._painted)]
        first = len(self.network_of(name).classes)
        number_of = {label: number for number, label in enumerate(names[first:], first)}
        total = np.zeros((len(names), sum(self._net.channels(self._layers))))
        for photo in (photo for photo in self._photos.values() if photo.strokes):
            label = closed_form.label_map([self._known(photo, name)], photo.shown.shape[:2])
            for stroke in photo.strokes:
                _paint(label, stroke, number_of[stroke.name])
            parts = discriminant.bands(self._features(photo), label, len(names))
            total += _unit(sum(shares.T @ features for features, shares in parts))
        return _unit(total)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _at_most(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image at a size, or at a smaller one of at most MOST_SEEN pixels."""
    scale = min(1.0, (MOST_SEEN / (height * width)) ** 0.5)
    return images.resize_photo(image, max(1, int(height * scale)), max(1, int(width * scale)))


def _paint(label: np.ndarray, stroke: Stroke, number: int) -> None:
    """Writes a class into the label map, int16 [H, W], where a stroke is."""
    points = np.array([(int(x), int(y)) for x, y in stroke.points], np.int32)
    radius = max(1, round(stroke.radius))
    cv2.polylines(label, [points.reshape(-1, 1, 2)], False, number, thickness=2 * radius)
    for x, y in (points[0], points[-1]):
        cv2.circle(label, (int(x), int(y)), radius, number, thickness=-1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def _resized(cells: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    height, width = size
    planes = [
        cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in np.moveaxis(cells, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def _interpolated(cells: np.ndarray, x: float, y: float) -> np.ndarray:
    """Cells [h, w, D] at a place of the photo, from 0 to 1 in each direction: [D], as evaluation interpolates."""
    corners = []
    for place, count in ((y, cells.shape[0]), (x, cells.shape[1])):
        exact = min(max(place * count - 0.5, 0.0), count - 1.0)
        low = int(exact)
        corners.append((low, min(low + 1, count - 1), exact - low))
    (top, bottom, down), (left, right, across) = corners
    upper = cells[top, left] * (1 - across) + cells[top, right] * across
    lower = cells[bottom, left] * (1 - across) + cells[bottom, right] * across
    return upper * (1 - down) + lower * down


def _largest(values: np.ndarray, names: Sequence[str]) -> list[tuple[str, float]]:
    order = np.argsort(-values, kind="stable")[:TOP]
    return [(names[number], float(values[number])) for number in order]
