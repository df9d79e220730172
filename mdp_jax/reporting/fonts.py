"""Fonts for texts in any script: those of matplotlib, of the system, and of the extra `fonts`.

Where no font has a character, it is drawn as its escape and said once, in one line.
"""

import functools
import importlib.metadata
import importlib.util
import pathlib
import sys
from collections.abc import Iterable

from mdp_jax.reporting import drawing

_FIRST = "DejaVu Sans"  # matplotlib brings it
_PACKAGES = ("noto_cjk_sans_otc",)  # beside those that name themselves as fontpkg does
_ENDS = (".ttf", ".otf", ".ttc")
_families = [_FIRST]  # that have been needed so far, in their order


def families() -> list[str]:
    """The families that a text needs after `drawable`, for matplotlib's `family`; it takes the first that fits."""
    return list(_families)


def drawable(text: str) -> str:
    r"""A text as the fonts of this machine can draw it.

    Args:
        text: any; its lines stay.

    Returns:
        The text; characters that no font has are escaped, e.g. as `\u732b`. The first time that this happens, one
        line on stderr says so.
    """
    missing = sorted({char for char in text if char != "\n" and not _has_font(char)})
    if missing:
        _say_once(", ".join(f"U+{ord(char):04X}" for char in missing[:3]))
    return "".join(_escape(char) if char in missing else char for char in text)


@functools.cache
def _said() -> list[str]:
    """What was said; nothing is said a second time."""
    return []


def _say_once(shown: str) -> None:
    if not _said():
        _said().append(shown)
        print(
            f"mdp: no font on this machine has {shown}, for some; pictures show such characters as escapes. "
            "pip install 'mdp_jax[fonts]' brings fonts for Chinese, Japanese, Korean and Hindi",
            file=sys.stderr,
        )


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


@functools.cache
def _has_font(char: str) -> bool:
    """Whether some font has a character; its family is then among `families`."""
    if ord(char) in _characters(drawing.font_manager.findfont(_FIRST), 0):
        return True
    for name, file, face in _others():
        if ord(char) in _characters(file, face):
            if name not in _families:
                _families.append(name)
            return True
    return False


@functools.cache
def _characters(file: str, face: int) -> frozenset[int]:
    """The characters that a font has; none where the file cannot be read."""
    try:
        return frozenset(drawing.FT2Font(file, face_index=face).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@functools.cache
def _others() -> list[tuple[str, str, int]]:
    """(family, file, face) of all fonts but the first: upright ones of normal weight without serifs before others."""
    for file in _of_packages():
        drawing.font_manager.fontManager.addfont(file)
    entries = [entry for entry in drawing.font_manager.fontManager.ttflist if "LastResort" not in entry.fname]
    plain = sorted(
        entries,
        key=lambda entry: (
            entry.style != "normal",
            entry.weight not in (400, "normal", "regular"),
            "Sans" not in entry.name,
            "CJK" in entry.name and "CJK SC" not in entry.name,
            entry.name,
        ),
    )
    return [(entry.name, entry.fname, getattr(entry, "index", 0)) for entry in plain if entry.name != _FIRST]


def _of_packages() -> Iterable[str]:
    """The font files of installed packages that hold nothing else."""
    names = [*_PACKAGES, *(entry.value for entry in importlib.metadata.entry_points(group="fontpkg.family"))]
    for name in names:
        found = importlib.util.find_spec(name)
        for folder in (found.submodule_search_locations or ()) if found else ():
            yield from (str(path) for path in sorted(pathlib.Path(folder).rglob("*")) if path.suffix.lower() in _ENDS)
