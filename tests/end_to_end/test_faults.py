"""Two kills and a SIGTERM; the long form is a command of its own (tests/end_to_end/faults.py)."""

import pytest

from tests.end_to_end import faults

STEPS, BETWEEN = 24, 4  # of the run, and at most from one signal to the next


@pytest.mark.usefixtures("shallow", "plain_pages")
def test_a_run_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    ((status, output),) = faults.processes.finish([faults.pretrain(tmp_path / "undisturbed", STEPS)])
    assert status == 0, output
    events = faults.torment(tmp_path / "disturbed", steps=STEPS, kills=2, terms=1, seed=0, between=BETWEEN)
    assert sum(event["status"] != 0 for event in events) >= 2
    assert faults.require_equal(tmp_path / "disturbed", tmp_path / "undisturbed") > 50
