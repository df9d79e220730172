"""Pictures of the vectors of classes, as PNG bytes: a heat map in the order of a clustering, a map, curves."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdp_jax.errors import UserError
from mdp_jax.reporting import drawing, fonts
from mdp_jax.reporting.bank import Vectors, drifts, mean_cosine
from mdp_jax.reporting.colors import of_sets, text_width
from mdp_jax.reporting.figures import DPI, Panel, clustered, curves, png, scale_of, set_colours

METHODS = ("pca", "tsne")
_WIDE, _NARROW, _LEAST = 0.19, 0.13, 0.065  # inches of a class in a heat map: of few, of names on one side, of many
_SIDE = 8.5  # inches that a heat map keeps to where it can
_STRIP = 0.09  # inches of the strip that marks the sets
_MAP = (9.5, 7.5)  # inches
_LETTER = 7.0  # points


def clustered_heatmap(found: Vectors) -> bytes:
    """Cosines between all classes, alike ones together whatever their set; strips have the colours of the sets.

    Every class has its name: where they are many, every second one stands on the other side.

    Args:
      found: the vectors.

    Returns:
      PNG bytes; classes never seen are grey and come last.
    """
    cosines = found.cosines()
    order = clustered(cosines).tolist()
    values, count = cosines[np.ix_(order, order)], len(order)
    low, high = scale_of(values)
    cell = max(_LEAST, min(_WIDE, _SIDE / count))
    side = max(cell * count, 2.5)
    cell = side / count
    figure = drawing.Figure(figsize=(side, side), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = drawing.colormaps["viridis"].with_extremes(bad="0.85")
    picture = axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    for place in np.flatnonzero(np.isfinite(np.diagonal(values))).tolist():  # 1 whatever the vectors are
        axes.add_patch(drawing.Rectangle((place - 0.5, place - 0.5), 1, 1, color="white", linewidth=0))
    axes.set(xticks=[], yticks=[])
    sets, shown = found.sets[order], [fonts.drawable(found.names[index]) for index in order]
    strips, thick, away = of_sets(len(found.set_names)) / 255, _STRIP / cell, 0.05 / cell
    sides = 1 if cell >= _NARROW else 2
    font = max(4.5, min(8.0, 0.8 * 72 * sides * cell))
    text: dict[str, Any] = {"fontsize": font, "fontfamily": fonts.families(), "parse_math": False}
    low_edge, high_edge = -0.5 - away - thick, count - 0.5 + away
    for place, (name, own) in enumerate(zip(shown, sets.tolist(), strict=True)):
        bar: dict[str, Any] = {"color": strips[own], "linewidth": 0, "clip_on": False}
        for edge in (low_edge, high_edge)[:sides]:
            axes.add_patch(drawing.Rectangle((edge, place - 0.5), thick, 1, **bar))
            axes.add_patch(drawing.Rectangle((place - 0.5, edge), 1, thick, **bar))
        if place % sides == 0:
            axes.text(low_edge - away, place, name, ha="right", va="center", **text)
            axes.text(place, low_edge - away, name, ha="center", va="bottom", rotation=90, **text)
        else:
            end = high_edge + thick + away
            axes.text(end, place, name, ha="left", va="center", **text)
            axes.text(place, end, name, ha="center", va="top", rotation=90, **text)
    widest = max(text_width(name, font) for name in shown) / 72 if sides == 2 else 0.0
    right = 1 + (2 * away + thick) * cell / side + (widest + 0.25) / side
    tall = min(1.0, 6 / side)
    scale = figure.add_axes((right, 1 - tall, 0.16 / side, tall))
    note = f"cosine; colours from {low:.2f} to {high:.2f}"
    note += "" if found.seen.all() else "; grey: never seen"
    figure.colorbar(picture, cax=scale).set_label(note, fontsize=9)
    scale.tick_params(labelsize=8)
    _legend(axes, found, strips, widest / cell if sides == 2 else 0.0, side)
    return png(figure)


def _legend(axes: "drawing.Axes", found: Vectors, strips: np.ndarray, below: float, side: float) -> None:
    """The sets and their colours, below the names under a heat map."""
    handles = [drawing.Rectangle((0, 0), 1, 1, color=colour) for colour in strips]
    columns = max(1, min(len(handles), int(side / 1.6)))
    cells = axes.get_xlim()[1] - axes.get_xlim()[0]
    with drawing.rc_context({"text.parse_math": False}):
        axes.legend(
            handles,
            [fonts.drawable(name) for name in found.set_names],
            loc="upper left",
            bbox_to_anchor=(0, -(below + 0.3 * cells / side) / cells),
            ncols=columns,
            frameon=False,
            prop={"family": fonts.families(), "size": 9},
            borderpad=0,
        )


def require_tsne() -> Any:
    """scikit-learn's module of t-SNE.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module("sklearn.manifold")
    except ImportError:
        raise UserError("--map tsne: scikit-learn is missing; pip install 'mdp_jax[inspect]'") from None


