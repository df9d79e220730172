"""Figures of what is in a dataset: how much of each class, which classes come together, how large photos are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdp_jax.reporting import drawing, fonts
from mdp_jax.reporting.colors import of_sets, pixels
from mdp_jax.reporting.figures import DENSITY, DPI, encode_png

_ROW = 0.19  # inches of a bar
_MOST_TOGETHER = 40  # classes of the picture of classes that come together
_BLOCKS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Amounts:
    """What a split has of each class.

    Attributes:
        percent: float [C], share in the labelled pixels, in %.
        photos: int [C], photos with the class.
    """

    percent: np.ndarray
    photos: np.ndarray


def bar(value: float, largest: float, width: int = 16) -> str:
    """A bar of text.

    Args:
        value: its length.
        largest: length of a bar of full width.
        width: characters.

    Returns:
        Blocks, to an eighth of a character; one of the thinnest for what is little and not nothing.
    """
    eighths = round(8 * width * value / largest) if largest > 0 else 0
    eighths = max(eighths, int(value > 0))
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def bars(classes: Sequence[str], parts: Mapping[str, Amounts]) -> bytes:
    """Shares and photos of each class, the class with the largest share in the first split above.

    Shares are drawn on a logarithmic axis, so that rare classes are seen.

    Args:
        classes: names, in id order.
        parts: name of a split -> its amounts; at least one.

    Returns:
        PNG bytes.
    """
    order = np.argsort(-next(iter(parts.values())).percent, kind="stable")
    height = 0.9 + _ROW * len(classes) * len(parts) * 1.25
    figure = drawing.Figure(figsize=(9.5, height), dpi=DPI * DENSITY, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    positive = [share for part in parts.values() for share in part.percent.tolist() if share > 0]
    least = 10 ** np.floor(np.log10(min(positive, default=1.0)))
    thick = 0.8 / len(parts)
    for number, (name, colour) in enumerate(zip(parts, of_sets(len(parts)) / 255, strict=True)):
        places = np.arange(len(classes)) + (number - (len(parts) - 1) / 2) * thick
        style: dict[str, Any] = {"height": 0.9 * thick, "color": colour, "label": name}
        shares, photos = parts[name].percent[order], parts[name].photos[order]
        left.barh(places, np.maximum(shares - least, 0), left=least, **style)
        right.barh(places, photos, **style)
        for place, share, count in zip(places, shares.tolist(), photos.tolist(), strict=True):
            text: dict[str, Any] = {"va": "center", "fontsize": 7, "color": "0.25"}
            left.annotate(_percent(share), (max(share, least), place), (3, 0), textcoords="offset points", **text)
            right.annotate(str(count), (count, place), (3, 0), textcoords="offset points", **text)
    left.set(xscale="log", xlim=(least, 300), xlabel="share of the labelled pixels in %, logarithmic")
    right.set(xlabel="photos with the class")
    right.margins(x=0.12)
    _label_rows(left, [classes[index] for index in order])
    left.set_ylim(len(classes) - 0.4, -0.6)
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if len(parts) > 1:
        right.legend(frameon=False, fontsize=9, loc="lower right")
    return encode_png(pixels(figure))


def _percent(share: float) -> str:
    return "none" if share == 0 else f"{share:.0f}" if share >= 10 else f"{share:.2g}"


def _label_rows(axes: "drawing.Axes", names: Sequence[str]) -> None:
    with drawing.rc_context({"text.parse_math": False}):
        shown = [fonts.drawable(name) for name in names]
        axes.set_yticks(range(len(names)), shown, fontfamily=fonts.families(), fontsize=9)


def together(classes: Sequence[str], counts: np.ndarray) -> bytes:
    """Of the photos with the class of a row, the share that has the class of a column too.

    Args:
        classes: names, in id order; those in most photos are shown.
        counts: int [C, C], photos that hold both; on the diagonal those that hold the class.

    Returns:
        PNG bytes.
    """
    seen = np.flatnonzero(np.diagonal(counts))
    shown = seen[np.argsort(-np.diagonal(counts)[seen], kind="stable")][:_MOST_TOGETHER]
    of_row = np.diagonal(counts)[shown]
    values = 100 * counts[np.ix_(shown, shown)] / of_row[:, None]
    side = max(2.6, 0.26 * len(shown))
    figure = drawing.Figure(figsize=(side + 2.8, side + 1.4), dpi=DPI * DENSITY, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    names = [fonts.drawable(classes[index]) for index in shown]
    with drawing.rc_context({"text.parse_math": False}):
        style: dict[str, Any] = {"fontfamily": fonts.families(), "fontsize": 8}
        axes.set_xticks(range(len(shown)), names, rotation=90, **style)
        rows = [f"{name} ({count})" for name, count in zip(names, of_row.tolist(), strict=True)]
        axes.set_yticks(range(len(shown)), rows, **style)
    axes.tick_params(length=2)
    figure.colorbar(picture, shrink=0.8).set_label("% of the photos with the class of the row", fontsize=9)
    return encode_png(pixels(figure))


def sizes(parts: Mapping[str, Sequence[tuple[int, int]]]) -> bytes:
    """Heights and widths of photos, a point for each photo.

    Args:
        parts: name of a split -> (height, width) of its photos.

    Returns:
        PNG bytes.
    """
    figure = drawing.Figure(figsize=(4.6, 4.2), dpi=DPI * DENSITY, layout="constrained")
    axes = figure.subplots()
    most = 1
    for number, (name, colour) in enumerate(zip(parts, of_sets(len(parts)) / 255, strict=True)):
        array = np.asarray(parts[name], np.int64).reshape(-1, 2)
        found, counts = np.unique(array, axis=0, return_counts=True)
        most = max([most, *found.ravel().tolist()])
        area = 18 + 260 * counts / max(1, counts.sum())
        marker = "os^"[number % 3]
        axes.scatter(found[:, 1], found[:, 0], area, color=colour, alpha=0.55, label=name, marker=marker, linewidth=0)
    axes.set(xlabel="width in pixels", ylabel="height in pixels", xlim=(0, 1.08 * most), ylim=(0, 1.08 * most))
    axes.set_aspect("equal")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left", markerscale=0.7)
    return encode_png(pixels(figure))
