"""Three kills and a SIGTERM; the long form is a command of its own (tests/end_to_end/faults.py)."""

from tests.end_to_end import faults


def test_a_run_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    ((status, output),) = faults.processes.finish([faults.pretrain(tmp_path / "undisturbed", 40)])
    assert status == 0, output
    events = faults.torment(tmp_path / "disturbed", steps=40, kills=3, terms=1, seed=0)
    assert sum(event["status"] != 0 for event in events) >= 3
    assert faults.require_equal(tmp_path / "disturbed", tmp_path / "undisturbed") > 50
