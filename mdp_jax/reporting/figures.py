"""Figures of the reports, as PNG bytes. Drawn without pyplot: no window, no state shared between calls."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdp_jax.reporting.colors import colorize, legend, palette, pixels, sheet, text_style, text_width

_DPI = 100
_PAGE = 1050  # width that a grid keeps to where it can, in pixels
_GAP = 8
_FONT = 16  # height of the text in a grid, in pixels
_LINES = palette(6)[[0, 3, 2, 4, 1, 5]] / 255
_NAMED_CLASSES = 100  # a heat map of more classes shows the names of the datasets alone


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
    return buffer.getvalue()


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 RGB [H,W,3] as the bytes of a PNG file."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]], y_label: str, x_label: str = "step", title: str = ""
) -> bytes:
    """Lines over the steps of a run.

    Args:
        series: name -> (step, value) in order; values that are not finite leave a gap. With several of them a legend
            has the names.
        y_label: what the vertical axis shows, with its unit.
        x_label: what the horizontal axis shows, with its unit.
        title: above the axes; may be empty.

    Returns:
        PNG bytes.
    """
    figure = Figure(figsize=(7.5, 3.8), dpi=_DPI)
    axes = figure.add_subplot()
    with matplotlib.rc_context({"text.parse_math": False}):
        lines = []
        for number, points in enumerate(series.values()):
            steps, values = np.asarray(points, np.float64).reshape(-1, 2).T
            style = "-" if number < len(_LINES) else "--"
            marker = "o" if len(steps) <= 25 else None
            colour = _LINES[number % len(_LINES)]
            lines += axes.plot(steps, values, style, color=colour, marker=marker, markersize=3.5, linewidth=1.6)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(title, fontsize=11)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.02)
        if len(lines) > 1:  # a single one is what the axis says
            axes.legend(lines, list(series), frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return _png(figure)


def _cell(content: np.ndarray, width: int, num_classes: int, colours: np.ndarray | None) -> np.ndarray:
    """A photo (uint8 [H,W,3]) or a label map (integer [H,W]) as uint8 RGB of the given width."""
    height = max(1, round(width * content.shape[0] / content.shape[1]))
    if content.ndim == 2:
        # INTER_NEAREST_EXACT takes no 32-bit integers.
        small = cv2.resize(content.astype(np.int16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return colorize(small, num_classes, colours)
    shrinks = content.shape[1] > width
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _present(rows: Sequence[Sequence[np.ndarray]]) -> list[int]:
    """The ids in the label maps of a grid in order, with ignored pixels (-1) last."""
    ids = sorted({int(value) for row in rows for cell in row if cell.ndim == 2 for value in np.unique(cell)})
    present = [index for index in ids if index >= 0]
    return [*present, -1] if len(present) < len(ids) else present


def _tile(text: str, height: int, width: int) -> np.ndarray:
    """Text in the middle of a white tile, uint8 RGB [height,width,3]."""
    figure = sheet(height, width)
    figure.text(0.5, 0.5, text, ha="center", va="center", linespacing=1.15, **text_style(_FONT))
    return pixels(figure)


def _framed(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at the top left of a white tile, uint8 RGB [height,width,3]."""
    missing = (height - picture.shape[0], width - picture.shape[1])
    return np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), constant_values=255)


def _widest(texts: Sequence[str]) -> int:
    """Pixels that the longest line of some texts takes in a grid; 0 without texts."""
    return math.ceil(max((text_width(line, _FONT) for text in texts for line in text.split("\n")), default=0))


def _grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    names: Sequence[str],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    page: int = _PAGE,
) -> bytes:
    """Photos and label maps under column titles and beside row names, above the legend of the classes they show.

    All pictures have one width: what is left of the page, within bounds, and no less than the column titles take.
    """
    left = _widest(names) + 2 * _GAP if names else _GAP
    room = (page - left) // len(columns) - _GAP
    width = max(_widest(columns) + _GAP, min(max(room, 120), 280))
    column = width + _GAP
    top = round(1.3 * _FONT * max(title.count("\n") + 1 for title in columns)) + _GAP
    lines = [np.hstack([_tile("", top, left), *(_framed(_tile(title, top, width), top, column) for title in columns)])]
    for number, row in enumerate(rows):
        cells = [_cell(content, width, len(classes), colours) for content in row]
        height = max(cell.shape[0] for cell in cells) + _GAP
        name = _tile(names[number] if names else "", height, left)
        lines.append(np.hstack([name, *(_framed(cell, height, column) for cell in cells)]))
    lines.append(legend(_present(rows), classes, left + len(columns) * column, colours=colours))
    widest = max(line.shape[1] for line in lines)
    return encode_png(np.vstack([_framed(line, line.shape[0], widest) for line in lines]))


