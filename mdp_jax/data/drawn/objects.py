"""The things that stand in the drawn scenes.

Every function f(canvas, x, y, near) draws one thing that stands on the ground at (x, y); `near` is its scale (1 is
nearest). Lengths are those of canvas.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdp_jax.data.drawn.canvas import Canvas

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
_ORDERS = np.array([2, 3, 5, 8])
_WAVES = np.concatenate([np.cos(_ORDERS[:, None] * _ANGLES), np.sin(_ORDERS[:, None] * _ANGLES)])


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """The corners [4, 2] of an upright rectangle."""
    return np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))


def blob(canvas: Canvas, x: float, y: float, rx: float, ry: float, rough: float = 0.12) -> np.ndarray:
    """Draws an irregular round outline.

    Args:
      canvas: of the scene.
      x: of its centre.
      y: of its centre.
      rx: horizontal radius.
      ry: vertical radius.
      rough: standard deviation of the radius, as a share of it.

    Returns:
      float64 [24, 2].
    """
    radius = 1.0 + (rough * canvas.rng.standard_normal(8) / np.tile(np.sqrt(_ORDERS), 2)) @ _WAVES
    return (x, y) + _CIRCLE * radius[:, None] * (rx, ry)


def broadleaf(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A trunk under a crown of leaves."""
    height = near * canvas.between(0.65, 1.1)
    width = height * canvas.between(0.28, 0.42)
    canvas.cast(x, y, 1.5 * width)
    crown = y - 0.64 * height
    trunk = canvas.surface("broadleaf", near, tone=0.55)
    canvas.fill(trunk, rectangle(x - 0.13 * width, crown, x + 0.13 * width, y))
    leaves = canvas.surface("broadleaf", near, scale=0.5 + 0.6 * near)
    canvas.shade(leaves, (x - width, crown - 0.4 * height, x + width, crown + 0.4 * height), 0.35, 0.4)
    canvas.fill(leaves, blob(canvas, x, crown, width, 0.38 * height))


