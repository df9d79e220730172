"""Figures of the outcomes of a suite, as PNG bytes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mdp_jax.reporting import drawing, fonts
from mdp_jax.reporting.colors import palette, pixels
from mdp_jax.reporting.figures import DENSITY, DPI, encode_png
from mdp_jax.studies.experiments import EQUIVALENT, Curve, Suite
from mdp_jax.studies.results import Outcome
from mdp_jax.studies.score_files import Scores
from mdp_jax.studies.statistics import CONTRADICTED, HOLDS, MARGIN, UNDECIDED

_BLUE, _GREEN, _RED = palette(4)[[0, 2, 3]] / 255
_COLOURS = {HOLDS: _GREEN, CONTRADICTED: _RED, UNDECIDED: "0.45", None: _BLUE}
_CURVES, _SHAPES = palette(6)[[0, 3, 2, 4, 1, 5]] / 255, "osD^vX"
_TITLE = 34  # letters of a line above the narrowest panels
_MARKERS = {HOLDS: "o", CONTRADICTED: "X", UNDECIDED: "D", None: "s"}  # for those who see no colours


def _axes_of_rows(names: Sequence[str], panels: int, width: float) -> tuple["drawing.Figure", np.ndarray]:
    """A figure with a row for each name, read from top to bottom, and axes of `width` inches that share the names."""
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure = drawing.Figure(
        figsize=(width + 0.058 * longest, 1.2 + 0.38 * len(names)), dpi=DPI * DENSITY, layout="constrained"
    )
    all_axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes in all_axes:
        _name_rows(axes, names)
    return figure, all_axes


def _name_rows(axes: "drawing.Axes", names: Sequence[str]) -> None:
    """Rows from top to bottom, with lines of a grid."""
    shown = [fonts.drawable(name) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=8, fontfamily=fonts.families())
    axes.set_ylim(len(names) - 0.3, -0.6)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=9)  # room for an arrow at the border


def _row_name(suite: Suite, outcome: Outcome) -> str:
    """What is compared, and below it on what and with how many seeds."""
    names = dict.fromkeys(name for _, name in outcome.contrast.cells)
    targets = [suite.target(name.split("/")[0]).what + name[len(name.split("/")[0]) :] for name in names]
    count = len(outcome.seeds)
    return f"{outcome.contrast.sentence}\n{' / '.join(targets)} ({count} seed{'s' * (count != 1)})"


def intervals(suite: Suite, outcomes: Sequence[Outcome], title: str) -> bytes:
    """Each difference with its interval and the seeds as dots; an arrow is where an interval goes on beyond the border.

    Args:
      suite: whose outcomes they are.
      outcomes: at least one.
      title: above the axes.

    Returns:
      PNG bytes.
    """
    dots = [*(difference for outcome in outcomes for difference in outcome.differences), -MARGIN, MARGIN]
    room = 0.4 * (max(dots) - min(dots))
    left, right = min(dots) - room, max(dots) + room  # the interval of two seeds may be wider than all else
    figure, (axes,) = _axes_of_rows([_row_name(suite, outcome) for outcome in outcomes], 1, 6.0)
    axes.axvline(0, color="0.3", linewidth=1)
    for row, outcome in enumerate(outcomes):
        mean, low, high = outcome.found
        colour = _COLOURS[outcome.verdict]
        if outcome.contrast.kind == EQUIVALENT:
            axes.fill_betweenx([row - 0.4, row + 0.4], -MARGIN, MARGIN, color="0.88", linewidth=0, zorder=0.5)
        axes.scatter(outcome.differences, [row + 0.22] * len(outcome.seeds), s=9, color="0.2", alpha=0.6, linewidth=0)
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            for end, border, arrow in ((low, left, "<"), (high, right, ">")):
                if not left <= end <= right:
                    axes.plot([border], [row], arrow, color=colour, markersize=8, clip_on=False)
        if mean is not None:
            axes.plot([mean], [row], _MARKERS[outcome.verdict], color=colour, markersize=6)
    for says in dict.fromkeys(outcome.verdict for outcome in outcomes):
        axes.plot([], [], _MARKERS[says], color=_COLOURS[says], label=says or "nothing claimed")
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_xlim(left, right)
    axes.set_xlabel("difference in mIoU (%), mean of the pairs and its 95 % interval; dots: seeds", fontsize=9)
    axes.set_title(title, fontsize=11)
    return encode_png(pixels(figure))


def curves(suite: Suite, found: Scores, title: str) -> bytes:
    """How scores go with a number: a line through the means, each seed as a dot. Panels stand side by side.

    A panel shows the seeds that all its points are planned for. So the points of a line differ in the number alone.

    Args:
      suite: with at least one curve.
      found: scores by cell and seed; some may be missing.
      title: above all panels.

    Returns:
      PNG bytes.
    """
    panels = list(dict.fromkeys(curve.panel for curve in suite.curves))
    names = list(dict.fromkeys(curve.what for curve in suite.curves))
    figure = drawing.Figure(figsize=(1.0 + 2.9 * len(panels), 4.2), dpi=DPI * DENSITY, layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        shown = [curve for curve in suite.curves if curve.panel == panel]
        seeds = suite.seeds_of_cells(cell for curve in shown for _, cells in curve.points for cell in cells)
        for curve in shown:
            _line(axes, curve, found, seeds, names.index(curve.what))
        numbers = sorted({number for curve in shown for number, _ in curve.points})
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:,g}" for number in numbers])
        axes.minorticks_off()
        axes.set_xlim(numbers[0] / 1.15, numbers[-1] * 1.25)  # room for the dots beside the last point
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(panel, fontsize=9)
        axes.set_xlabel(suite.along, fontsize=9)
    all_axes[0].set_ylabel("mIoU (%)", fontsize=9)
    lines = {label: line for axes in all_axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    named = {name: lines[name] for name in names if name in lines}  # those that the first panel does not have, too
    handles, columns = list(named.values()), max(1, len(named))
    figure.legend(handles, list(named), frameon=False, fontsize=8.5, loc="outside lower center", ncols=columns)
    figure.suptitle(title, fontsize=11)
    return encode_png(pixels(figure))


def _line(axes: "drawing.Axes", curve: Curve, found: Scores, seeds: Sequence[int], place: int) -> None:
    """The means of a curve as a line, and a dot for each seed beside them."""
    dots = _dots(curve, found, seeds)
    numbers = list(dict.fromkeys(number for number, _ in dots))
    means = [np.mean([value for at, value in dots if at == number]) for number in numbers]
    style = {"color": _CURVES[place % len(_CURVES)], "marker": _SHAPES[place % len(_SHAPES)]}
    axes.plot(numbers, means, **style, label=curve.what, linewidth=2, markersize=6)
    beside = 1.04 + 0.03 * place  # dots of several curves at one number do not hide each other
    axes.scatter([at * beside for at, _ in dots], [value for _, value in dots], s=12, alpha=0.6, linewidth=0, **style)


def _dots(curve: Curve, found: Scores, seeds: Sequence[int]) -> list[tuple[float, float]]:
    """The number and the mean of the cells, of each point and seed whose cells all have a score."""
    return [
        (number, float(np.mean([found[cell, seed] for cell in cells])))
        for number, cells in curve.points
        for seed in seeds
        if all((cell, seed) in found for cell in cells)
    ]


class _Number(NamedTuple):
    seed: int
    value: float
    line: int  # from 0


def _in_lines(values: Mapping[int, float], apart: float) -> list[_Number]:
    """Where the seeds stand: a value that is nearer than `apart` to the one before it in its line changes line."""
    found, last = [], [-np.inf] * 3
    for seed, value in sorted(values.items(), key=lambda item: item[1]):
        line = next((line for line, before in enumerate(last) if value - before >= apart), int(np.argmin(last)))
        last[line] = value
        found.append(_Number(seed, value, line))
    return found


def scores(suite: Suite, found: Scores, pretrainings: Sequence[str], targets: Sequence[str], title: str) -> bytes:
    """The mIoU of pretrainings (rows) on targets (panels): the mean as a line, each seed as its number.

    Rows may have other seeds than their neighbours, and scores go with the seeds: the numbers show it.

    Args:
      suite: whose runs they are.
      found: scores by cell and seed; some may be missing.
      pretrainings: names of those to show.
      targets: names of those to show.
      title: above all panels.

    Returns:
      PNG bytes.
    """
    whats = [suite.pretraining(name).what for name in pretrainings]
    figure, all_axes = _axes_of_rows(whats, len(targets), 2.0 + 2.1 * len(targets))
    for axes, target in zip(all_axes, targets, strict=True):
        _panel(axes, found, pretrainings, target)
        axes.set_title(textwrap.fill(suite.target(target).what, _TITLE), fontsize=9)
    figure.suptitle(title, fontsize=11)
    return encode_png(pixels(figure))


def scores_of_own_rows(suite: Suite, found: Scores, rows_of: Mapping[str, Sequence[str]], title: str) -> bytes:
    """The same for targets that have other pretrainings than their neighbours: a panel below the other.

    Args:
      suite: as for `scores`.
      found: as for `scores`.
      rows_of: by the name of a target, the names of its pretrainings.
      title: above all panels.

    Returns:
      PNG bytes.
    """
    whats = {name: suite.pretraining(name).what for rows in rows_of.values() for name in rows}
    sizes = [1.2 + 0.38 * len(rows) for rows in rows_of.values()]
    size = (4.1 + 0.058 * max(map(len, whats.values())), sum(sizes))
    figure = drawing.Figure(figsize=size, dpi=DPI * DENSITY, layout="constrained")
    all_axes = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (target, rows) in zip(all_axes, rows_of.items(), strict=True):
        _name_rows(axes, [whats[name] for name in rows])
        _panel(axes, found, rows, target)
        axes.set_title(textwrap.fill(suite.target(target).what, 56), fontsize=9)
        axes.locator_params(axis="x", nbins=7)
    figure.suptitle(title, fontsize=11)
    return encode_png(pixels(figure))


def _panel(axes: "drawing.Axes", found: Scores, pretrainings: Sequence[str], target: str) -> None:
    """The scores on one target, of a pretraining in each row."""
    shown = [value for (cell, _), value in found.items() if cell[0] in pretrainings and cell[1] == target]
    apart = 0.04 * np.ptp(shown) if shown else 0.0  # a number is about so wide
    for row, name in enumerate(pretrainings):
        values = {seed: value for (cell, seed), value in found.items() if cell == (name, target)}
        if values:
            mean = np.mean(list(values.values()))
            axes.plot([mean, mean], [row - 0.34, row - 0.02], color=_BLUE, linewidth=2.2)
        for seed, value, line in _in_lines(values, apart):
            y = row + 0.15 + 0.2 * line
            axes.scatter([value], [y], s=26, marker=f"${seed}$", color="0.15", linewidth=0, zorder=3)
    axes.set_xlabel("mIoU (%)", fontsize=9)
