"""Pages, figures and JSON of results, and the parts of files that are written anew."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from mdp_jax.errors import UserError
from mdp_jax.reporting.tables import Table
from mdp_jax.studies import figures, markdown, report, results
from mdp_jax.studies.experiments import GREATER, Contrast
from mdp_jax.studies.statistics import interval, verdict
from tests.studies.test_results import SCORES
from tests.studies.tiny import suite


def found(scores=SCORES, most=None):
    of = suite(2)
    outcomes = tuple(results.judge(of, contrast, scores, most) for contrast in of.contrasts)
    return results.Results(of, outcomes, scores, ("longer/seed1/few",), most)


def test_table_of():
    table = Table(["name", "mIoU"], [["a|b", 1.5], ["c", None]], "caption")
    assert markdown.table_of(table) == "| name | mIoU |\n| --- | ---: |\n| a\\|b | 1.50 |\n| c | – |"


def test_replace_part():
    page = "# Page\n\nabove\n<!-- a -->\nold\n<!-- end a -->\nbelow\n"
    new = "# Page\n\nabove\n<!-- a -->\n\nnew\n\n<!-- end a -->\nbelow\n"
    assert markdown.replace_part(page, "a", "end a", "new\n") == new
    assert markdown.replace_part(new, "a", "end a", "new") == new
    assert markdown.replace_part("# Page\n", "a", "end a", "new") == "# Page\n\n<!-- a -->\n\nnew\n\n<!-- end a -->\n"
    for broken in ("<!-- a -->\n", "<!-- end a -->\n", "<!-- end a -->\n<!-- a -->\n"):
        with pytest.raises(UserError, match="expected a line <!-- a --> and after it a line <!-- end a -->"):
            markdown.replace_part(broken, "a", "end a", "new")


def test_docs(tmp_path):
    (tmp_path / "results.md").write_text("# What came out\n\n<!-- reproduce tiny --><!-- end tiny -->\n\nkept\n")
    for _ in range(2):
        report.write_docs(found(), tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert page.startswith("# What came out\n\n<!-- reproduce tiny -->\n") and page.endswith(
        "<!-- end tiny -->\n\nkept\n"
    )
    assert "## `mdp reproduce: tiny`" in page and "`mdp reproduce --list` prints the claims" in page
    assert "Not complete: 1 of 10 fine-tunings are missing." in page
    assert "| over_scratch | 4.00 | 4.00 | 4.00 | 2 | holds | – |" in page
    assert "| again | 0.50 | – | – | 1 | undecided | 1 |" in page
    assert "Missing: longer/few (seed 1)." in page
    assert "| few | scratch | 10.50 | 0.71 | 2 | 10.00, 11.00 |" in page
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert images == [f"reproduce_tiny_{name}.png" for name in ("ablations", "claims", "scores", "targets")]
    assert all(f"](images/{name})" in page for name in images)
    shipped = dataclasses.replace(found(), suite=dataclasses.replace(suite(2), name="mini-real"))
    part = report.results_part(shipped, {})
    assert part.startswith("## `mdp reproduce --suite mini-real`") and "are in [claims.md](claims.md)" in part
    rows = json.loads((tmp_path / "reproduce-tiny.json").read_text())
    assert [row["claim"] for row in rows] == ["over_scratch", "again", "gain", "budget"]
    assert list(rows[0])[:6] == ["claim", "difference", "low", "high", "seeds", "verdict"]


def test_docs_are_made_where_there_is_no_page(tmp_path):
    report.write_docs(found(), tmp_path)
    assert (tmp_path / "results.md").read_text().startswith("# What came out\n\n<!-- reproduce tiny -->\n")


def test_docs_show_what_was_measured(tmp_path):
    cells = (("mdp", "few"), ("scratch", "few"))
    some = {(cell, seed): SCORES[cell, seed] for cell in cells for seed in (0, 1)}
    report.write_docs(found(some), tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "_ablations.png" not in page and "Ablations" not in page
    assert not (tmp_path / "images" / "reproduce_tiny_ablations.png").exists()
    assert "| again | – | – | – | 0 | undecided | 2 |" in page  # every claim has its verdict
    assert "Missing: longer/few (seed 0, 1)." in page and "| few | longer |" not in page


def test_docs_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match=f"--docs {tmp_path}/no: expected a folder that exists"):
        report.require_docs(tmp_path / "no", "tiny")
    report.require_docs(tmp_path, "tiny")
    (tmp_path / "results.md").write_text("<!-- reproduce tiny -->\n")
    with pytest.raises(UserError, match=r"results.md: expected a line <!-- reproduce tiny -->"):
        report.require_docs(tmp_path, "tiny")


def test_summary():
    assert report.summary(found(most=1)).endswith("are missing. At most 1 seeds of each pretraining.")
    assert report.summary(results.Results(suite(), (), SCORES, (), None)) == "All 9 fine-tunings are there."


def test_page(tmp_path):
    page = report.write_page(found(), tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 4 and "over_scratch" in page
    assert len(json.loads((tmp_path / "reproduce.json").read_text())) == 4


def test_nothing_yet(tmp_path):
    report.write_docs(found({}), tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "| over_scratch | – | – | – | 0 | undecided | 4 |" in page and ".png" not in page
    assert "data:image" not in report.write_page(found({}), tmp_path).read_text()


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
        png = figures.intervals(outcomes, "")
        zero = _columns(png, (77, 77, 77)).mean()  # the line at 0
        drawn = _columns(png, colour)
        drawn = drawn[drawn < 600]  # without the legend
        assert drawn.size and not _columns(png, other).size
        assert (drawn > zero).all() if sign > 0 else (drawn < zero).all()


def test_numbers_that_would_overlap_stand_in_two_lines():
    """A third close one takes the line whose last number is farther away."""
    values = {0: 5.0, 1: 1.15, 2: 1.0, 3: 1.1}
    assert figures._in_lines(values, 0.2) == [(2, 1.0, 0), (3, 1.1, 1), (1, 1.15, 0), (0, 5.0, 0)]
    assert [line for *_, line in figures._in_lines(values, 0.0)] == [0, 0, 0, 0]
