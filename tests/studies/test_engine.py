"""The engine with stand-ins for the commands: order, failures, stopping, going on, locks, cores."""

import io
import json
import os
import pathlib
import sys

import pytest
import rich.console

from mdp_jax.errors import PreemptedError, UserError
from mdp_jax.storage.locks import locked
from mdp_jax.studies import engine, runs
from tests.studies import fake
from tests.studies.tiny import suite

CORES = sorted(os.sched_getaffinity(0))


class Study:
    """The tiny suite in a folder, with fake commands."""

    def __init__(self, folder: pathlib.Path, seeds: int = 1):
        self.folder, self.runs = folder, runs.of_suite(suite(seeds))
        self.said = io.StringIO()

    def carry_out(self, places=((set(CORES), {}),), minutes=None):
        with locked(self.folder, "lock", "--workdir", "another") as lock:
            console = rich.console.Console(file=self.said, width=200)
            made = engine.Engine(self.folder, list(places), lock, (sys.executable, fake.__file__), console, minutes)
            try:
                made.carry_out(self.runs)
            finally:
                self.failures, self.out_of_time = made.failures, made.out_of_time
        return self

    def order(self, **of_runs: str):
        values = {name.replace("__", "/"): order for name, order in of_runs.items()}
        (self.folder / "orders.json").write_text(json.dumps(values))

    def calls(self) -> list:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_all_runs_once_in_order(study):
    study.carry_out()
    names = [run.name for run in study.runs]
    assert [name for name, *_ in study.calls()] == names
    assert not study.failures and all(runs.finished(run, study.folder) for run in study.runs)
    study.carry_out()
    assert len(study.calls()) == len(names)


def test_checkpoints_of_finetunings_go(study):
    study.carry_out()
    left = {path.parent.relative_to(study.folder).as_posix() for path in study.folder.rglob("checkpoints")}
    assert left == {"mdp/seed0/pretrain", "longer/seed0/pretrain"}


def test_what_was_lost_comes_again(study):
    study.carry_out()
    (study.folder / "mdp/seed0/few/evaluation.json").unlink()
    study.carry_out()
    assert [name for name, *_ in study.calls()][7:] == ["mdp/seed0/few"]


def test_a_failure_takes_its_dependents_and_no_others(study):
    study.order(mdp__seed0__pretrain="fail", scratch__seed0__few="vanish")
    study.carry_out()
    assert [name for name, *_ in study.calls()] == ["scratch/seed0/few", "scratch/seed0/many", "mdp/seed0/pretrain"]
    log = study.folder / "logs" / "mdp-seed0-pretrain.log"
    assert study.failures["mdp/seed0/pretrain"] == f"exit status 2, mdp: this one went wrong ({log})"
    assert study.failures["scratch/seed0/few"].startswith("exit status 0, it printed nothing")
    assert study.failures["mdp/seed0/few"] == "not started, as mdp/seed0/pretrain failed"
    assert study.failures["longer/seed0/few"] == "not started, as longer/seed0/pretrain failed"
    assert len(study.failures) == 6 and "this one went wrong" in study.said.getvalue()
    study.order(mdp__seed0__pretrain="vanish")  # of the second attempt's words, of which there are none
    assert "it printed nothing" in study.carry_out().failures["mdp/seed0/pretrain"]
    study.order()
    assert not study.carry_out().failures
    assert all(runs.finished(run, study.folder) for run in study.runs)


def test_scores_that_cannot_be_used_are_a_failure_of_their_run_alone(study):
    study.order(scratch__seed0__few="no score")
    for _ in range(2):  # also where they lie there from before
        study.carry_out()
        file = study.folder / "scratch/seed0/few/evaluation.json"
        reason = f"{file}: no mIoU; expected validation photos with labelled pixels"
        assert study.failures == {"scratch/seed0/few": reason}
    assert len(study.calls()) == len(study.runs)


@pytest.mark.parametrize(("order", "error"), [("stop parent", PreemptedError), ("interrupt parent", KeyboardInterrupt)])
def test_stopping_waits_for_the_children(study, order, error):
    study.order(mdp__seed0__pretrain=order)
    with pytest.raises(error):
        study.carry_out()
    assert (study.folder / "saved").exists()  # written after the signal was passed on
    assert not study.failures and len(study.calls()) == 3
    study.order()
    study.carry_out()
    assert [name for name, *_ in study.calls()][3:] == [run.name for run in study.runs[2:]]


def test_minutes_that_are_over(study):
    """The run that is under way is told to save; it is no failure, and the next call goes on with it."""
    study.order(mdp__seed0__pretrain="wait")
    study.carry_out(minutes=0.05)
    assert study.out_of_time and not study.failures and (study.folder / "saved").exists()
    assert "time is over: waiting for 1 run to save" in study.said.getvalue()
    names = [run.name for run in study.runs]
    assert [name for name, *_ in study.calls()] == names[: names.index("mdp/seed0/pretrain") + 1]
    study.order()
    study.carry_out(minutes=60)
    assert not study.out_of_time and all(runs.finished(run, study.folder) for run in study.runs)


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_two_at_once_on_their_own_cores(tmp_path):
    study = Study(tmp_path, seeds=2).carry_out(engine.slots(2))
    names = [name for name, *_ in study.calls()]
    assert sorted(names) == sorted(run.name for run in study.runs)
    shares = {tuple(cores) for _, cores, _ in study.calls()}
    assert len(shares) == 2 and sorted(sum(shares, ())) == CORES
    for run in study.runs:
        assert not run.needs or names.index(run.needs) < names.index(run.name)


def test_places():
    half = len(CORES) // 2
    assert engine.slots(1) == [(set(CORES), {})]
    if half:
        places = engine.slots(2, ["0", "3"])
        assert places == [
            (set(CORES[:half]), {"CUDA_VISIBLE_DEVICES": "0"}),
            (set(CORES[half:]), {"CUDA_VISIBLE_DEVICES": "3"}),
        ]
    with pytest.raises(UserError, match=f"expected 1 to {len(CORES)}, the number of cores"):
        engine.slots(len(CORES) + 1)


def test_device_reaches_the_command(study):
    study.carry_out([(set(CORES), {"CUDA_VISIBLE_DEVICES": "5"})])
    assert {device for *_, device in study.calls()} == {"5"}
