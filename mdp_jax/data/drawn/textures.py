"""The textures of the drawn scenes: one atlas of periodic tiles, made once from a fixed seed."""

import functools
from collections.abc import Callable

import numpy as np

TILE = 128  # side of a tile in pixels of a scene 96 pixels high
_SEED = 20210608


def _noise(rng: np.random.Generator, along: float, across: float, degrees: float = 0.0) -> np.ndarray:
    """Periodic Gaussian noise float64 [TILE, TILE], deviation 1; correlation lengths along and across an axis."""
    v, u = np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE), indexing="ij")
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    envelope = np.exp(-2 * np.pi**2 * ((along * (cos * u + sin * v)) ** 2 + (across * (cos * v - sin * u)) ** 2))
    envelope[0, 0] = 0.0
    values = np.fft.ifft2(np.fft.fft2(rng.standard_normal((TILE, TILE))) * envelope).real
    return values / values.std()


def _ridges(rng: np.random.Generator, along: float, across: float, degrees: float = 0.0) -> np.ndarray:
    """Bright thin lines where the noise changes its sign."""
    return 1.0 - 2.0 * np.minimum(np.abs(_noise(rng, along, across, degrees)), 1.0)


def _cells(height: int, width: int, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brick bond: id of each pixel's cell and the position inside it, (y, x) in pixels."""
    y, x = np.meshgrid(np.arange(TILE), np.arange(TILE), indexing="ij")
    row = y // height
    x = (x + (row * int(shift * width))) % TILE
    return row * TILE + x // width, y % height, x % width


def _bricks(rng: np.random.Generator) -> np.ndarray:
    cell, y, x = _cells(4, 8, 0.5)
    tones = rng.uniform(-0.9, 0.3, TILE * TILE)
    return np.where((y == 0) | (x == 0), 1.0, tones[cell])


def _planks(rng: np.random.Generator) -> np.ndarray:
    cell, _, x = _cells(TILE, 4, 0.0)
    tones = rng.uniform(-0.1, 0.8, TILE * TILE)
    return np.where(x == 0, -1.0, tones[cell] + 0.2 * _noise(rng, 0.6, 5.0))


def _shingles(rng: np.random.Generator) -> np.ndarray:
    cell, y, x = _cells(4, 4, 0.5)
    tones = rng.uniform(-0.2, 0.4, TILE * TILE)
    return tones[cell] + np.array([0.7, 0.3, 0.0, -1.0])[y] - 0.4 * (x == 0)


def _furrows(rng: np.random.Generator) -> np.ndarray:
    x = np.arange(TILE)[None, :]
    return 0.8 * np.sin(2 * np.pi * x / 8) + 0.35 * _noise(rng, 0.8, 3.0)


def _spots(rng: np.random.Generator) -> np.ndarray:
    return np.where(_noise(rng, 1.0, 1.0) > 0.75, 1.0, 0.25 * _noise(rng, 0.7, 2.0) - 0.4)


def _cobbles(rng: np.random.Generator) -> np.ndarray:
    """Cells around scattered points: each its own tone, dark where the two nearest points are equally near."""
    points = (np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1).reshape(-1, 2) + rng.random((256, 2))) * 8
    y, x = np.meshgrid(np.arange(TILE), np.arange(TILE), indexing="ij")
    gap = np.abs(np.stack([x, y], -1).reshape(-1, 1, 2) - points[None])
    distance = np.sqrt((np.minimum(gap, TILE - gap) ** 2).sum(-1))
    nearest = np.partition(distance, 1, axis=1)[:, :2]
    tones = rng.uniform(-0.3, 0.7, len(points))[distance.argmin(1)]
    return np.where(nearest[:, 1] - nearest[:, 0] < 1.2, -1.0, tones).reshape(TILE, TILE)


_TILES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "smooth": lambda rng: 0.6 * _noise(rng, 20, 10),
    "billows": lambda rng: 0.5 * _noise(rng, 6, 3.5) + 0.2 * _noise(rng, 2, 1.5),
    "waves": lambda rng: 0.5 * _noise(rng, 5, 0.9) + 0.2 * _noise(rng, 12, 2),
    "caustics": lambda rng: _ridges(rng, 4.0, 2.0),
    "grain": lambda rng: 0.45 * _noise(rng, 0.5, 0.5) + 0.2 * _noise(rng, 6, 3),
    "blades": lambda rng: 0.5 * _noise(rng, 0.6, 2.5) + 0.25 * _noise(rng, 6, 4),
    "leaves": lambda rng: 0.75 * np.tanh(1.5 * _noise(rng, 1.6, 1.4)) + 0.2 * _noise(rng, 0.5, 0.5),
    "needles": lambda rng: 0.45 * _noise(rng, 0.5, 2.0, 25) + 0.45 * _noise(rng, 0.5, 2.0, -25),
    "strata": lambda rng: 0.6 * _ridges(rng, 7, 1.8, 30) + 0.4 * _noise(rng, 5, 1.0, -40),
    "clumps": lambda rng: 0.5 * _noise(rng, 2.6, 1.8) + 0.25 * _noise(rng, 0.6, 0.6),
    "speckle": lambda rng: np.where(_noise(rng, 0.6, 0.6) > 1.4, 0.9, 0.2 * _noise(rng, 8, 3) - 0.1),
    "cloth": lambda rng: 0.4 * _noise(rng, 1.2, 2.0),
    "hide": lambda rng: np.tanh(4 * _noise(rng, 3, 2.5)),
    "glass": lambda rng: 0.7 * np.tanh(2 * _noise(rng, 14, 3, 60)),
    "bricks": _bricks,
    "planks": _planks,
    "shingles": _shingles,
    "furrows": _furrows,
    "spots": _spots,
    "cobbles": _cobbles,
}
KINDS = {name: index for index, name in enumerate(_TILES)}


@functools.cache
def atlas() -> np.ndarray:
    """All tiles below one another, float32 [K * (TILE + 1), TILE + 1] in -1..1.

    Each tile repeats its first row and column at its end, so that bilinear sampling wraps around.
    """
    tiles = [np.clip(make(np.random.default_rng([_SEED, index])), -1, 1) for index, make in enumerate(_TILES.values())]
    return np.concatenate([np.pad(tile, ((0, 1), (0, 1)), mode="wrap") for tile in tiles]).astype(np.float32)
