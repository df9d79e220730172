"""The notebooks of docs/ run from the first cell to the last."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[1] / "docs").glob("*.ipynb"))


STEPS = "steps = 40"  # of each training, in the first cell of code


def code_of(file):
    cells = json.loads(file.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_runs_in_a_fresh_process(file, tmp_path):
    """Every cell as it stands there, but for the number of steps."""
    code = "\n\n".join(code_of(file))
    assert code.count(STEPS) == 1
    (tmp_path / "cells.py").write_text(code.replace(STEPS, "steps = 4"))
    ran = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(file.parents[1])},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "mIoU" in ran.stdout


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_holds_no_outputs(file):
    """Which would be of one machine and one version."""
    assert all(not cell.get("outputs") for cell in json.loads(file.read_text())["cells"])
