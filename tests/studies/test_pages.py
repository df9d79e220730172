"""Pages, figures and JSON of results."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.reporting.figures import DENSITY
from mdp_jax.reporting.tables import Table
from mdp_jax.studies import figures, pages, results
from mdp_jax.studies.experiments import GREATER, Contrast, Curve
from mdp_jax.studies.statistics import interval, verdict
from tests.studies.test_results import SCORES
from tests.studies.tiny import suite


def found(scores=SCORES, most=None):
    of = suite(2)
    outcomes = tuple(results.judge(of, contrast, scores, most) for contrast in of.contrasts)
    return results.Results(of, outcomes, scores, ("longer/seed1/few",), most)


def test_table_of():
    table = Table(["name", "mIoU"], [["a|b", 1.5], ["c", None]], "caption")
    assert pages.markdown_table(table) == "| name | mIoU |\n| --- | ---: |\n| a\\|b | 1.50 |\n| c | – |"


def test_docs(tmp_path):
    for _ in range(2):
        pages.write_docs(found(), tmp_path)
    page = (tmp_path / "results" / "reproduce-tiny.md").read_text()
    assert page.startswith("# mdp reproduce: tiny\n") and "`mdp reproduce --list` prints the claims" in page
    assert "Not complete: 1 of 10 fine-tunings are missing." in page
    assert "| over_scratch | 4.00 | 4.00 | 4.00 | 2 | holds | – |" in page
    assert "| again | 0.50 | – | – | 1 | undecided | 1 |" in page
    assert "Missing: longer/few (seed 1)." in page
    assert "| few | scratch | 10.50 | 0.71 | 2 | 10.00, 11.00 |" in page
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert images == [f"reproduce_tiny_{name}.png" for name in ("ablations", "claims", "scores", "targets")]
    assert all(f"](../images/{name})" in page for name in images)
    rows = json.loads((tmp_path / "results" / "reproduce-tiny.json").read_text())
    assert [row["claim"] for row in rows] == ["over_scratch", "again", "gain", "budget"]
    assert list(rows[0])[:6] == ["claim", "difference", "low", "high", "seeds", "verdict"]


def test_docs_show_what_was_measured(tmp_path):
    cells = (("mdp", "few"), ("scratch", "few"))
    some = {(cell, seed): SCORES[cell, seed] for cell in cells for seed in (0, 1)}
    pages.write_docs(found(some), tmp_path)
    page = (tmp_path / "results" / "reproduce-tiny.md").read_text()
    assert "_ablations.png" not in page and "Ablations" not in page
    assert not (tmp_path / "images" / "reproduce_tiny_ablations.png").exists()
    assert "| again | – | – | – | 0 | undecided | 2 |" in page  # every claim has its verdict
    assert "Missing: longer/few (seed 0, 1)." in page and "| few | longer |" not in page


def test_docs_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match=f"--docs {tmp_path}/no: expected a folder that exists"):
        pages.require_docs(tmp_path / "no")
    pages.require_docs(tmp_path)
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="results in it is a file; expected a folder, or none"):
        pages.require_docs(tmp_path)


def test_summary():
    assert pages.summary(found(most=1)).endswith("are missing. At most 1 seed of each pretraining.")
    assert pages.summary(results.Results(suite(), (), SCORES, (), None)) == "All 9 fine-tunings are there."


def test_page(tmp_path):
    page = pages.write_page(found(), tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 4 and "over_scratch" in page
    assert len(json.loads((tmp_path / "reproduce.json").read_text())) == 4


def test_curves(tmp_path):
    """A point is the mean of its cells, for each seed that has all of them; the figure is on both pages."""
    points = ((10, (("scratch", "few"),)), (40, (("mdp", "few"), ("mdp", "many"))))
    curve = Curve("both", "MDP", points)
    expected = [(10, 10.0), (10, 11.0), (40, 17.5), (40, 19.0)]
    assert figures._dots(curve, SCORES, (0, 1)) == expected
    without = {key: value for key, value in SCORES.items() if key != (("mdp", "many"), 1)}
    assert figures._dots(curve, without, (0, 1)) == expected[:3]
    known = dataclasses.replace(found(), suite=dataclasses.replace(suite(2), curves=(curve,), along="steps"))
    pages.write_docs(known, tmp_path)
    page = (tmp_path / "results" / "reproduce-tiny.md").read_text()
    assert (
        "![Lines: means over the seeds that are there; dots: these seeds.](../images/reproduce_tiny_curves.png)" in page
    )
    nothing = dataclasses.replace(known, scores={})
    assert "curves" in pages.pictures(known) and "curves" not in pages.pictures(nothing)


def test_the_legend_names_the_curves_of_all_panels(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "pixels", lambda figure: drawn.append(figure) or np.zeros((1, 1, 3), np.uint8))
    rows = (("left", "MDP", "mdp"), ("right", "scratch", "scratch"), ("right", "MDP", "mdp"))
    lines = tuple(Curve(panel, what, ((10, ((row, "few"),)), (20, ((row, "many"),)))) for panel, what, row in rows)
    figures.curves(dataclasses.replace(suite(2), curves=lines, along="steps"), SCORES, "title")
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["MDP", "scratch"]
    colours = {line.get_label(): tuple(line.get_color()) for axes in drawn[0].axes for line in axes.get_lines()}
    assert [tuple(line.get_color()) for line in legend.get_lines()] == [colours["MDP"], colours["scratch"]]


def test_nothing_yet(tmp_path):
    pages.write_docs(found({}), tmp_path)
    page = (tmp_path / "results" / "reproduce-tiny.md").read_text()
    assert "| over_scratch | – | – | – | 0 | undecided | 4 |" in page and ".png" not in page
    assert "data:image" not in pages.write_page(found({}), tmp_path).read_text()


def _with_differences(*differences):
    contrast = Contrast("c", "", (("mdp", "few"),), (("scratch", "few"),))
    seeds, right = tuple(range(len(differences))), (0.0,) * len(differences)
    of = interval(differences)
    return results.Outcome(contrast, seeds, differences, right, of, verdict(GREATER, of), ())


def _columns(png: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return np.nonzero((np.abs(picture.astype(int) - colour) < 12).all(-1).any(0))[0]


def test_interval_of_a_claim_that_holds_is_right_of_zero():
    """Green for a claim that holds, red for one that is contradicted, on either side of the line at 0."""
    green, red = (0, 158, 115), (213, 94, 0)
    for sign, colour, other in ((1, green, red), (-1, red, green)):
        outcomes = [_with_differences(sign * 5.0, sign * 5.5, sign * 6.0)]
        png = figures.intervals(suite(), outcomes, "")
        zero = _columns(png, (77, 77, 77)).mean()  # the line at 0
        drawn = _columns(png, colour)
        drawn = drawn[drawn < 520 * DENSITY]  # without the legend
        assert drawn.size and not _columns(png, other).size
        assert (drawn > zero).all() if sign > 0 else (drawn < zero).all()


def test_rows_of_a_figure_are_named_in_words():
    over, _, gain, _ = found().outcomes
    assert figures._row_name(suite(), over) == "MDP is better than nothing\n4 scenes (2 seeds)"
    assert figures._row_name(suite(), gain) == "MDP gains more where labels are few\n4 scenes / 5 scenes (2 seeds)"


def test_numbers_that_would_overlap_stand_in_several_lines():
    """A fourth close one takes the line whose last number is farthest away."""
    values = {0: 5.0, 1: 1.15, 2: 1.0, 3: 1.1, 4: 1.17}
    assert figures._in_lines(values, 0.2) == [(2, 1.0, 0), (3, 1.1, 1), (1, 1.15, 2), (4, 1.17, 0), (0, 5.0, 0)]
    assert [line for *_, line in figures._in_lines(values, 0.0)] == [0] * 5
