"""Figures of the reports, as PNG bytes. Drawn without pyplot: no window, no state shared between calls.

Grids of pictures have twice as many pixels as they take on a page, so that they are sharp on fine screens.
"""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from mdp_jax.reporting import drawing, fonts
from mdp_jax.reporting.colors import (
    RIGHT,
    WRONG,
    class_entries,
    colorize,
    legend,
    of_sets,
    palette,
    pixels,
    sheet,
    text_style,
    text_width,
)

DENSITY = 2  # pixels of a figure for each pixel of a page, one way
DPI = 100  # pixels of a page for each inch of a figure
_PAGE = 1050 * DENSITY  # width that a grid keeps to where it can, in pixels
_LEAST = 256 * DENSITY  # short side of a picture in a grid, in pixels
_MOST = 384 * DENSITY  # its width, unless the short side needs more
_GAP = 8 * DENSITY
_FONT = 15 * DENSITY  # height of the text in a grid, in pixels
_LINES = (0, 3, 2, 4, 1, 5)  # of the palette, for lines
_ENLARGED = 3  # times from which the pixels of a small photo are shown as squares
_VALUES_SHOWN = 4  # points of a line up to which each has its value beside it
_LABEL = 0.14  # inches that the name of a class takes in a heat map
_SIDE = 9.0  # inches of a heat map at most
_NUMBERED = 30  # classes up to which a confusion matrix has its values written into it


def png(figure: "drawing.Figure") -> bytes:
    """A figure of matplotlib as the bytes of a PNG file, with what stands beyond its edges."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DPI * DENSITY, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None}
    )
    return buffer.getvalue()


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 RGB [H,W,3] as the bytes of a PNG file."""
    # A page holds all its figures; OpenCV's own choice is far larger. All filters would take up to twice the time.
    small = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), small)[1].tobytes()


@dataclass(frozen=True)
class Panel:
    """One pair of axes of `curves`.

    Attributes:
        series: name -> (step, value) in order; values that are not finite leave a gap. With several of them a legend
            has the names.
        label: what the axis of values shows, with its unit.
        colours: RGB of each series, 0..1; those of the house where there are none.
    """

    series: Mapping[str, Sequence[tuple[float, float]]]
    label: str
    colours: Sequence | np.ndarray = field(default_factory=lambda: palette(6)[[*_LINES]] / 255)


def set_colours(count: int) -> np.ndarray:
    """The colours of sets as a Panel takes them."""
    return of_sets(count) / 255


