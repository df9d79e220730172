"""Damaged files and impossible values: success, or one line and exit status 2 (long form: fuzz.py)."""

import sys

import pytest

from tests.robustness import fuzz


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_every_end_is_a_good_one(kind, tmp_path):
    count = {"workdir_files": 6, "adoptions": 5}.get(kind, 12)  # which read checkpoints, and adopt
    outcomes = fuzz.fuzz(tmp_path, count, seed=1, kinds=(kind,))
    if not outcomes:
        pytest.skip("PyTorch is missing")
    assert not [outcome for outcome in outcomes if outcome.end not in ("fine", "refused")]
    assert any(outcome.end == "refused" for outcome in outcomes)


def test_what_is_wrong_is_noticed():
    def two_lines():
        print("mdp: one\nmdp: two", file=sys.stderr)
        raise SystemExit(2)

    ends = [fuzz.attempt("x", "x", call).end for call in (lambda: 1 / 0, two_lines, lambda: None)]
    assert ends == ["traceback: ZeroDivisionError", "status 2, 2 lines", "fine"]
