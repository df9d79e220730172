"""Colours of classes, label maps as pictures, and the legend that goes with them."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath

# Colours of Okabe and Ito and of Tol that stay apart under the common colour vision deficiencies.
_FIRST = ("0072B2", "E69F00", "009E73", "D55E00", "CC79A7", "56B4E9", "F0E442", "882255", "332288", "6B4C1E")
_IGNORE = np.array([[255, 255, 255], [215, 215, 215]], np.uint8)  # the two stripes of ignored pixels
_DPI = 100


def _lab(colours: np.ndarray) -> np.ndarray:
    """uint8 RGB [n,3] -> float32 CIE Lab [n,3], in which distances follow the eye."""
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


@functools.cache
def _all_colours() -> np.ndarray:
    first = np.array([tuple(bytes.fromhex(colour)) for colour in _FIRST], np.uint8)
    steps = np.linspace(0, 255, 12).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = _lab(grid)
    greys = np.repeat(np.array([0, 215, 255], np.uint8), 3).reshape(-1, 3)
    taken = _lab(np.concatenate([first, greys]))
    distance = np.min([np.linalg.norm(candidates - colour, axis=1) for colour in taken], axis=0)
    chosen = list(first)
    while len(chosen) < 1024:
        farthest = int(np.argmax(distance))
        chosen.append(grid[farthest])
        distance = np.minimum(distance, np.linalg.norm(candidates - candidates[farthest], axis=1))
    return np.stack(chosen)


def palette(count: int) -> np.ndarray:
    """The colours of class ids 0..count-1: uint8 RGB [count, 3].

    Always the same, whatever `count`: the first ten suit colour-blind readers, each further one is the colour farthest
    (in CIE Lab) from those before it and from the greys and white of ignored pixels. From 1024 on they repeat.
    """
    colours = _all_colours()
    return colours[np.arange(count) % len(colours)]


def colorize(label: np.ndarray, num_classes: int, colours: np.ndarray | None = None) -> np.ndarray:
    """Label map, integer [H,W], as a picture, uint8 RGB [H,W,3]; negative ids become white and grey stripes.

    `colours`: uint8 RGB [num_classes,3], in place of `palette(num_classes)`.
    """
    height, width = label.shape
    rows, columns = np.ogrid[:height, :width]
    stripes = _IGNORE[((rows + columns) // 5) % 2]
    colours = palette(num_classes) if colours is None else colours
    return np.where((label < 0)[..., None], stripes, colours[np.clip(label, 0, num_classes - 1)])


def text_width(text: str, font: float) -> float:
    """Width in pixels of one line of text of `font` pixels height."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=font), ismath=False)
    return width


def text_style(font: float) -> dict:
    """Keywords of a matplotlib text of `font` pixels height, in which a dollar is a dollar."""
    return {"fontsize": font * 72 / _DPI, "parse_math": False}


def sheet(height: int, width: int) -> Figure:
    """An empty figure that `pixels` turns into exactly height x width pixels."""
    # Matplotlib cuts the fraction off: 29 pixels as 0.29 inches would come back as 28.
    return Figure(figsize=((width + 0.01) / _DPI, (height + 0.01) / _DPI), dpi=_DPI)


def legend(
    ids: Sequence[int], classes: Sequence[str], width: int, font: float = 15, colours: np.ndarray | None = None
) -> np.ndarray:
    """The colours and names of some classes in aligned columns.

    Args:
        ids: class ids to show; an id of -1 stands for ignored pixels.
        classes: all class names, in id order.
        width: pixels that the legend may take; one column takes more where a name is longer.
        font: height of the text in pixels.
        colours: of all classes, as `colorize` takes them.

    Returns:
        uint8 RGB [h, at least width, 3] on white.
    """
    names = [classes[index] if index >= 0 else "ignored" for index in ids]
    column = int(max((text_width(name, font) for name in names), default=0) + 3.2 * font)
    columns = max(1, min(width // column, len(names)))
    rows = -(-len(names) // columns)
    width, row_height = max(width, column * columns), 1.7 * font
    height = int(rows * row_height + 0.6 * font)
    figure = sheet(height, width)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for place, (index, name) in enumerate(zip(ids, names, strict=True)):
        x, y = (place % columns) * column + 0.4 * font, (place // columns + 0.5) * row_height + 0.3 * font
        box = (x, x + 1.5 * font, y + 0.5 * font, y - 0.5 * font)
        swatch = colorize(np.full((10, 15), index), len(classes), colours)
        axes.imshow(swatch, extent=box, aspect="auto", interpolation="nearest", origin="upper")
        axes.add_patch(Rectangle((box[0], box[3]), 1.5 * font, font, fill=False, edgecolor="0.3", linewidth=0.6))
        axes.text(x + 2 * font, y, name, va="center_baseline", ha="left", **text_style(font))
    axes.set(xlim=(0, width), ylim=(height, 0))
    return pixels(figure)


def pixels(figure: Figure) -> np.ndarray:
    """A figure as uint8 RGB [H,W,3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def overlay(image: np.ndarray, label: np.ndarray, classes: Sequence[str], opacity: float = 0.5) -> np.ndarray:
    """A photo with its label map laid over it, and below it the legend of the classes present.

    Args:
        image: uint8 RGB [H,W,3].
        label: integer [H,W], class ids; negative pixels keep the photo.
        classes: names, in id order.
        opacity: of the label map, 0..1.

    Returns:
        uint8 RGB [H + height of the legend, at least W, 3]; the photo is at the top left at its own size.
    """
    height, width = label.shape
    colours = cv2.addWeighted(image, 1 - opacity, colorize(label, len(classes)), opacity, 0)
    blended = np.where((label < 0)[..., None], image, colours)
    ids = [index for index in np.unique(label).tolist() if index >= 0]
    below = legend(ids, classes, width, font=max(11, round(width / 50)))
    picture = np.full((height + below.shape[0], below.shape[1], 3), 255, np.uint8)
    picture[:height, :width] = blended
    picture[height:] = below
    return picture
