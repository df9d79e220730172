"""The parts of the drawn scenes: the meanings, how they look, and the canvas that paints and lights them.

Shapes are painted back to front into a map of surfaces. Colours come last, in one pass over all pixels: a surface is a
row of numbers (colour, texture, offset of the texture, shading, depth) that its pixels look up.
Lengths are in units of the image's height: y runs from 0 (top) to 1, x from 0 to width / height.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from mdp_jax.data.drawn.textures import KINDS, TILE, atlas


class Look(NamedTuple):
    """Appearance of a meaning. Each scene mixes the colours anew, so that colour says little about the meaning."""

    texture: str  # a tile of textures.py
    scale: float  # of the texture: 1 = as in the tile for a scene 96 pixels high
    contrast: float  # of the texture, as a share of the colour
    colours: tuple[tuple[int, int, int], ...]  # RGB anchors
    free: bool = False  # every object has its own colour, not only every scene


_PAINT = ((200, 60, 50), (60, 90, 160), (225, 225, 220), (60, 60, 65), (210, 180, 70), (90, 130, 90), (150, 150, 155))
LOOKS = {
    "sky": Look(
        "smooth", 0.6, 0.06, ((115, 165, 220), (190, 205, 220), (230, 190, 155), (150, 160, 175), (85, 105, 150))
    ),
    "cloud": Look("billows", 0.7, 0.16, ((240, 240, 240), (190, 190, 200), (245, 220, 200), (150, 155, 165))),
    "sea": Look("waves", 1.0, 0.30, ((45, 95, 140), (65, 120, 125), (95, 115, 125), (125, 160, 190), (165, 160, 165))),
    "shallows": Look("caustics", 0.9, 0.20, ((85, 150, 165), (140, 180, 175), (160, 165, 140), (115, 145, 165))),
    "sand": Look("grain", 1.0, 0.18, ((215, 195, 150), (190, 170, 140), (225, 215, 195), (170, 145, 115))),
    "grass": Look("blades", 1.0, 0.36, ((85, 135, 60), (140, 160, 80), (175, 165, 100), (70, 100, 60))),
    "flowers": Look("spots", 0.9, 0.0, ((80, 130, 60), (130, 150, 80), (110, 120, 70))),
    "crop": Look("furrows", 1.0, 0.32, ((190, 175, 95), (120, 150, 70), (150, 140, 85), (160, 130, 90))),
    "soil": Look("clumps", 1.0, 0.34, ((120, 95, 70), (155, 130, 100), (95, 80, 65), (130, 120, 110))),
    "broadleaf": Look("leaves", 1.0, 0.45, ((55, 95, 50), (95, 130, 65), (155, 130, 65), (130, 90, 60))),
    "conifer": Look("needles", 1.0, 0.50, ((40, 75, 55), (60, 95, 70), (85, 100, 65), (60, 75, 80))),
    "mountain": Look("strata", 0.7, 0.32, ((135, 130, 125), (110, 110, 130), (155, 135, 115), (100, 115, 100))),
    "boulder": Look("strata", 1.3, 0.38, ((135, 130, 125), (110, 105, 110), (165, 145, 120), (90, 90, 85))),
    "snow": Look("smooth", 1.6, 0.12, ((235, 240, 245), (200, 210, 230), (220, 210, 205), (175, 185, 205))),
    "road": Look("speckle", 1.0, 0.25, ((110, 110, 112), (140, 135, 130), (85, 85, 95), (165, 155, 140))),
    "pavement": Look("cobbles", 1.0, 0.25, ((165, 160, 155), (190, 175, 155), (130, 125, 125), (175, 145, 125))),
    "brick": Look("bricks", 1.0, 0.32, ((150, 90, 70), (170, 125, 100), (190, 170, 150), (120, 95, 95)), True),
    "plaster": Look("smooth", 2.0, 0.08, ((225, 215, 195), (200, 180, 150), (170, 185, 190), (200, 155, 130)), True),
    "timber": Look("planks", 1.0, 0.36, ((140, 105, 75), (105, 85, 70), (150, 75, 60), (165, 160, 150)), True),
    "roof": Look("shingles", 1.0, 0.32, ((150, 80, 60), (100, 95, 100), (125, 105, 85), (105, 115, 125)), True),
    "window": Look("glass", 1.5, 0.35, ((60, 75, 95), (150, 175, 200), (40, 45, 55), (205, 185, 135))),
    "door": Look("planks", 1.2, 0.20, _PAINT, True),
    "car": Look("glass", 1.0, 0.14, _PAINT, True),
    "boat": Look("planks", 0.8, 0.10, (*_PAINT, (235, 235, 235), (150, 110, 75)), True),
    "person": Look("cloth", 1.2, 0.30, _PAINT, True),
    "animal": Look("hide", 1.2, 0.35, ((130, 95, 65), (60, 50, 45), (215, 205, 190), (165, 130, 95)), True),
    "fence": Look("planks", 1.0, 0.45, ((140, 110, 80), (215, 210, 205), (105, 95, 85)), True),
    "sign": Look("smooth", 3.0, 0.05, ((220, 190, 50), (200, 50, 50), (50, 90, 170), (230, 230, 230)), True),
}
MEANINGS = tuple(LOOKS)
_INDEX = {meaning: index for index, meaning in enumerate(MEANINGS)}
_BLOSSOM = ((235, 90, 90), (240, 220, 90), (240, 240, 240), (190, 110, 200))
_ANCHORS = [np.array(look.colours, np.float64) for look in LOOKS.values()]
# The first colours of nature are the likeliest; paint has no favourites.
_LIKELY = [np.full(len(look.colours), 1.0 if look.free else 0.8).cumprod() for look in LOOKS.values()]


class Light(NamedTuple):
    """Light and camera of one scene."""

    gain: np.ndarray  # [3] of R, G, B
    haze: float  # how fast things fade into the distance
    slope: float  # of the brightness from left to right
    contrast: float
    saturation: float
    blur: float  # deviation in pixels of a scene 96 pixels high


def _mix(rng: np.random.Generator, index: int) -> list[float]:
    """A colour [R, G, B] of a meaning, near one of its anchors or between some of them."""
    weights = (rng.random(len(_ANCHORS[index])) * _LIKELY[index]) ** 4
    return (weights @ _ANCHORS[index] / weights.sum() + 8.0 * rng.standard_normal(3)).tolist()


class Canvas:
    """Paints surfaces back to front; `render` colours them.

    Attributes:
      rng: source of all random numbers.
      height: of the picture, in pixels.
      width: of the picture, in pixels.
      aspect: width / height.
      horizon: y of the horizon.
      vanish: x towards which straight roads run.
      side: 1 or -1, the side that the light comes from.
      ids: int16 [H, W], the surface of every pixel.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], horizon: float, vanish: float):
        """Makes an empty canvas.

        Args:
          rng: source of all random numbers.
          size: height and width in pixels.
          horizon: y of the horizon, in 0..1.
          vanish: x towards which straight roads run, in 0..width / height.
        """
        self.rng = rng
        self.height, self.width = size
        self.aspect = self.width / self.height
        self.horizon = horizon
        self.vanish = vanish
        self.side = 1.0 if rng.random() < 0.5 else -1.0
        self.ids = np.zeros(size, np.int16)
        self._shadow = np.full(size, 255, np.uint8)
        # For each surface: colour (3), its change by the texture (3), turn and scale of the texture (2), its start (2)
        # and its row in the atlas, brightness (constant, per x, per y), nearness, whether it lies on the ground.
        self._rows: list[list[float]] = []
        self._meanings: list[int] = []
        self._colours: dict[str, list[float]] = {}

    def between(self, low: float, high: float) -> float:
        """Draws uniformly from [low, high)."""
        return low + (high - low) * self.rng.random()

    def nearness(self, y: np.ndarray) -> np.ndarray:
        """The scale of things that stand at y: 1 at the lower border, 0 at the horizon."""
        return (y - self.horizon) / (1.0 - self.horizon)

    def meaning_at(self, x: float, y: float) -> str:
        """The meaning that is painted at a point; points outside count as the border."""
        row = min(max(int(y * self.height), 0), self.height - 1)
        column = min(max(int(x * self.height), 0), self.width - 1)
        return MEANINGS[self._meanings[self.ids[row, column]]]

    def surface(
        self, meaning: str, nearness: float = 0.0, ground: bool = False, scale: float = 1.0, tone: float = 1.0
    ) -> int:
        """Makes a new surface.

        Args:
          meaning: a key of LOOKS.
          nearness: 1 at the lower border, 0 at the horizon; not used on the ground.
          ground: whether it lies on the ground plane, where its texture shrinks with distance.
          scale: of the texture.
          tone: factor of the colour.

        Returns:
          Its id: 0, 1, ...
        """
        rng, look = self.rng, LOOKS[meaning]
        if look.free or meaning not in self._colours:
            self._colours[meaning] = _mix(rng, _INDEX[meaning])
        draws = rng.random(9).tolist()
        factor = tone * (0.9 + 0.2 * draws[0])
        colour = [factor * self._colours[meaning][c] + 14.0 * (draws[1 + c] - 0.5) for c in range(3)]
        if meaning == "flowers":
            blossom = _BLOSSOM[int(len(_BLOSSOM) * draws[4])]
            change = [0.8 * (blossom[c] - colour[c]) for c in range(3)]
        else:
            contrast = look.contrast * (0.7 + 0.6 * draws[4])
            change = [contrast * value for value in colour]
        step, turn = 1.0 / (look.scale * scale * (0.75 + 0.6 * draws[5])), 0.12 * (draws[6] - 0.5)
        row = [*colour, *change, step * math.cos(turn), step * math.sin(turn), TILE * draws[7], TILE * draws[8]]
        row += [KINDS[look.texture] * (TILE + 1), 0.0, 0.0, 0.0, nearness, float(ground)]
        self._rows.append(row)
        self._meanings.append(_INDEX[meaning])
        return len(self._rows) - 1

    def fill(self, surface: int, *polygons: np.ndarray) -> None:
        """Paints polygons with a surface; they hide what was there, and shadows.

        The polygons of one call must not overlap each other: twice inside is outside.

        Args:
          surface: its id.
          *polygons: of (x, y), [n, 2] or several [m, n, 2].
        """
        corners = [
            c for p in polygons for c in np.rint(p * (8.0 * self.height)).astype(np.int32).reshape(-1, *p.shape[-2:])
        ]
        cv2.fillPoly(self.ids, corners, surface, shift=3)
        if not self._rows[surface][-1]:
            cv2.fillPoly(self._shadow, corners, 255, shift=3)

    def shade(self, surface: int, box: tuple[float, float, float, float], sideways: float, down: float) -> None:
        """Makes a surface look round: brighter towards the light, darker downwards.

        Args:
          surface: its id.
          box: (x0, y0, x1, y1) around it.
          sideways: change of the brightness over its width.
          down: change of the brightness over its height.
        """
        x0, y0, x1, y1 = box
        across, along = self.side * sideways / max(x1 - x0, 0.02), -down / max(y1 - y0, 0.02)
        self._rows[surface][11:14] = [-across * (x0 + x1) / 2 - along * (y0 + y1) / 2, across, along]

    def cast(self, x: float, y: float, width: float) -> None:
        """Paints the shadow of something on the ground.

        Args:
          x: where it stands.
          y: where it stands.
          width: of the thing.
        """
        centre = (round((x - self.side * 0.3 * width) * self.height), round(y * self.height))
        axes = (max(round(0.75 * width * self.height), 1), max(round(0.16 * width * self.height), 1))
        cv2.ellipse(self._shadow, centre, axes, 0, 0, 360, 150, -1)

    def meanings(self) -> np.ndarray:
        """The meaning of every pixel: int64 [H, W], index into MEANINGS."""
        return np.array(self._meanings)[self.ids]

    def render(self, light: Light) -> np.ndarray:
        """The picture: uint8 [H, W, 3] RGB."""
        # Planes [H, W] one after another: several times faster than rows of numbers for each pixel.
        planes = np.array(self._rows, np.float32).T.take(self.ids, axis=1)
        colour, change, (shift, across, along, nearness, flat) = planes[:3], planes[3:6], planes[11:]
        x = (np.arange(self.width, dtype=np.float32) + 0.5)[None, :] / self.height
        y = (np.arange(self.height, dtype=np.float32) + 0.5)[:, None] / self.height
        near = np.maximum(self.nearness(y), 0.02)
        colour += change * self._texture(planes[6:11], flat > 0, x, y, near)

        bright = (1.0 + shift + across * x + along * y) * self._shadow * np.float32(1 / 255)
        clouded = cv2.resize(self.rng.random((5, 6), np.float32), self.ids.shape[::-1], interpolation=cv2.INTER_CUBIC)
        bright *= np.where(nearness < 0, 1.0, 0.82 + 0.36 * clouded) + light.slope * (x / self.aspect - 0.5)
        colour *= bright
        distance = 1.0 / np.where(flat > 0, near, np.maximum(nearness, 0.06)) - 1.0
        clear = np.where(nearness < 0, np.float32(1.0), np.exp(-light.haze * distance))
        air = np.array(self._rows[0][:3], np.float32)[:, None, None] * 0.6 + 70.0
        colour = (air + (colour - air) * clear) * light.gain[:, None, None]
        return self._expose(colour, light)

    def _texture(
        self, placing: np.ndarray, flat: np.ndarray, x: np.ndarray, y: np.ndarray, near: np.ndarray
    ) -> np.ndarray:
        """Samples the atlas: float32 [H, W] in -1..1, less of it where the ground is far away.

        placing: planes [5, H, W] of the table; flat: bool [H, W], on the ground; x [1, W]; y and near [H, 1].
        """
        cos, sin, start_u, start_v, tile = placing
        # The plane y = horizon + const / depth, so that texture lines run to the vanishing point.
        across = np.where(flat, (x - self.vanish) / near, x) * 96
        along = np.where(flat, 0.45 / near, y) * 96
        u = cos * across + sin * along + start_u
        v = cos * along - sin * across + start_v
        u -= TILE * np.floor(u * np.float32(1 / TILE))
        v -= TILE * np.floor(v * np.float32(1 / TILE))
        sample = cv2.remap(atlas(), u, v + tile, cv2.INTER_LINEAR)
        return np.where(flat, np.minimum(2.0 * near, 1.0), 1.0) * sample

    def _expose(self, colour: np.ndarray, light: Light) -> np.ndarray:
        """Saturation, contrast, blur and a little sensor noise: float32 [3, H, W] to uint8 [H, W, 3]."""
        grey = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        colour = grey + (colour - grey) * light.saturation
        colour = 120.0 + (colour - 120.0) * light.contrast
        merged = cv2.merge(list(colour))
        blurred: np.ndarray = cv2.GaussianBlur(merged, (0, 0), light.blur * max(self.height / 96, 0.5))
        noise = np.frombuffer(self.rng.bytes(blurred.size), np.uint8).reshape(blurred.shape)
        blurred += noise * np.float32(10 / 255) - 5.0
        return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
