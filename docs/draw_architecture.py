"""Draws docs/images/architecture.png, the rooms of the package and a batch's way: python docs/draw_architecture.py

The rooms and their order are those that tests/test_style.py holds; tests/test_architecture.py asks for a new picture
where they change.
"""

import ast
import json
import pathlib

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.png"

PURPOSES = {
    "__main__": "python -m mdp_jax",
    "cli": "the command mdp: a table of parts",
    "__init__": "the Python API",
    "commands": "one module for each part of mdp: its arguments and its words",
    "reproduction": "an earlier name of studies",
    "studies": "runs of many seeds and settings, compared with intervals",
    "benchmarks": "speed, beside PyTorch's",
    "serving": "a page to try a network",
    "planning": "memory, FLOPs and collectives",
    "parity": "the same in PyTorch, compared",
    "training": "the one loop, the step, state, optimizer, shardings",
    "exporting": "a network as StableHLO and ONNX, with a card",
    "evaluation": "photos through a trained network, scores",
    "checks": "values of a config that cannot work",
    "objectives": "one file for each objective",
    "weights": "files of other libraries, in and out",
    "data": "dataset kinds, batches, drawn scenes, data check",
    "models": "backbones, decoders, heads",
    "reporting": "figures, tables, pages, progress",
    "storage": "checkpoints, locks, JSON",
    "method": "the formulas: losses, prototypes, mixing",
    "config": "config files, overrides, comparison",
    "configs": "every config key",
    "schema": "typed keys",
    "python_files": "a user's Python files",
    "distributed": "several processes",
    "runtime": "settings of JAX",
    "errors": "a user's mistake in one line",
    "words": "numbers and lists in lines",
}

# A batch's way: (room, what happens there), from the file on the disk to the updated memory.
WAY = (
    ("data", "kinds: read photo and mask\nuint8 [H, W, 3], int16 [H, W]"),
    ("data", "sources: drop classes,\nresize, keep in memory"),
    ("data", "batches: draw a pair, two views,\nglobal ids, kind of mixing"),
    ("training", "loop: next batch; sharding:\nonto the mesh of devices"),
    ("objectives", "prepare: what is known\nbefore the loss (no gradient)"),
    ("method", "mixing: mix the pairs"),
    ("models", "network: images to\nfeatures or unit vectors"),
    ("objectives", "loss, with the memory as it was"),
    ("training", "steps: gradient, optimizer,\nnew parameters"),
    ("objectives", "update: prototypes and\nmomentum encoder"),
    ("training", "new state: step, params,\nopt_state, memory"),
    ("storage", "every n steps: a checkpoint,\nread back and checked"),
)

_COLOURS = {
    "data": "#cfe3f5",
    "training": "#fbe0bd",
    "objectives": "#d5ecd0",
    "method": "#eadcf2",
    "models": "#f7d3d3",
    "storage": "#e3e3e3",
}


def rooms() -> tuple[tuple[str, ...], ...]:
    """The rooms from the top down, those of one floor together."""
    tree = ast.parse((ROOT / "tests" / "test_style.py").read_text(encoding="utf-8"))
    (floors,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS"
    )
    return ast.literal_eval(floors)


def contents() -> str:
    """All that is drawn, as the PNG file holds it."""
    return json.dumps([rooms(), {room: PURPOSES[room] for floor in rooms() for room in floor}, WAY])


def draw() -> Figure:
    """The picture."""
    floors = rooms()
    height = 0.43 * len(floors) + 1.0
    figure = Figure(figsize=(13, height), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 13), ylim=(-height, 0))
    axes.axis("off")
    axes.text(0.3, -0.45, "The rooms: imports run downwards only", fontsize=13, weight="bold", va="center")
    axes.text(8.6, -0.45, "One batch's way through them", fontsize=13, weight="bold", va="center")
    for number, floor in enumerate(floors):
        _floor(axes, floor, top=-0.8 - 0.43 * number)
    steps = len(WAY)
    pitch = (height - 1.0) / steps
    for number, (room, text) in enumerate(WAY):
        middle = -0.8 - pitch * (number + 0.46)
        _box(axes, (8.6, middle - 0.30 * pitch / 0.8), 4.1, 0.60 * pitch / 0.8, _COLOURS[room])
        axes.text(8.75, middle, f"{number + 1}", fontsize=11, weight="bold", va="center")
        axes.text(9.1, middle, room, fontsize=9.5, weight="bold", va="center")
        axes.text(10.15, middle, text, fontsize=9, va="center", linespacing=1.25)
        if number:
            end = middle + 0.30 * pitch / 0.8
            ends = (10.65, end + 0.25 * pitch), (10.65, end)
            axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=11, color="0.3"))
    return figure


def _floor(axes, floor: tuple[str, ...], top: float) -> None:
    """One floor: its rooms side by side, with what each is for where there is space for it."""
    width = 7.9 / len(floor)
    for place, room in enumerate(floor):
        left = 0.3 + place * width
        _box(axes, (left, top - 0.36), width - 0.1, 0.36, _COLOURS.get(room, "#f4f4f4"))
        axes.text(left + 0.1, top - 0.18, room, fontsize=9.5, weight="bold", va="center")
        if len(floor) <= 3:
            shift, size = (1.35, 9) if len(floor) < 3 else (1.15, 7.5)
            axes.text(left + shift, top - 0.18, PURPOSES[room], fontsize=size, va="center")


def _box(axes, corner: tuple[float, float], width: float, height: float, colour: str) -> None:
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor="0.55"))


if __name__ == "__main__":
    draw().savefig(PICTURE, metadata={"Software": None, "Description": contents()})
