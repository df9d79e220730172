"""Colours of classes and sets, label maps as pictures, and the legend that goes with them."""

import functools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from mdp_jax.reporting import drawing, fonts

# Colours of Okabe and Ito and of Tol that stay apart under the common colour vision deficiencies.
_FIRST = ("0072B2", "E69F00", "009E73", "D55E00", "CC79A7", "56B4E9", "F0E442", "882255", "332288", "6B4C1E")
_SETS = 8  # colours that are kept for sets
_APART = 20  # colours up to which those who see fewer colours are thought of; further ones are apart for others alone
_NEAR = 12.0  # distance in Lab below which a colour passes for another one
# How colours look without red-sensitive and without green-sensitive cones (Machado, Oliveira and Fernandes 2009).
_DEFICIENCIES = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
    np.float32,
)
_IGNORE = np.array([[255, 255, 255], [215, 215, 215]], np.uint8)  # the two stripes of ignored pixels
RIGHT, WRONG = (214, 220, 226), (176, 0, 96)  # colours of an error map
_UNTINTED = "background"  # the class whose pixels an overlay leaves as they are
_DPI = 100


def lab(colours: np.ndarray) -> np.ndarray:
    """Colours in a space in which distances follow the eye.

    Args:
        colours: uint8 RGB [n,3].

    Returns:
        float32 CIE Lab [n,3].
    """
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def seen_by_all(colours: np.ndarray) -> np.ndarray:
    """Colours as they are and as they look without red-sensitive and without green-sensitive cones.

    Args:
        colours: uint8 RGB [n,3].

    Returns:
        float32 CIE Lab [3,n,3].
    """
    linear = (colours.astype(np.float32) / 255) ** 2.2
    others = [np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2) * 255 for matrix in _DEFICIENCIES]
    return np.stack([lab(colours), *(lab(other.round().astype(np.uint8)) for other in others)])


@functools.cache
def _all_colours() -> tuple[np.ndarray, np.ndarray]:
    """The colours of classes and those of sets, uint8 RGB [1024,3] and [_SETS,3]; no two of them are alike."""
    first = np.array([tuple(bytes.fromhex(colour)) for colour in _FIRST], np.uint8)
    steps = np.linspace(0, 255, 12).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    candidates = seen_by_all(grid)

    def distances(seen: np.ndarray) -> np.ndarray:
        """Of the candidates to the nearest of some colours [ways, n, 3], for each way of seeing: [ways, candidates]."""
        differences = candidates[: len(seen), :, None] - seen[:, None]
        return np.linalg.norm(differences, axis=-1).min(axis=-1)

    greys = np.repeat(np.array([0, 215, 255], np.uint8), 3).reshape(-1, 3)
    greys = np.concatenate([greys, np.array([RIGHT, WRONG], np.uint8)])
    of_first = distances(seen_by_all(first))
    # Lines of sets are drawn on white.
    allowed = (candidates[0, :, 0] > 25) & (candidates[0, :, 0] < 70) & (of_first.min(axis=0) > _NEAR)
    sets: list[np.ndarray] = []
    distance = distances(seen_by_all(greys))
    while len(sets) < _SETS:
        best = int(np.argmax(np.where(allowed, distance.min(axis=0), 0)))
        sets.append(grid[best])
        distance = np.minimum(distance, distances(candidates[:, best, None]))
    classes, distance = list(first), np.minimum(distance, of_first)
    while len(classes) < 1024:
        if len(classes) == _APART:
            distance = distance[:1]
        best = int(np.argmax(distance.min(axis=0)))
        classes.append(grid[best])
        distance = np.minimum(distance, distances(candidates[: len(distance), best, None]))
    return np.stack(classes), np.stack(sets)


def palette(count: int) -> np.ndarray:
    """The colours of class ids 0..count-1: uint8 RGB [count, 3].

    Always the same, whatever `count`: the first ten suit colour-blind readers, each further one is the colour farthest
    (in CIE Lab) from those before it, from those of sets and from the greys and white of ignored pixels. From 1024 on
    they repeat.
    """
    colours = _all_colours()[0]
    return colours[np.arange(count) % len(colours)]


def of_sets(count: int) -> np.ndarray:
    """The colours of sets 0..count-1: uint8 RGB [count, 3]; always the same, and none of `palette`."""
    colours = _all_colours()[1]
    return colours[np.arange(count) % len(colours)]


