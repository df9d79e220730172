"""What the figures take of matplotlib. It is imported when the first of them is drawn: it would delay every start."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from matplotlib import colormaps as colormaps
    from matplotlib import font_manager as font_manager
    from matplotlib import rc_context as rc_context
    from matplotlib.axes import Axes as Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvasAgg
    from matplotlib.colors import PowerNorm as PowerNorm
    from matplotlib.figure import Figure as Figure
    from matplotlib.font_manager import FontProperties as FontProperties
    from matplotlib.ft2font import FT2Font as FT2Font
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.patches import Rectangle as Rectangle
    from matplotlib.textpath import TextToPath as TextToPath

_HOMES = {
    "Axes": "matplotlib.axes",
    "FT2Font": "matplotlib.ft2font",
    "Figure": "matplotlib.figure",
    "FigureCanvasAgg": "matplotlib.backends.backend_agg",
    "FontProperties": "matplotlib.font_manager",
    "Line2D": "matplotlib.lines",
    "PowerNorm": "matplotlib.colors",
    "Rectangle": "matplotlib.patches",
    "TextToPath": "matplotlib.textpath",
    "colormaps": "matplotlib",
    "rc_context": "matplotlib",
}


def __getattr__(name: str) -> typing.Any:
    if name == "font_manager":
        return importlib.import_module("matplotlib.font_manager")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