def flat_map(points: np.ndarray, method: str) -> tuple[np.ndarray, str]:
    """Places unit vectors in a plane, near ones near to each other.

    Args:
      points: float [N, D], at least 3.
      method: "pca": the plane in which they spread most; "tsne": neighbours of each stay its neighbours.

    Returns:
      float64 [N, 2]; and what the plane is, in words.

    Raises:
      UserError: an unknown method, or scikit-learn is missing.
    """
    if method not in METHODS:
        raise UserError(f"--map {method}: expected one of {', '.join(METHODS)}, none")
    points = np.asarray(points, np.float64)
    centred = points - points.mean(axis=0)
    if method == "pca":
        left, spread, _ = np.linalg.svd(centred, full_matrices=False)
        share = 100 * np.sum(spread[:2] ** 2) / max(np.sum(spread**2), 1e-300)
        found = left[:, :2] * spread[:2]
        places = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))  # features of one number have one axis
        return places, f"the plane of the first two principal axes, {share:.0f} % of the spread"
    perplexity = min(30.0, (len(points) - 1) / 3)
    placed = (
        require_tsne().TSNE(metric="cosine", perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    )
    return placed.astype(np.float64), "t-SNE by cosine: neighbours stay together, distances between groups say nothing"


def map_picture(found: Vectors, pixels: np.ndarray, of: np.ndarray, method: str) -> tuple[bytes, str]:
    """The vectors of the classes and features of some pixels in a plane.

    Args:
      found: the vectors.
      pixels: float [P, D], features; P may be 0.
      of: int [P], the class of each.
      method: see `flat_map`.

    Returns:
      PNG bytes; and what the plane is, in words.
    """
    shown = np.flatnonzero(found.seen)
    vectors = np.concatenate([found.vectors[shown], pixels.reshape(-1, found.vectors.shape[1])]).astype(np.float64)
    places, words = flat_map(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), method)
    own, others = places[: len(shown)], places[len(shown) :]
    figure = drawing.Figure(figsize=_MAP, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    colours = of_sets(len(found.set_names)) / 255
    axes.scatter(others[:, 0], others[:, 1], s=7, c=colours[found.sets[of]], alpha=0.35, linewidths=0, rasterized=True)
    marks = "osD^vP*X"
    for number, colour in enumerate(colours):
        there = found.sets[shown] == number
        style: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.7, "zorder": 3}
        axes.scatter(own[there, 0], own[there, 1], s=42, color=colour, marker=marks[number % len(marks)], **style)
    axes.margins(0.06)
    axes.set(xticks=[], yticks=[])
    axes.autoscale_view()  # now, and not when the figure is drawn: it moves the marks that names must not cover
    _name_where_there_is_room(axes, own, [found.names[int(i)] for i in shown])
    handles = [
        drawing.Line2D([], [], color=colour, marker=marks[number % len(marks)], linestyle="", markersize=7)
        for number, colour in enumerate(colours)
    ]
    with drawing.rc_context({"text.parse_math": False}):
        names = [fonts.drawable(name) for name in found.set_names]
        font = {"family": fonts.families(), "size": 9}
        axes.legend(handles, names, prop=font, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return png(figure), words


def _name_where_there_is_room(axes: "drawing.Axes", places: np.ndarray, names: Sequence[str]) -> None:
    """Writes the names beside their places, each on one of four sides, or not at all where others would be covered."""
    at = axes.transData.transform(places) * 72 / DPI
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    size = np.array(_MAP) * 72
    for (x, y), place, name in zip(at, places, names, strict=True):
        name = fonts.drawable(name)
        width, height = text_width(name, _LETTER) + 1, _LETTER + 1
        for dx, dy, ha, va in ((6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 6, "center", "bottom"),
                               (0, -6, "center", "top")):  # fmt: skip
            left = x + dx - {"left": 0, "right": width, "center": width / 2}[ha]
            low = y + dy - {"center": height / 2, "bottom": 0, "top": height}[va]
            box = (left, low, left + width, low + height)
            inside = box[0] >= 0 and box[2] <= size[0] and box[1] >= 0 and box[3] <= size[1]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                style: dict[str, Any] = {"fontsize": _LETTER, "color": "0.1", "ha": ha, "va": va, "zorder": 4}
                style |= {"fontfamily": fonts.families(), "parse_math": False}
                axes.annotate(name, place, xytext=(dx, dy), textcoords="offset points", **style)
                break


def _overlap(one: tuple, other: tuple) -> bool:
    return bool(one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])


def over_time(history: Sequence[Vectors], rows: Sequence[dict]) -> bytes:
    """The mean cosine, the classes seen, and how far the classes of each set turn, over the steps of a run.

    Args:
      history: of the kept steps, at least one.
      rows: of metrics.jsonl.

    Returns:
      PNG bytes.
    """
    cosine = [(row["step"], row["bank_cosine"]) for row in rows if row.get("bank_cosine") is not None]
    cosine = cosine or [(found.step, mean_cosine(found)) for found in history]
    seen = [(row["step"], row["classes_seen"]) for row in rows if row.get("classes_seen") is not None]
    seen = seen or [(found.step, int(found.seen.sum())) for found in history]
    panels = [Panel({"": cosine}, "mean cosine"), Panel({"": seen}, "classes seen")]
    if len(history) > 1:
        newest, turned = history[-1], drifts(history)
        of_set: dict[str, list[tuple[float, float]]] = {}
        for number, name in enumerate(newest.set_names):
            medians = (row[newest.sets == number] for row in turned)
            values = [float(np.nanmedian(row)) if np.isfinite(row).any() else float("nan") for row in medians]
            of_set[name] = [(found.step, value) for found, value in zip(history[1:], values, strict=True)]
        panels.append(Panel(of_set, "turned since the\nlast kept step (°)", set_colours(len(newest.set_names))))
    return curves(*panels, last=history[-1].step)