def of_classes(sets: Sequence[tuple[Sequence[str], np.ndarray | None]]) -> np.ndarray:
    """The colours of the classes of some sets: equal names have equal colours, but for case and for space around them.

    Args:
        sets: (class names, the set's own colours uint8 RGB [C,3] or None).

    Returns:
        uint8 RGB [sum of C, 3], one set after the other. A name that a set has a colour for has that of the first such
        set; the others have those of `palette` that pass for none of these.
    """
    known: dict[str, np.ndarray] = {}
    for names, own in sets:
        for name, colour in zip(names, () if own is None else own, strict=own is not None):
            known.setdefault(_key(name), colour)
    theirs = lab(np.stack(list(known.values()))) if known else np.zeros((0, 3), np.float32)
    free = palette(1024)
    near = np.linalg.norm(lab(free)[:, None] - theirs[None], axis=-1).min(axis=1, initial=np.inf) < _NEAR
    ours = free[~near] if not near.all() else free
    unnamed = dict.fromkeys(key for names, _ in sets for key in map(_key, names) if key not in known)
    known |= {key: ours[number % len(ours)] for number, key in enumerate(unnamed)}
    colours = [known[_key(name)] for names, _ in sets for name in names]
    return np.stack(colours) if colours else np.zeros((0, 3), np.uint8)


def _key(name: str) -> str:
    return name.strip().casefold()


