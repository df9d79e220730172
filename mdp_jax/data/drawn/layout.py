"""The layout of the drawn scenes: the background, the land, and where things stand."""

import bisect
import itertools
from collections.abc import Callable, Mapping

import numpy as np

from mdp_jax.data.drawn.canvas import Canvas
from mdp_jax.data.drawn.objects import THINGS, blob, rectangle, windows

_STEPS = np.linspace(0, 1, 33)


def choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draws one of the names, with a probability proportional to its weight.

    Args:
      rng: source of all random numbers.
      weights: name -> weight, not negative.
    """
    names, bounds = tuple(weights), tuple(itertools.accumulate(weights.values()))
    return names[min(bisect.bisect_right(bounds, rng.random() * bounds[-1]), len(names) - 1)]


def _profile(canvas: Canvas, low: int, high: int, sharp: bool) -> np.ndarray:
    """A random line over the picture, float64 [33] in about 0..1, of `low` to `high` half waves; sharp: with peaks."""
    orders = np.arange(low, high)
    phases = 2 * np.pi * canvas.rng.random(len(orders))
    waves = np.sin(np.pi * orders[:, None] * _STEPS + phases[:, None])
    waves = 1.0 - 2.0 * np.abs(waves) if sharp else waves
    line = (waves * canvas.rng.random(len(orders))[:, None] / orders[:, None] ** 0.8).sum(0)
    return (line - line.min()) / max(line.max() - line.min(), 1e-6)


def _below(canvas: Canvas, top: np.ndarray, bottom: np.ndarray | float = 1.01) -> np.ndarray:
    """The outline between a line of heights [33] and another one, or the lower border."""
    x = _STEPS * canvas.aspect
    edge = np.stack([x, np.broadcast_to(bottom, top.shape)], 1)
    return np.concatenate([np.stack([x, top], 1), edge[::-1]])


def sky(canvas: Canvas, clouds: float) -> None:
    """Paints the sky over the whole picture and a Poisson number of clouds.

    Args:
      canvas: of the scene.
      clouds: mean number of clouds.
    """
    everywhere = canvas.surface("sky", -1.0)
    canvas.shade(everywhere, (0, 0, canvas.aspect, 2 * canvas.horizon), 0.08, -canvas.between(0.0, 0.35))
    canvas.fill(everywhere, rectangle(-0.01, -0.01, canvas.aspect + 0.01, 1.01))
    for _ in range(canvas.rng.poisson(clouds)):
        x, y = canvas.between(0, canvas.aspect), canvas.between(-0.02, 0.85) * canvas.horizon
        width = canvas.between(0.1, 0.3)
        cloud = canvas.surface("cloud", -1.0)
        canvas.shade(cloud, (x - width, y - 0.4 * width, x + width, y + 0.4 * width), 0.1, 0.25)
        canvas.fill(cloud, blob(canvas, x, y, width, 0.36 * width))
        canvas.fill(
            cloud, blob(canvas, x + canvas.between(-0.5, 0.5) * width, y - 0.15 * width, 0.5 * width, 0.32 * width)
        )


def mountains(canvas: Canvas, snow: float) -> None:
    """Paints a range of mountains on the horizon.

    Args:
      canvas: of the scene.
      snow: probability that the peaks are white.
    """
    height = canvas.horizon * canvas.between(0.35, 0.85)
    line = canvas.horizon - height * (0.25 + 0.75 * _profile(canvas, 2, 14, True))
    rocks = canvas.surface("mountain", 0.25)
    canvas.shade(rocks, (0, canvas.horizon - height, canvas.aspect, canvas.horizon), 0.2, -0.1)
    canvas.fill(rocks, _below(canvas, line))
    if canvas.rng.random() < snow:
        limit = canvas.horizon - height * (canvas.between(0.3, 0.6) + 0.15 * canvas.rng.standard_normal(33))
        canvas.fill(canvas.surface("snow", 0.25), _below(canvas, line, np.maximum(line, limit)))


def hills(canvas: Canvas, meaning: str) -> None:
    """Paints low rounded hills on the horizon."""
    line = canvas.horizon - canvas.between(0.05, 0.16) * _profile(canvas, 1, 6, False)
    slope = canvas.surface(meaning, 0.3, scale=0.6)
    canvas.fill(slope, _below(canvas, line))


def wood(canvas: Canvas, meaning: str) -> None:
    """Paints the edge of a wood on the horizon, over all of the picture or a part of it."""
    teeth = np.abs(np.sin(_STEPS * 200)) * (0.05 if meaning == "conifer" else 0.02)
    line = canvas.horizon - canvas.between(0.05, 0.12) - 0.07 * _profile(canvas, 2, 12, False) - teeth
    start, stop = sorted(canvas.rng.uniform(-0.6, 1.6, 2))
    line = np.where((start < _STEPS) & (stop > _STEPS), line, canvas.horizon + 0.02)
    trees = canvas.surface(meaning, 0.3, scale=0.6)
    canvas.fill(trees, _below(canvas, line))


def ground(canvas: Canvas, meaning: str) -> None:
    """Paints the land below the horizon."""
    surface = canvas.surface(meaning, ground=True)
    canvas.fill(surface, rectangle(-0.01, canvas.horizon, canvas.aspect + 0.01, 1.01))


def _at(canvas: Canvas, x: float, near: float) -> tuple[float, float]:
    """The point of the picture that shows a point of the ground, x to the right of the vanishing point at near = 1."""
    return canvas.vanish + x * near, canvas.horizon + (1.0 - canvas.horizon) * near


def band(canvas: Canvas, meaning: str, width: float, border: str = "") -> None:
    """Paints a winding road or river from the lower border towards the horizon.

    Args:
      canvas: of the scene.
      meaning: of the band.
      width: at the lower border.
      border: meaning of its border; "" for none.
    """
    near = np.linspace(1.05, 0.06, 20)
    centre = canvas.between(-0.9, 0.9) * near + canvas.between(-0.22, 0.22) * np.sin(
        canvas.between(2, 5) * near + 6 * canvas.rng.random()
    )
    y = canvas.horizon + (1.0 - canvas.horizon) * near
    for name, half in ((border, 0.85 * width), (meaning, 0.5 * width)):
        if name:
            left, right = (np.stack([canvas.vanish + centre + sign * half * near, y], 1) for sign in (-1, 1))
            canvas.fill(canvas.surface(name, ground=True), np.concatenate([left, right[::-1]]))


def patches(canvas: Canvas, weights: Mapping[str, float], number: float) -> None:
    """Paints a Poisson number of flat patches on the ground: straight fields or irregular spots.

    Args:
      canvas: of the scene.
      weights: meaning -> weight.
      number: mean number of patches.
    """
    for _ in range(canvas.rng.poisson(number)):
        meaning = choose(canvas.rng, weights)
        near = canvas.between(0.15, 0.9)
        x, half = canvas.between(-1.2, 1.2), canvas.between(0.25, 0.8)
        surface = canvas.surface(meaning, ground=True)
        if meaning in ("crop", "soil"):
            far = near * canvas.between(0.3, 0.7)
            corners = ((x - half, far), (x + half, far), (x + half, near), (x - half, near))
            canvas.fill(surface, np.array([_at(canvas, *corner) for corner in corners]))
        else:
            canvas.fill(surface, blob(canvas, *_at(canvas, x, near), half * near, 0.4 * half * near, 0.2))


def coast(canvas: Canvas, land: str) -> None:
    """Paints open water to the horizon, shallows, a beach, and perhaps land in front of it."""
    ground(canvas, "sea")
    slant = canvas.between(-0.35, 0.35) * (_STEPS - 0.5)
    lines = np.sort(canvas.rng.uniform(0.12, 1.15, 3))
    for meaning, near in zip(("shallows", "sand", land), lines, strict=True):
        y = canvas.horizon + (1.0 - canvas.horizon) * np.maximum(
            near + slant + 0.09 * _profile(canvas, 2, 9, False), 0.02
        )
        canvas.fill(canvas.surface(meaning, ground=True), _below(canvas, y))


def lake(canvas: Canvas, land: str) -> None:
    """Paints a lake in the land: a shore, shallows, open water."""
    x, near = canvas.between(-0.8, 0.8), canvas.between(0.25, 0.6)
    half, flat = canvas.between(0.7, 1.6), canvas.between(0.25, 0.45)
    shore = blob(canvas, 0, 0, 1, 1, 0.12)
    centre = np.array(_at(canvas, x, near))
    for meaning, share in (("sand", 1.12), ("shallows", 1.0), ("sea", canvas.between(0.55, 0.85))):
        outline = centre + shore * (half * near**0.5 * share, flat * (1.0 - canvas.horizon) * share)
        canvas.fill(canvas.surface(meaning, ground=True), np.maximum(outline, (-np.inf, canvas.horizon + 0.01)))


def country(canvas: Canvas, land: str) -> None:
    """Paints open land, perhaps with a road or a river through it."""
    kind = canvas.rng.random()
    if kind < 0.5:
        band(canvas, "road", canvas.between(0.35, 0.7))
    elif kind < 0.7:
        band(canvas, "shallows", canvas.between(0.4, 0.9), "sand")


def street(canvas: Canvas, land: str) -> None:
    """Paints a street that runs away from us, between pavements and rows of buildings or open land."""
    road, pavement = canvas.between(0.35, 0.6), canvas.between(0.15, 0.35)
    for meaning, half in (("pavement", road + pavement), ("road", road)):
        corners = [_at(canvas, sign * half, near) for sign, near in ((-1, 0.03), (1, 0.03), (1, 1.1), (-1, 1.1))]
        canvas.fill(canvas.surface(meaning, ground=True), np.array(corners))
    for sign in (-1.0, 1.0):
        if canvas.rng.random() < 0.75:
            _terrace(canvas, sign * (road + pavement))


def _terrace(canvas: Canvas, x: float) -> None:
    """Buildings in a row along the line x of the ground, the farthest first."""
    edges = [0.1]
    while edges[-1] < 1.3:
        edges.append(edges[-1] * canvas.between(1.35, 1.9))
    for far, near in itertools.pairwise(edges):
        material = choose(canvas.rng, {"brick": 1.0, "plaster": 1.0, "timber": 0.25})
        height = canvas.between(0.5, 1.3)
        inner, outer = np.array(_at(canvas, x, far)), np.array(_at(canvas, x, near))
        wall = np.array((inner - (0, height * far), outer - (0, height * near), outer, inner))
        _facade(canvas, wall, material, near, columns=2 + int(canvas.rng.integers(2)))


def _facade(canvas: Canvas, wall: np.ndarray, material: str, near: float, columns: int) -> None:
    """Paints a wall with windows and a door; its corners [4, 2] are left top, right top, right bottom, left bottom."""
    front = canvas.surface(material, near, scale=0.6 + 0.5 * min(near, 1.0))
    canvas.fill(front, wall)
    if canvas.rng.random() < 0.7:
        rise = canvas.between(0.08, 0.2) * near
        roof = np.array((wall[0] - (0, rise), wall[1] - (0, rise), wall[1], wall[0]))
        canvas.fill(
            canvas.surface("roof", near),
            roof + (wall[3, 0] - wall[2, 0]) * np.array(((-0.06, 0), (0.06, 0), (0, 0), (0, 0))),
        )
    if near < 0.25:
        return  # windows and doors would be a pixel wide
    storeys = max(round(float(np.linalg.norm(wall[2] - wall[1])) / (0.27 * min(near, 1.0))), 1)
    windows(canvas, wall, columns, min(storeys, 5), near)
    place = (int(canvas.rng.integers(columns)) + 0.3) / columns
    share = np.array((place, place + 0.4 / columns))[:, None]
    foot = wall[3] + share * (wall[2] - wall[3])
    head = foot - 0.8 / (min(storeys, 5) + 0.3) * (foot - (wall[0] + share * (wall[1] - wall[0])))
    canvas.fill(canvas.surface("door", near), np.concatenate([foot, head[::-1]]))


def row(canvas: Canvas, land: str) -> None:
    """Paints a row of buildings that faces us, over a pavement and a road or open land."""
    near = canvas.between(0.3, 0.6)
    y = canvas.horizon + (1.0 - canvas.horizon) * near
    x = canvas.between(-0.4, 0.1)
    kerb, gutter = y + canvas.between(0.06, 0.16), 1.01 if canvas.rng.random() < 0.5 else canvas.between(0.85, 1.0)
    canvas.fill(canvas.surface("pavement", ground=True), rectangle(-0.01, y - 0.02, canvas.aspect + 0.01, kerb))
    canvas.fill(canvas.surface("road", ground=True), rectangle(-0.01, kerb, canvas.aspect + 0.01, gutter))
    while x < canvas.aspect:
        width, height = canvas.between(0.3, 0.6), canvas.between(0.35, 0.85)
        if canvas.rng.random() < 0.8:
            material = choose(canvas.rng, {"brick": 1.0, "plaster": 1.0, "timber": 0.25})
            wall = rectangle(x, y - height, x + width, y)
            _facade(canvas, wall, material, near, columns=2 + int(width > 0.42))
        x += width


# Each changes the ground, which has had the meaning `land`.
PLANS: dict[str, Callable[[Canvas, str], None]] = {
    "coast": coast,
    "lake": lake,
    "country": country,
    "street": street,
    "row": row,
}


def place(canvas: Canvas, rates: Mapping[str, float]) -> None:
    """Draws a Poisson number of each kind of thing, at random points where it can stand, the farthest first.

    Args:
      canvas: of the scene.
      rates: kind of thing, a key of THINGS -> mean number.
    """
    standing = []
    for name, number in zip(rates, canvas.rng.poisson(tuple(rates.values())), strict=True):
        for _ in range(min(int(number), 12)):
            for _ in range(4):
                near = 0.25 + 0.75 * canvas.rng.random()
                x, y = canvas.between(0, canvas.aspect), canvas.horizon + (1.0 - canvas.horizon) * near
                if canvas.meaning_at(x, y) in THINGS[name].stands_on:
                    standing.append((near, x, y, name))
                    break
    for near, x, y, name in sorted(standing):
        THINGS[name].draw(canvas, x, y, near)