def bush(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A low crown of leaves."""
    size = near * canvas.between(0.16, 0.28)
    canvas.cast(x, y, 1.6 * size)
    leaves = canvas.surface("broadleaf", near, scale=0.5 + 0.5 * near)
    canvas.shade(leaves, (x - size, y - 1.4 * size, x + size, y), 0.3, 0.4)
    canvas.fill(leaves, blob(canvas, x, y - 0.6 * size, 1.2 * size, 0.7 * size))


def conifer(canvas: Canvas, x: float, y: float, near: float) -> None:
    """Three tiers of needles."""
    height = near * canvas.between(0.7, 1.15)
    width = height * canvas.between(0.17, 0.27)
    canvas.cast(x, y, 1.5 * width)
    needles = canvas.surface("conifer", near, scale=0.5 + 0.6 * near)
    canvas.shade(needles, (x - width, y - height, x + width, y), 0.4, 0.25)
    for top, bottom, wide in ((0.72, 0.1, 1.0), (0.88, 0.38, 0.75), (1.0, 0.62, 0.5)):
        tier = ((x, y - top * height), (x + wide * width, y - bottom * height), (x - wide * width, y - bottom * height))
        canvas.fill(needles, np.array(tier))
    canvas.fill(needles, rectangle(x - 0.12 * width, y - 0.2 * height, x + 0.12 * width, y))


def boulder(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A stone, flat below."""
    size = near * canvas.between(0.16, 0.3)
    canvas.cast(x, y, 1.8 * size)
    stone = canvas.surface("boulder", near, scale=0.5 + 0.5 * near)
    canvas.shade(stone, (x - size, y - size, x + size, y), 0.4, 0.5)
    outline = blob(canvas, x, y - 0.35 * size, 1.15 * size, 0.75 * size, 0.2)
    canvas.fill(stone, np.minimum(outline, (np.inf, y)))


def windows(canvas: Canvas, wall: np.ndarray, columns: int, rows: int, near: float, share: float = 0.9) -> None:
    """Paints a grid of windows in a wall.

    Args:
      canvas: of the scene.
      wall: corners [4, 2]: left top, right top, right bottom, left bottom.
      columns: of the grid.
      rows: of the grid.
      near: scale of the wall.
      share: probability of each window.
    """
    glass = canvas.surface("window", near, scale=0.5 + near)
    kept = np.flatnonzero(canvas.rng.random(columns * rows) < share)
    u = (kept % columns + 0.24)[:, None] / columns + np.array((0.0, 0.5, 0.5, 0.0)) / columns
    v = 0.06 + 0.94 * ((kept // columns + 0.16)[:, None] + np.array((0.0, 0.0, 0.58, 0.58))) / (rows + 0.3)
    u, v = u[..., None], v[..., None]
    top, bottom = wall[0] + u * (wall[1] - wall[0]), wall[3] + u * (wall[2] - wall[3])
    canvas.fill(glass, top + v * (bottom - top))


def _house(canvas: Canvas, x: float, y: float, near: float, material: str) -> None:
    """A wall with windows and a door, a second wall in the shade, and a roof over both."""
    width, height = near * canvas.between(0.5, 0.9), near * canvas.between(0.28, 0.45)
    depth, rise = width * canvas.between(-0.5, 0.5), near * canvas.between(0.14, 0.3)
    x0, x1, top = x - width / 2, x + width / 2, y - height
    canvas.cast(x, y, 1.3 * width)
    front = canvas.surface(material, near, scale=0.6 + 0.5 * near)
    corner, lift = (x1 if depth > 0 else x0), 0.06 * near
    side = canvas.surface(material, near, scale=0.6 + 0.5 * near, tone=0.75)
    far = corner + 0.6 * depth
    canvas.fill(side, np.array(((corner, top), (far, top - lift), (far, y - lift), (corner, y))))
    wall = rectangle(x0, top, x1, y)
    canvas.fill(front, wall)
    roof = canvas.surface("roof", near, scale=0.6 + 0.5 * near)
    eave = 0.05 * width
    if canvas.rng.random() < 0.4:  # the gable faces us
        peak, below = (x, top - rise - 0.02), (0.6 * depth, 0.02 - lift)
        canvas.fill(roof, np.array((peak, (x0 - eave, top + 0.02), (x1 + eave, top + 0.02))))
        canvas.fill(roof, np.array((peak, np.add(peak, below), (far, top - lift), (corner, top))))
        canvas.fill(front, np.array(((x, top - rise + 0.03), (x0 + eave, top + 0.01), (x1 - eave, top + 0.01))))
    else:
        low, high, slant = min(x0, far) - eave, max(x1, far) + eave, 0.16 * width
        ridge = ((low + slant, top - rise), (high - slant, top - rise))
        canvas.fill(roof, np.array(((low, top + 0.02), *ridge, (high, top + 0.02))))
    columns = 2 + int(canvas.rng.integers(3))
    windows(canvas, wall, columns, 1 + int(near > 0.5 and canvas.rng.random() < 0.5), near, 0.75)
    place = x0 + (int(canvas.rng.integers(columns)) + 0.5) * width / columns
    half = 0.045 * near + 0.02
    canvas.fill(canvas.surface("door", near), rectangle(place - half, y - 0.62 * height, place + half, y))


def barn(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A wooden house."""
    _house(canvas, x, y, near, "timber")


def house(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A house of brick or plaster."""
    _house(canvas, x, y, near, "brick" if canvas.rng.random() < 0.5 else "plaster")


def person(canvas: Canvas, x: float, y: float, near: float) -> None:
    """Legs, body, arms and head."""
    height = near * canvas.between(0.44, 0.6) + 0.03
    width = 0.15 * height
    canvas.cast(x, y, 2.5 * width)
    hip, neck, stride = y - 0.46 * height, y - 0.82 * height, width * canvas.between(0.2, 1.2)
    legs = [
        np.array(((x - width, hip), (x + width, hip), (x + s + 0.4 * width, y), (x + s - 0.4 * width, y)))
        for s in (-stride, stride)
    ]
    lower = canvas.surface("person", near, tone=0.8)
    for leg in legs:
        canvas.fill(lower, leg)
    body = np.array(((x - 1.2 * width, neck), (x + 1.2 * width, neck), (x + 1.2 * width, hip), (x - 1.2 * width, hip)))
    canvas.fill(canvas.surface("person", near), body)
    canvas.fill(lower, (x, y - 0.91 * height) + _CIRCLE * (0.075 * height, 0.09 * height))


def animal(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A grazing or standing beast seen from the side."""
    size = near * canvas.between(0.36, 0.55) + 0.04
    face = 1.0 if canvas.rng.random() < 0.5 else -1.0
    canvas.cast(x, y, size)
    hide = canvas.surface("animal", near, scale=0.5 + 0.6 * near)
    canvas.shade(hide, (x - size / 2, y - 0.7 * size, x + size / 2, y), 0.1, 0.45)
    canvas.fill(
        hide,
        *(
            rectangle(x + s * size - 0.045 * size, y - 0.4 * size, x + s * size + 0.045 * size, y)
            for s in (-0.36, -0.22, 0.22, 0.36)
        ),
    )
    canvas.fill(hide, blob(canvas, x, y - 0.47 * size, 0.5 * size, 0.21 * size, 0.04))
    head = y - size * canvas.between(0.12, 0.75)
    tip = x + face * 0.68 * size
    canvas.fill(
        hide,
        np.array(
            (
                (x + face * 0.36 * size, y - 0.62 * size),
                (x + face * 0.36 * size, y - 0.36 * size),
                (tip, head + 0.06 * size),
                (tip, head - 0.08 * size),
            )
        ),
    )
    canvas.fill(hide, (tip, head) + _CIRCLE * (0.14 * size, 0.09 * size))


def car(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A car from the side or, narrower, from behind."""
    aside = canvas.rng.random() < 0.6
    height = near * canvas.between(0.28, 0.38) + 0.02
    half = height * (1.15 if aside else 0.62)
    canvas.cast(x, y, 2.0 * half)
    body, dark = canvas.surface("car", near), canvas.surface("car", near, tone=0.4)
    canvas.shade(body, (x - half, y - height, x + half, y), 0.1, 0.3)
    inset = 0.45 if aside else 0.12
    cabin = np.array(
        (
            (x - (1 - inset) * half, y - height),
            (x + (1 - inset) * half, y - height),
            (x + 0.85 * half, y - 0.5 * height),
            (x - 0.85 * half, y - 0.5 * height),
        )
    )
    canvas.fill(body, rectangle(x - half, y - 0.58 * height, x + half, y - 0.12 * height))
    canvas.fill(body, cabin)
    canvas.fill(dark, (x, y - 0.73 * height) + (cabin - (x, y - 0.73 * height)) * (0.84, 0.7))
    wheel = (x, y - 0.16 * height) + _CIRCLE * (0.2 if aside else 0.14) * height
    canvas.fill(dark, *(np.add(wheel, (side * half, 0)) for side in (-0.62, 0.62)))


def boat(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A hull with a sail or a cabin."""
    size = near * canvas.between(0.45, 0.75) + 0.06
    canvas.cast(x, y, 0.8 * size)
    hull = canvas.surface("boat", near)
    deck = y - 0.2 * size
    if canvas.rng.random() < 0.6:
        mast, lean = y - size * canvas.between(0.9, 1.3), canvas.between(0.25, 0.42) * size
        sail = canvas.surface("boat", near, tone=1.2, scale=2.0)
        canvas.fill(sail, np.array(((x, mast), (x + lean, deck), (x - 0.03 * size, deck))))
        canvas.fill(
            sail, np.array(((x - 0.05 * size, mast + 0.15 * size), (x - 0.8 * lean, deck), (x - 0.05 * size, deck)))
        )
    else:
        canvas.fill(canvas.surface("boat", near), rectangle(x - 0.2 * size, deck - 0.22 * size, x + 0.16 * size, deck))
    canvas.fill(
        hull,
        np.array(
            (
                (x - 0.5 * size, deck - 0.04 * size),
                (x + 0.5 * size, deck - 0.06 * size),
                (x + 0.36 * size, y),
                (x - 0.36 * size, y),
            )
        ),
    )


def fence(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A stretch of pickets that runs towards or away from us."""
    length, height = near * canvas.between(0.7, 1.6), near * canvas.between(0.18, 0.26) + 0.02
    away = 1.0 - canvas.between(0.0, 0.35)
    x1, y1 = x + length * (1.0 if x < canvas.aspect / 2 else -1.0), canvas.horizon + (y - canvas.horizon) * away
    pickets = canvas.surface("fence", near, scale=0.6 + 0.4 * near)
    steps = np.linspace(0, 1, 2 * max(int(length / (0.05 + 0.03 * near)), 3) + 1)[:, None]
    teeth = np.where(np.arange(len(steps)) % 2, 0.82, 1.0)[:, None]
    foot = np.array((x, y)) + steps * (x1 - x, y1 - y)
    top = foot - teeth * height * (1 + steps * (away - 1)) * (0, 1)
    canvas.fill(pickets, np.concatenate([top, foot[::-1]]))


def sign(canvas: Canvas, x: float, y: float, near: float) -> None:
    """A coloured plate on a pole."""
    height, size = near * canvas.between(0.5, 0.75) + 0.05, near * canvas.between(0.07, 0.12) + 0.025
    pole = canvas.surface("sign", near, tone=0.4)
    canvas.fill(pole, rectangle(x - 0.012, y - height, x + 0.012, y))
    plate = canvas.surface("sign", near)
    corners = (3, 4, 6, 12)[int(canvas.rng.integers(4))]
    angles = 2 * np.pi * (np.arange(corners) + (0.5 if corners == 4 else 0.25 * (corners == 3))) / corners
    rim = np.stack([np.sin(angles), -np.cos(angles)], 1)
    canvas.fill(plate, (x, y - height) + size * rim)
    canvas.fill(canvas.surface("sign", near), (x, y - height) + 0.55 * size * rim)


_LAND = frozenset({"grass", "flowers", "crop", "soil", "sand", "snow"})
_WATER = frozenset({"sea", "shallows"})


class Thing(NamedTuple):
    """How a thing is drawn and on which meanings it stands."""

    draw: Callable[[Canvas, float, float, float], None]
    stands_on: frozenset[str]


THINGS = {
    "broadleaf": Thing(broadleaf, _LAND - {"sand"}),
    "bush": Thing(bush, _LAND),
    "conifer": Thing(conifer, _LAND - {"sand"}),
    "boulder": Thing(boulder, _LAND | {"shallows"}),
    "house": Thing(house, _LAND | {"pavement"}),
    "barn": Thing(barn, _LAND | {"pavement"}),
    "person": Thing(person, _LAND | {"pavement", "shallows", "road"}),
    "animal": Thing(animal, _LAND),
    "car": Thing(car, frozenset({"road", "pavement", "soil"})),
    "boat": Thing(boat, _WATER),
    "fence": Thing(fence, _LAND | {"pavement"}),
    "sign": Thing(sign, _LAND | {"pavement", "road"}),
}
