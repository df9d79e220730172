"""Three signals and the undisturbed run; the long form is a command of its own (tests/robustness/kills.py)."""

import pytest

from tests.robustness import kills


@pytest.mark.usefixtures("shallow")
def test_a_run_through_signals_ends_as_one_without(tmp_path):
    kills.finish(tmp_path / "undisturbed", 8)
    events = kills.torment(tmp_path / "disturbed", steps=8, count=3, seed=0)
    assert sum(event.status != 0 for event in events) >= 2
    assert kills.require_same(tmp_path / "disturbed", tmp_path / "undisturbed") > 50
