"""Runs of two processes: the losses of one, stopped and gone on with by one. process_study.py has more of them."""

import json
import signal

import numpy as np
import pytest

from mdp_jax.storage.metrics_file import read_metrics
from tests import small
from tests.end_to_end import process_study, processes

STEPS = 12  # of each run; the first is there when it goes on
pytestmark = pytest.mark.usefixtures("shallow")


def go_on(filled, folder, count, devices):
    return process_study.go_on(filled, folder, count, devices, steps=STEPS)


@pytest.fixture(scope="module", autouse=True)
def plain_pages():
    with small.pages():
        yield


@pytest.fixture(scope="module")
def filled(tmp_path_factory, shallow):
    return process_study.fill(tmp_path_factory.mktemp("filled") / "run", steps=STEPS)


@pytest.fixture(scope="module")
def on_two(filled):
    """The workdir of two processes that nobody disturbed, and what each of them printed."""
    folder = filled.parent / "two"
    done = processes.finish(go_on(filled, folder, 2, 1))
    assert [status for status, _ in done] == [0, 0], done
    return folder, [output for _, output in done]


def test_two_processes_as_one_run(on_two):
    folder, outputs = on_two
    assert "going on after step 1" in outputs[0]
    found = process_study.losses(folder)
    assert len(found) == STEPS - 1 and found.min() > 1.0, "nothing to compare"
    assert (folder / "report.html").exists()
    assert "images/s" in outputs[0]
    assert "images/s" not in outputs[1], "process 0 alone shows how far it is"


def wait_for_line(words, run):
    while (line := run.stdout.readline()) and words not in line:
        pass
    assert line, f"{words!r} did not come"


def test_sigterm_to_one_of_two_stops_both_and_one_goes_on_with_the_same_losses(filled, on_two, tmp_path):
    """It comes while both compile the first step of a run that goes on: none but that one is taken."""
    folder = tmp_path / "run"
    runs = go_on(filled, folder, 2, 1)
    wait_for_line("going on after step 1", runs[0])
    runs[1].send_signal(signal.SIGTERM)
    done = processes.finish(runs)
    assert [status for status, _ in done] == [143, 143], done
    stopped_after = max((row["step"] for row in read_metrics(folder)), default=1)
    assert stopped_after <= 3
    assert all("told to stop" in output for _, output in done)
    assert json.loads((folder / "config.json").read_text())["steps"] == STEPS
    ((status, output),) = processes.finish(go_on(filled, folder, 1, 2))
    assert status == 0, output
    assert f"going on after step {stopped_after}" in output
    np.testing.assert_allclose(process_study.losses(folder), process_study.losses(on_two[0]), rtol=1e-5)


def test_what_one_process_alone_meets_ends_it_with_its_own_status(tmp_path):
    """JAX would wait for the other one, and end both with a status by which launchers start them again."""
    (tmp_path / "file").write_text("")
    words = ["pretrain", "--config", process_study.CONFIG, "--workdir", (str(tmp_path / "run"), str(tmp_path / "file"))]
    runs = processes.start(words, processes=2, devices=1)
    try:
        output, _ = runs[1].communicate(timeout=120)
    finally:
        for run in runs:
            run.kill()
    assert runs[1].returncode == 2, output
    assert "file: a file; expected a folder" in output
    assert not (tmp_path / "run").exists()


def test_processes_that_disagree_are_named(tmp_path):
    words = ["pretrain", "--config", process_study.CONFIG, "--workdir", str(tmp_path / "run")]
    runs = processes.start([*words, ("--config.seed=0", "--config.seed=3")], processes=2, devices=1)
    done = processes.finish(runs)
    assert [status for status, _ in done] == [2, 2], done
    assert "process 1: config.seed is 3, process 0 has 0; expected the same in every process" in done[1][1]
    assert "process 1: another config, label space or photos than process 0" in done[0][1]
    assert not (tmp_path / "run").exists()
