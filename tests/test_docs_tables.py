"""Tables of the docs that scripts under docs/ make: they are what the kept scores say."""

import json
import pathlib
import runpy

import pytest

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
TABLES = {
    "few_photos": "adopt.md",
    "libraries": "numerics.md",
    "own_sets": "inspect.md",
    "precision": "numerics.md",
}


@pytest.mark.parametrize("script", TABLES)
def test_the_page_has_the_table_of_the_kept_scores(script):
    table = runpy.run_path(str(DOCS / f"{script}.py"))["table"]
    scores = json.loads((DOCS / "results" / f"{script}.json").read_text())
    assert table(scores) in (DOCS / TABLES[script]).read_text()


def test_a_cell_of_few_photos():
    table = runpy.run_path(str(DOCS / "few_photos.py"))["table"]
    cell = {"set": "camvid11", "way": "scratch", "photos": 10, "mIoU": 31.46, "seconds": 61.6}
    assert table([cell]).splitlines()[2] == "| camvid11 | fine-tuned from scratch | – | 31.5 (62 s) | – | – | – |"


def test_a_row_of_libraries_is_the_largest_share_of_a_scale():
    module = runpy.run_path(str(DOCS / "libraries.py"))

    def row(section, float64, float32, scale, ok=True):
        differences = {"float64 max difference": float64, "float32 max difference": float32}
        return {"what": f"net beside lib, stride 8: {section}", **differences, "scale": scale, "ok": ok}

    rows = [row("outputs, a", 2e-15, 4e-6, 2.0), row("features, b", 3e-15, 8e-7, 1.0), row("gradient", 0.0, 1.0, 4.0)]
    found = module["largest"](rows)
    assert module["table"](found).splitlines()[2] == (
        "| net beside lib, stride 8 | 3.0e-15 | 2.0e-06 | 0.0e+00 | 2.5e-01 | yes |"
    )
    found = module["largest"]([*rows, row("outputs, c", 0.0, 0.0, 1.0, ok=False)])
    assert module["table"](found).endswith("| NO |")


def test_means_of_own_sets_are_of_the_pretrainings_that_all_rows_have():
    """Two sets of one world and one of another by hand; what one row lacks counts for none."""
    module = runpy.run_path(str(DOCS / "own_sets.py"))

    def scores(value):
        return {"a": {"mIoU": value, "aAcc": 2 * value}, "b": {"mIoU": value + 2, "aAcc": 50}}

    found = {f"{row}/x/seed2": scores(10 * index) for index, row in enumerate(module["described"]())}
    found["mdp/x/seed3"] = scores(99)
    assert module["complete"](found) == ["x/seed2"]
    lines = module["table"](found).splitlines()
    assert lines[0] == "| pretraining | mIoU | aAcc | aAcc, a | aAcc, b |"
    assert lines[3].endswith("| 11.0 | 35.0 | 20.0 | 50.0 |")