def prediction_grid(
    rows: Sequence[tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
) -> bytes:
    """Photos beside their target and the predictions of some networks.

    Args:
        rows: (image uint8 RGB [H,W,3], target integer [H',W'], {network: prediction integer [H',W']}), at least one,
            all with the same networks in the same order. Negative ids are drawn as grey stripes.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `colors.palette` where None.

    Returns:
        PNG bytes.
    """
    networks = list(rows[0][2])
    cells = [[image, target, *(predictions[name] for name in networks)] for image, target, predictions in rows]
    return _grid(cells, ["image", "target", *networks], [], classes, colours)


def batch_preview(
    rows: Mapping[str, Iterable[np.ndarray]],
    titles: Sequence[str],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    page: int = _PAGE,
) -> bytes:
    """The members of a batch side by side, each with its views and labels one below the other.

    Args:
        rows: name -> B photos uint8 RGB [H,W,3] or label maps integer [H,W], e.g. "query", "label", "mixed".
        titles: B texts, such as dataset and kind of mixing; may have several lines.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `colors.palette` where None.
        page: width that the picture keeps to where it can, in pixels.

    Returns:
        PNG bytes.
    """
    return _grid([list(content) for content in rows.values()], titles, list(rows), classes, colours, page)


def _cosines(vectors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """float64 [C,C]; NaN in the rows and columns of unseen classes."""
    vectors = np.asarray(vectors, np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    both = np.asarray(seen, bool)
    return np.where(both[:, None] & both[None, :], unit @ unit.T, np.nan)


def _mark_datasets(axes: Axes, datasets: Sequence[tuple[str, Sequence[str]]], cell: float) -> float:
    """Lines between the datasets, their names above and to the right; returns the longest name's width in inches."""
    edges = np.cumsum([0] + [len(names) for _, names in datasets]) - 0.5
    widths = [text_width(name, 13) / _DPI for name, _ in datasets]
    narrow = any(width > cell * len(names) for width, (_, names) in zip(widths, datasets, strict=True))
    for edge in edges[1:-1]:
        axes.axhline(edge, color="black", linewidth=1.2)
        axes.axvline(edge, color="black", linewidth=1.2)
    offset = edges[-1] + 0.08 / cell
    for (name, _), low, high in zip(datasets, edges[:-1], edges[1:], strict=True):
        middle = (low + high) / 2
        style: dict[str, Any] = {"fontsize": 9.5, "fontweight": "bold", "parse_math": False}
        slant: dict[str, Any] = (
            {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if narrow else {"ha": "center"}
        )
        axes.text(middle, -0.5 - 0.08 / cell, name, va="bottom", **slant, **style)
        axes.text(offset, middle, name, ha="left", va="center", **style)
    return max(widths)


def similarity_heatmap(vectors: np.ndarray, seen: np.ndarray, datasets: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Cosine similarity of the prototypes of all classes, the datasets kept apart by lines.

    Args:
        vectors: float [C,D], one prototype a class.
        seen: [C], whether (or in how many images) the class was seen; unseen ones are grey.
        datasets: (name, class names) in label-space order, C names in all. Class names are shown up to C = 100.

    Returns:
        PNG bytes; the colour scale is always -1..1, so that two heat maps can be compared.
    """
    names = [name for _, classes in datasets for name in classes]
    values, count = _cosines(vectors, seen), len(names)
    named = count <= _NAMED_CLASSES
    side = max(3.2, (0.21 if count <= 60 else 0.155) * count) if named else 9.0
    figure = Figure(figsize=(side, side), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.8")
    picture = axes.imshow(values, cmap=colours, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    with matplotlib.rc_context({"text.parse_math": False}):
        ticks = (range(count), names) if named else ((), ())
        axes.set_xticks(*ticks, rotation=90)
        axes.set_yticks(*ticks)
    axes.tick_params(length=2, labelsize=8 if count <= 60 else 7.2)
    label_width = _mark_datasets(axes, datasets, side / count)
    scale = figure.add_axes((1 + (label_width + 0.3) / side, 0, 0.16 / side, 1))
    note = "cosine similarity" if np.all(np.asarray(seen, bool)) else "cosine similarity (grey: class not seen)"
    figure.colorbar(picture, cax=scale).set_label(note, fontsize=9)
    scale.tick_params(labelsize=8)
    return _png(figure)