def stripes(height: int, width: int) -> np.ndarray:
    """What ignored pixels look like: uint8 RGB [height,width,3]."""
    rows, columns = np.indices((height, width), sparse=True)
    return _IGNORE[((rows + columns) // 5) % 2]


def colorize(label: np.ndarray, num_classes: int, colours: np.ndarray | None = None) -> np.ndarray:
    """Label map, integer [H,W], as a picture, uint8 RGB [H,W,3]; negative ids become white and grey stripes.

    `colours`: uint8 RGB [num_classes,3], in place of `palette(num_classes)`.
    """
    colours = palette(num_classes) if colours is None else colours
    picture = np.take(colours[:num_classes], label, axis=0, mode="clip")
    ignored = label < 0
    if ignored.any():
        picture[ignored] = stripes(*label.shape)[ignored]
    return picture


def text_width(text: str, font: float) -> float:
    """Width in pixels of one line of text of `font` pixels height."""
    text = fonts.drawable(text)
    properties = drawing.FontProperties(size=font, family=fonts.families())
    width, _, _ = drawing.TextToPath().get_text_width_height_descent(text, properties, ismath=False)
    return width


def text_style(font: float) -> dict:
    """Keywords of a matplotlib text of `font` pixels height, in which a dollar is a dollar."""
    return {"fontsize": font * 72 / _DPI, "parse_math": False, "fontfamily": fonts.families()}


def sheet(height: int, width: int) -> "drawing.Figure":
    """An empty figure that `pixels` turns into exactly height x width pixels."""
    # Matplotlib cuts the fraction off: 29 pixels as 0.29 inches would come back as 28.
    return drawing.Figure(figsize=((width + 0.01) / _DPI, (height + 0.01) / _DPI), dpi=_DPI)


def legend(entries: Sequence[tuple[str, np.ndarray]], width: int, font: float = 15) -> np.ndarray:
    """Colours and what they stand for, in aligned columns.

    Args:
        entries: (text, uint8 RGB [h,w,3], the look of it) in order.
        width: pixels that the legend may take; one column takes more where a text is longer.
        font: height of the text in pixels.

    Returns:
        uint8 RGB [h, at least width, 3] on white.
    """
    names = [fonts.drawable(name) for name, _ in entries]
    column = int(max((text_width(name, font) for name in names), default=0) + 3.2 * font)
    columns = max(1, min(width // column, len(names)))
    rows = -(-len(names) // columns)
    width, row_height = max(width, column * columns), 1.7 * font
    height = int(rows * row_height + 0.6 * font)
    figure = sheet(height, width)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for place, (name, (_, swatch)) in enumerate(zip(names, entries, strict=True)):
        x, y = (place % columns) * column + 0.4 * font, (place // columns + 0.5) * row_height + 0.3 * font
        box = (x, x + 1.5 * font, y + 0.5 * font, y - 0.5 * font)
        axes.imshow(swatch, extent=box, aspect="auto", interpolation="nearest", origin="upper")
        axes.add_patch(
            drawing.Rectangle((box[0], box[3]), 1.5 * font, font, fill=False, edgecolor="0.3", linewidth=0.6)
        )
        axes.text(x + 2 * font, y, name, va="center_baseline", ha="left", **text_style(font))
    axes.set(xlim=(0, width), ylim=(height, 0))
    return pixels(figure)


def class_entries(
    ids: Sequence[int],
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    shares: Mapping[int, float] | None = None,
) -> list[tuple[str, np.ndarray]]:
    """The entries of a legend for some classes.

    Args:
        ids: class ids to show; an id of -1 stands for ignored pixels.
        classes: all class names, in id order.
        colours: of all classes, as `colorize` takes them.
        shares: id -> share of the pixels, 0..1, that its text says; None for none.

    Returns:
        As `legend` takes them.
    """
    names = {index: classes[index] if index >= 0 else "ignored" for index in ids}
    if shares is not None:
        names = {index: f"{name} {percent(shares[index])}" for index, name in names.items()}
    return [(names[index], colorize(np.full((10, 15), index), len(classes), colours)) for index in ids]


def percent(share: float) -> str:
    """A share, 0..1, in words of few digits: "43 %", "0.4 %", "under 0.1 %"."""
    found = 100 * share
    return "under 0.1 %" if 0 < found < 0.1 else f"{found:.1f} %" if found < 1 else f"{found:.0f} %"


def pixels(figure: "drawing.Figure") -> np.ndarray:
    """A figure as uint8 RGB [H,W,3]."""
    canvas = drawing.FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    colours: np.ndarray | None = None,
    opacity: float = 0.35,
) -> np.ndarray:
    """A photo with the outlines of its label map and a tint inside, and below it the legend of the classes present.

    The outlines have the very colours of the legend. A class called "background" keeps the photo as it is.

    Args:
        image: uint8 RGB [H,W,3].
        label: integer [H,W], class ids; negative pixels keep the photo.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `palette` where None.
        opacity: of the tint, 0..1.

    Returns:
        uint8 RGB [H + height of the legend, at least W, 3]; the photo is at the top left at its own size.
    """
    height, width = label.shape
    clear = [index for index, name in enumerate(classes) if _key(name) == _UNTINTED]
    shown = np.where(np.isin(label, clear), -1, label)
    solid = colorize(shown, len(classes), colours)
    tinted = cv2.addWeighted(image, 1 - opacity, solid, opacity, 0)
    tinted = np.where(_outlines(shown)[..., None], solid, tinted)
    ids, counts = np.unique(label[label >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = {int(index): count / label.size for index, count in zip(ids, counts, strict=True)}
    entries = class_entries(ids[order].tolist(), classes, colours, shares)
    white = np.full((10, 15, 3), 255, np.uint8)
    places = zip(ids[order].tolist(), entries, strict=True)
    entries = [(f"{name} (not tinted)", white) if index in clear else (name, look) for index, (name, look) in places]
    below = legend(entries, width, font=max(11, round(width / 50)))
    picture = np.full((height + below.shape[0], below.shape[1], 3), 255, np.uint8)
    picture[:height, :width] = np.where((shown < 0)[..., None], image, tinted)
    picture[height:] = below
    return picture


def contours(
    image: np.ndarray, label: np.ndarray, classes: Sequence[str], colours: np.ndarray | None = None
) -> np.ndarray:
    """A photo with the outlines of its label map, and nothing else changed.

    Args:
        image: uint8 RGB [H,W,3].
        label: integer [H,W], class ids; negative pixels and those of a class called "background" have no outline.
        classes: names, in id order.
        colours: uint8 RGB [C,3], of the classes; those of `palette` where None.

    Returns:
        uint8 RGB [H,W,3].
    """
    clear = [index for index, name in enumerate(classes) if _key(name) == _UNTINTED]
    shown = np.where(np.isin(label, clear), -1, label)
    drawn = _outlines(shown) & (shown >= 0)
    return np.where(drawn[..., None], colorize(shown, len(classes), colours), image)


def _outlines(label: np.ndarray) -> np.ndarray:
    """bool [H,W]: pixels near to one of another id or to the border of the picture."""
    reach = max(1, round(max(label.shape) / 500))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    framed = np.pad(label.astype(np.int16), reach, constant_values=-2)
    differs = cv2.dilate(framed, kernel) != cv2.erode(framed, kernel)
    return differs[reach:-reach, reach:-reach]