def curves(*panels: Panel, x_label: str = "step", last: float | None = None) -> bytes:
    """Lines over the steps of a run, the panels below each other along one axis of steps.

    All axes begin at 0, or below where values do, so that a difference looks as large as it is.

    Args:
        panels: at least one.
        x_label: of the axis that they share.
        last: where that axis ends at least, as the steps of the run.

    Returns:
        PNG bytes.
    """
    figure = drawing.Figure(figsize=(7.5, 0.6 + 2.6 * len(panels)), dpi=DPI, layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(axes, panel)
    axes.set_xlabel(x_label)
    steps = [step for panel in panels for points in panel.series.values() for step, _ in points]
    end = max([*steps, last or 0]) or 1
    axes.set_xlim(-0.02 * end, 1.05 * end)
    figure.align_ylabels()
    return png(figure)


def _draw_panel(axes: "drawing.Axes", panel: Panel) -> None:
    lines: list[drawing.Line2D] = []
    values = [0.0]
    means = [float(np.mean([value for _, value in points])) if points else 0.0 for points in panel.series.values()]
    for number, points in enumerate(panel.series.values()):
        x, y = np.asarray(points, np.float64).reshape(-1, 2).T
        style = "-" if number < len(panel.colours) else "--"
        colour = panel.colours[number % len(panel.colours)]
        few = len(x) <= _VALUES_SHOWN and len(panel.series) <= 2
        lines += axes.plot(
            x, y, style, color=colour, marker="o" if len(x) <= 25 else None, markersize=3.5, linewidth=1.6
        )
        for at, value in zip(x, y, strict=True) if few else ():
            if np.isfinite(value):
                place: dict[str, Any] = {
                    "xytext": (0, 5 if number == int(np.argmax(means)) else -11),
                    "textcoords": "offset points",
                    "ha": "center",
                }
                axes.annotate(f"{value:.3g}", (at, value), fontsize=8, color=colour, **place)
        values += y[np.isfinite(y)].tolist()
    low, high = min(values), max(values)
    axes.set_ylim(1.1 * low, 1.15 * high if high > 0 else max(0.0, -0.1 * low) or 1.0)
    label = fonts.drawable(panel.label)
    axes.set_ylabel(label, fontfamily=fonts.families(), parse_math=False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:  # a single one is what the axis says
        names = [fonts.drawable(name) for name in panel.series]
        with drawing.rc_context({"text.parse_math": False}):
            font = {"family": fonts.families(), "size": 9}
            axes.legend(lines, names, frameon=False, prop=font, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _cell(content: np.ndarray, width: int, num_classes: int, colours: np.ndarray | None) -> np.ndarray:
    """A photo (uint8 [H,W,3]) or a label map (integer [H,W]) as uint8 RGB of the given width."""
    height = max(1, round(width * content.shape[0] / content.shape[1]))
    if content.ndim == 2:
        return colorize(_nearest(content, height, width), num_classes, colours)
    if width >= _ENLARGED * content.shape[1]:
        return cv2.resize(content, (width, height), interpolation=cv2.INTER_NEAREST)
    shrinks = content.shape[1] > width
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    # INTER_NEAREST_EXACT takes no 32-bit integers.
    return cv2.resize(label.astype(np.int16), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def _entries(
    rows: Sequence[Sequence[np.ndarray]],
    counted: Sequence[np.ndarray],
    classes: Sequence[str],
    colours: np.ndarray | None,
) -> list[tuple[str, np.ndarray]]:
    """The legend of the ids in the label maps of a grid.

    Those of the maps `counted` come first, with their share of the pixels, the largest first; ignored pixels last.
    """
    shares: dict[int, float] = {}
    total = sum(label.size for label in counted)  # maps may have different sizes
    for label in counted:
        for index, count in zip(*np.unique(np.maximum(label, -1), return_counts=True), strict=True):
            shares[int(index)] = shares.get(int(index), 0) + count / total
    shares = dict(sorted(shares.items(), key=lambda item: (item[0] < 0, -item[1], item[0])))
    ids = {int(max(value, -1)) for row in rows for cell in row if cell.ndim == 2 for value in np.unique(cell)}
    others = sorted(ids - shares.keys(), key=lambda index: (index < 0, index))
    return [*class_entries(list(shares), classes, colours, shares), *class_entries(others, classes, colours)]


def _tile(text: str, height: int, width: int) -> np.ndarray:
    """Text in the middle of a white tile, uint8 RGB [height,width,3]."""
    figure = sheet(height, width)
    text = fonts.drawable(text)
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
    counted: Sequence[np.ndarray] = (),
) -> bytes:
    """Photos and label maps under column titles and beside row names, above the legend of the classes they show.

    All pictures have one width: what is left of the page, within bounds, and no less than the column titles take. The
    legend says the shares of the classes in the label maps `counted`.
    """
    left = _widest(names) + 2 * _GAP if names else _GAP
    room = (_PAGE - left) // len(columns) - _GAP
    # So that the short side of most pictures has its least length; a strip does not make all others huge.
    aspect = float(np.median([max(1.0, cell.shape[1] / cell.shape[0]) for row in rows for cell in row]))
    least = round(_LEAST * min(aspect, 2.0))
    width = max(_widest(columns) + _GAP, least, min(room, _MOST))
    column = width + _GAP
    top = round(1.3 * _FONT * max(title.count("\n") + 1 for title in columns)) + _GAP
    lines = [np.hstack([_tile("", top, left), *(_framed(_tile(title, top, width), top, column) for title in columns)])]
    for number, row in enumerate(rows):
        cells = [_cell(content, width, len(classes), colours) for content in row]
        height = max(cell.shape[0] for cell in cells) + _GAP
        name = _tile(names[number] if names else "", height, left)
        lines.append(np.hstack([name, *(_framed(cell, height, column) for cell in cells)]))
    lines.append(legend(_entries(rows, counted, classes, colours), left + len(columns) * column, _FONT))
    widest = max(line.shape[1] for line in lines)
    return encode_png(np.vstack([_framed(line, line.shape[0], widest) for line in lines]))


@dataclass(frozen=True)
class Predicted:
    """A photo and what some networks make of it.

    Attributes:
        name: of the photo.
        image: uint8 RGB [H,W,3].
        target: integer [H',W']; negative ids are ignored.
        predictions: network -> integer [H',W'].
    """

    name: str
    image: np.ndarray
    target: np.ndarray
    predictions: Mapping[str, np.ndarray]


def photo_scores(target: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """mIoU, over the classes of either map, and share of right pixels of one photo.

    Args:
        target: integer [H,W]; pixels of negative ids are ignored.
        prediction: integer [H,W].

    Returns:
        Percentages; NaN where no pixel is labelled.
    """
    truth, guess = target[target >= 0], prediction[target >= 0]
    if not truth.size:
        return math.nan, math.nan
    both = [(truth == index, guess == index) for index in np.union1d(truth, guess)]
    ious = [np.sum(one & other) / np.sum(one | other) for one, other in both]
    return 100 * float(np.mean(ious)), 100 * float(np.mean(truth == guess))


def prediction_grid(
    rows: Sequence[Predicted],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    scores: Mapping[str, float | None] | None = None,
) -> bytes:
    """Photos beside their target and, of each network, its prediction and where that is wrong.

    Beside a photo stand its name and, of each network, mIoU and share of right pixels.

    Args:
        rows: at least one, all with the same networks in the same order.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `colors.palette` where None.
        scores: network -> mIoU over the whole set, for the titles.

    Returns:
        PNG bytes.
    """
    networks, cells, names = list(rows[0].predictions), [], []
    for row in rows:
        texts, content = [row.name], [row.image, row.target]
        for network, prediction in row.predictions.items():
            miou, right = photo_scores(row.target, prediction)
            texts += [f"{network}:"] * (len(networks) > 1)
            texts.append(f"mIoU {miou:.1f} %, {right:.0f} % right" if math.isfinite(miou) else "nothing labelled")
            wrong = np.where(row.target == prediction, len(classes), len(classes) + 1)
            content += [prediction, np.where(row.target < 0, -1, wrong)]
        cells.append(content)
        names.append("\n".join(line for text in texts for line in _broken(text)))
    titles = ["photo", "truth"]
    for network in networks:
        score = (scores or {}).get(network)
        titles += [network if score is None else f"{network}\nmIoU of the set {score:.2f} %", "errors"]
    colours = palette(len(classes)) if colours is None else colours
    colours = np.concatenate([colours, np.array([RIGHT, WRONG], np.uint8)])
    targets = [row.target for row in rows]
    return _grid(cells, titles, names, [*classes, "right", "wrong"], colours, counted=targets)


def _broken(text: str, most: int = 24) -> list[str]:
    """A text in lines of so many characters at most."""
    return [text[start : start + most] for start in range(0, len(text), most)] if " " not in text else [text]


def batch_preview(
    rows: Mapping[str, Sequence[np.ndarray] | np.ndarray],
    titles: Sequence[str],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    counted: Sequence[np.ndarray] = (),
) -> bytes:
    """The members of a batch side by side, each with its views and labels one below the other.

    Args:
        rows: name -> B photos uint8 RGB [H,W,3] or label maps integer [H,W], e.g. "query", "label", "mixed".
        titles: B texts, such as dataset and kind of mixing; may have several lines.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `colors.palette` where None.
        counted: label maps whose classes have their shares in the legend.

    Returns:
        PNG bytes.
    """
    return _grid([list(content) for content in rows.values()], titles, list(rows), classes, colours, counted)


def cosines_of(vectors: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Cosines between vectors.

    Args:
        vectors: float [C,D].
        seen: [C], whether (or in how many images) each class was seen.

    Returns:
        float64 [C,C]; NaN in the rows and columns of unseen classes.
    """
    vectors = np.asarray(vectors, np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    both = np.asarray(seen, bool)
    return np.where(both[:, None] & both[None, :], unit @ unit.T, np.nan)


def clustered(cosines: np.ndarray) -> np.ndarray:
    """An order in which similar ones stand together: average linkage, its leaves turned so that neighbours are near.

    Args:
        cosines: float [n,n]; rows of NaN stand for classes that were never seen.

    Returns:
        int64 [n], the seen ones first.
    """
    from scipy.cluster import hierarchy  # half a second, and few pages have this figure

    seen = np.flatnonzero(~np.isnan(np.diagonal(cosines)))
    unseen = np.setdiff1d(np.arange(len(cosines)), seen)
    if len(seen) > 2:
        distances = np.clip(1 - cosines[np.ix_(seen, seen)], 0, None)[np.triu_indices(len(seen), 1)]
        seen = seen[hierarchy.leaves_list(hierarchy.linkage(distances, "average", optimal_ordering=True))]
    return np.concatenate([seen, unseen])


def scale_of(cosines: np.ndarray) -> tuple[float, float]:
    """Between which values the colours of a heat map change: those off the diagonal, rounded outwards to 0.05."""
    off = cosines[~np.eye(len(cosines), dtype=bool)]
    off = off[np.isfinite(off)]
    if not off.size:
        return 0.0, 1.0
    low, high = math.floor(20 * off.min() + 1e-6) / 20, math.ceil(20 * off.max() - 1e-6) / 20
    return (low, high) if high - low > 0.09 else (max(-1.0, high - 0.1), high)


def similarity_heatmap(vectors: np.ndarray, seen: np.ndarray, datasets: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """Cosine similarity of the prototypes of all classes, by set, and within a set with similar ones together.

    Args:
        vectors: float [C,D], one prototype a class.
        seen: [C], whether (or in how many images) the class was seen; unseen ones are grey.
        datasets: (name, class names) in label-space order, C names in all. As many class names are shown as fit.

    Returns:
        PNG bytes; the colours go from the least to the greatest value off the diagonal, as the bar beside them says.
    """
    names = [name for _, classes in datasets for name in classes]
    values, count = cosines_of(vectors, seen), len(names)
    edges = np.cumsum([0] + [len(classes) for _, classes in datasets])
    blocks = [np.arange(low, high) for low, high in itertools.pairwise(edges)]
    order = np.concatenate([block[clustered(values[np.ix_(block, block)])] for block in blocks])
    values = values[np.ix_(order, order)]
    low, high = scale_of(values)
    side = min(_SIDE, max(3.2, 0.21 * count))
    every = math.ceil(count * _LABEL / side)
    figure = drawing.Figure(figsize=(side, side), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = drawing.colormaps["viridis"].with_extremes(bad="0.8")
    picture = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    for place in np.flatnonzero(np.isfinite(np.diagonal(values))):  # 1 whatever the prototypes are
        axes.add_patch(drawing.Rectangle((place - 0.5, place - 0.5), 1, 1, color="white", linewidth=0))
    shown = [fonts.drawable(names[index]) for index in order[::every]]
    with drawing.rc_context({"text.parse_math": False}):
        style: dict[str, Any] = {"fontfamily": fonts.families(), "fontsize": 8}
        axes.set_xticks(range(0, count, every), shown, rotation=90, **style)
        axes.set_yticks(range(0, count, every), shown, **style)
    axes.tick_params(length=2)
    label_width = _mark_datasets(axes, datasets, side / count)
    scale = figure.add_axes((1 + (label_width + 0.45) / side, 0, 0.16 / side, 1))
    note = f"cosine similarity; the colours span {low:.2f} to {high:.2f} (white: a class with itself)"
    note += "" if np.all(np.asarray(seen, bool)) else "; grey: never seen"
    figure.colorbar(picture, cax=scale).set_label(note if side > 5 else note.replace("; ", "\n"), fontsize=9)
    scale.tick_params(labelsize=8)
    return png(figure)


def _mark_datasets(axes: "drawing.Axes", datasets: Sequence[tuple[str, Sequence[str]]], cell: float) -> float:
    """The sets above and to the right, as a bar in their colour and their name; the longest name's width in inches."""
    edges = np.cumsum([0] + [len(names) for _, names in datasets]) - 0.5
    shown = [fonts.drawable(name) for name, _ in datasets]
    widths = [text_width(name, 13) / DPI for name in shown]
    narrow = any(width > cell * len(names) for width, (_, names) in zip(widths, datasets, strict=True))
    for edge in edges[1:-1]:
        axes.axhline(edge, color="white", linewidth=2)
        axes.axvline(edge, color="white", linewidth=2)
    thick, away = 0.08 / cell, 0.05 / cell
    places = zip(shown, of_sets(len(shown)) / 255, edges[:-1], edges[1:], strict=True)
    for name, colour, low, high in places:
        middle = (low + high) / 2
        style: dict[str, Any] = {"fontsize": 10, "parse_math": False, "fontfamily": fonts.families()}
        slant: dict[str, Any] = (
            {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if narrow else {"ha": "center"}
        )
        bar: dict[str, Any] = {"color": colour, "clip_on": False, "linewidth": 0}
        axes.add_patch(drawing.Rectangle((low, -0.5 - away - thick), high - low, thick, **bar))
        axes.add_patch(drawing.Rectangle((edges[-1] + away, low), thick, high - low, **bar))
        axes.text(middle, -0.5 - 2 * away - thick, name, va="bottom", **slant, **style)
        axes.text(edges[-1] + 2 * away + thick, middle, name, ha="left", va="center", **style)
    return max(widths)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> bytes:
    """Which classes are taken for which: a row for each true class, its pixels by what they are called.

    The colours follow the square root of the share, so that confusions of a few percent can be seen beside the
    diagonal. Up to 30 classes each cell has its percentage; a larger matrix grows, so that every name can be read.

    Args:
        counts: integer [C,C], rows truth, columns prediction.
        classes: C names, in id order.

    Returns:
        PNG bytes; rows of classes without a pixel are grey.
    """
    count = len(classes)
    pixels_of = np.asarray(counts, np.float64).sum(axis=1, keepdims=True)
    shares = np.where(pixels_of > 0, 100 * np.asarray(counts, np.float64) / np.maximum(pixels_of, 1), np.nan)
    numbered = count <= _NUMBERED
    side = max(2.2, (0.36 if numbered else _LABEL) * count)
    figure = drawing.Figure(figsize=(side, side), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = drawing.colormaps["Blues"].with_extremes(bad="0.85")
    scale = drawing.PowerNorm(0.5, 0, 100)
    picture = axes.imshow(shares, cmap=colours, norm=scale, interpolation="nearest", aspect="auto")
    shown = [fonts.drawable(name) for name in classes]
    with drawing.rc_context({"text.parse_math": False}):
        style: dict[str, Any] = {"fontfamily": fonts.families(), "fontsize": 8}
        axes.set_xticks(range(count), shown, rotation=90, **style)
        axes.set_yticks(range(count), shown, **style)
    for row, column in np.argwhere(np.nan_to_num(shares) >= 0.5) if numbered else ():
        value = shares[row, column]
        colour = "white" if value > 45 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    if not numbered:
        axes.set_xticks(np.arange(count) - 0.5, minor=True)
        axes.set_yticks(np.arange(count) - 0.5, minor=True)
        axes.grid(which="minor", color="0.93", linewidth=0.4)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("prediction", fontsize=10)
    axes.set_ylabel("truth", fontsize=10)
    axes.xaxis.set_label_position("top")
    bar = figure.add_axes((1 + 0.25 / side, 0, 0.16 / side, min(1.0, 4 / side)))
    figure.colorbar(picture, cax=bar, ticks=[0, 1, 5, 20, 50, 100]).set_label(
        "share of the class's pixels (%)", fontsize=9
    )
    bar.tick_params(labelsize=8)
    return png(figure)
