"""mdp_jax/reporting/fonts.py: class names in any script."""

import warnings

import numpy as np
import pytest
from matplotlib import font_manager

from mdp_jax.reporting import colors, figures, fonts

NAMES = ("天空", "도로", "सड़क", "たき火", "sky $x_1$", "cr\u00eape", "a\tb", "\u1200")


@pytest.fixture(params=["those of this machine", "none but matplotlib's"])
def machine(request, monkeypatch):
    for cached in (fonts._has_font, fonts._others, fonts._said):
        cached.cache_clear()
    if request.param.startswith("none"):
        monkeypatch.setattr(fonts, "_others", lambda: [])
        monkeypatch.setattr(fonts, "_families", ["DejaVu Sans"])
    yield request.param
    for cached in (fonts._has_font, fonts._said):
        cached.cache_clear()


def test_no_box_no_warning_and_one_line_at_most(machine, capsys, caplog):
    label = np.arange(len(NAMES))[None].repeat(8, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as matplotlib's of a glyph that is missing
        for _ in range(2):
            colors.overlay(np.zeros((8, len(NAMES), 3), np.uint8), label, NAMES)
            figures.similarity_heatmap(np.eye(len(NAMES)), np.ones(len(NAMES), bool), [(NAMES[0], NAMES)])
            figures.curves(figures.Panel({name: [(0, 1.0)] for name in NAMES}, NAMES[0]))
    assert len(capsys.readouterr().err.splitlines()) <= 1
    assert not [record for record in caplog.records if "font" in record.name]


def test_what_no_font_has_is_escaped_and_said_once(monkeypatch, capsys):
    fonts._has_font.cache_clear()
    fonts._said.cache_clear()
    monkeypatch.setattr(fonts, "_others", lambda: [])
    assert fonts.drawable("road 天空\ncrêpe") == "road \\u5929\\u7a7a\ncrêpe"
    assert fonts.drawable("도") == "\\ub3c4"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mdp: no font on this machine has U+5929, U+7A7A") and "mdp_jax[fonts]" in line
    assert line.isascii()  # a terminal need not be able to show what no font has
    fonts._has_font.cache_clear()
    fonts._said.cache_clear()


def test_a_font_that_has_a_character_is_taken(monkeypatch):
    """With another font than the first as the only one that counts."""
    other = font_manager.findfont("DejaVu Serif")
    monkeypatch.setattr(fonts, "_families", ["DejaVu Sans"])
    monkeypatch.setattr(fonts, "_others", lambda: [("DejaVu Serif", other, 0)])
    monkeypatch.setattr(fonts, "_characters", lambda file, face: {ord("x")} if file == other else set())
    fonts._has_font.cache_clear()
    assert fonts.drawable("xy") == "x" + fonts._escape("y")
    assert fonts.families() == ["DejaVu Sans", "DejaVu Serif"]
    fonts._has_font.cache_clear()


def test_a_file_that_is_no_font_has_no_characters(tmp_path):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    assert fonts._characters(str(tmp_path / "a.ttf"), 0) == frozenset()
