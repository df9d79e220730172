"""How much smaller photos become before a network sees them, and which classes are lost by it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mdp_jax.words import some

_NAMED = 8  # classes that a line names
_SAID = 1.5  # times from which a smaller size is worth a line


def factor(sizes: Sequence[tuple[int, int]], short_side: int) -> float:
    """How many times smaller, in length, the median photo becomes.

    Args:
      sizes: (height, width) of the photos.
      short_side: that they are resized to; 0 = they stay as they are.

    Returns:
      1 for no change, below 1 where photos are enlarged.
    """
    return float(np.median([min(size) for size in sizes])) / short_side if sizes and short_side else 1.0


def features(areas: Sequence[tuple[int, int]], short_side: int, stride: int) -> float:
    """The median area of a class in its photos, in features: pixels after resizing over those of one feature.

    Args:
      areas: (pixels of the class, short side of the photo), of each photo that holds it, at least one.
      short_side: that photos are resized to; 0 = they stay as they are.
      stride: of the features, in pixels.
    """
    return float(np.median([pixels * ((short_side or side) / side / stride) ** 2 for pixels, side in areas]))


def short_side_for(areas: Sequence[tuple[int, int]], stride: int) -> int:
    """The short side, a multiple of the stride, from which the median area of a class is a feature at least.

    Args:
      areas: as for `features`.
      stride: of the features, in pixels.
    """
    share = float(np.median([pixels / side**2 for pixels, side in areas]))
    return stride * math.ceil(1 / math.sqrt(share) - 1e-9)


def remarks(
    where: str,
    sizes: Sequence[tuple[int, int]],
    areas: Mapping[str, Sequence[tuple[int, int]]],
    short_side: int,
    stride: int,
) -> list[str]:
    """What a run loses by the size that photos have in it, and what to set.

    Args:
      where: what the lines call the photos.
      sizes: (height, width) of the photos, as their files have them.
      areas: class -> as for `features`, of the classes that were seen.
      short_side: that photos are resized to; 0 = they stay as they are.
      stride: of the features, in pixels.

    Returns:
      Lines, none where nothing is lost.
    """
    if not sizes:
        return []
    smaller, lines = factor(sizes, short_side), []
    own = int(np.median([min(size) for size in sizes]))
    if smaller >= _SAID:
        lines.append(
            f"{where}: photos are shrunk {smaller:.1f} times, from a short side of {own} pixels (median) to "
            f"config.data.short_side={short_side}; a larger one shows more and takes longer"
        )
    lost = {name: features(found, short_side, stride) for name, found in areas.items() if found}
    lost = dict(sorted((item for item in lost.items() if item[1] < 1), key=lambda item: item[1]))
    if lost:
        named = some((f"{name} ({area:.2g})" for name, area in lost.items()), _NAMED)
        needed = max(short_side_for(areas[name], stride) for name in lost)
        if needed <= own and short_side:
            advice = f"set config.data.short_side={needed} for all of them, or 0 for photos of their own size"
        elif short_side:
            advice = f"{needed} would be needed: set config.data.short_side=0, for their own size, or drop such classes"
        else:
            advice = "lower config.model.output_stride, or drop these classes"
        lines.append(
            f"{where}: smaller than one feature of {stride} x {stride} pixels in most of their photos (median area in "
            f"features): {named}; {advice}"
        )
    return lines
