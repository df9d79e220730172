"""Runs of several processes: the same losses as one, stopped and gone on with by another number of them."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from mdp_jax import config as configs
from mdp_jax import pretrain
from mdp_jax.data import label_space as label_spaces
from mdp_jax.data import sources
from mdp_jax.method.prototypes import Bank, normalise
from mdp_jax.training import checkpoint, sharding, workdir
from mdp_jax.training.monitor import read_metrics
from tests.end_to_end import processes

CONFIG = "tests/end_to_end/processes_config.py"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A workdir whose run has taken one step and has a filled bank, at the peak learning rate: no warm-up."""
    folder = tmp_path_factory.mktemp("filled") / "run"
    config = configs.load(CONFIG)
    datasets = [sources.open_source(s, config.data, config.data_dir, "train", config.seed) for s in config.sources]
    label_space = label_spaces.build(datasets)
    state, places, _, _ = pretrain.build(config, sharding.make_mesh(8), label_space, samples=12)
    vectors = normalise(jax.random.normal(jax.random.key(1), state.bank.vectors.shape))
    bank = Bank(vectors, np.ones(len(vectors), np.int32))
    state = state.replace(step=state.step + 1, bank=jax.device_put(bank, places.bank))
    workdir.start(folder, config, label_space)
    checkpoints = checkpoint.Checkpoints(folder)
    meta = {"config": configs.to_dict(config), "label_space": label_space.rows(), "next_batch": 1}
    checkpoints.save(1, state, meta)
    checkpoints.close()
    return folder


def pretrain_on(folder, count, devices, *words):
    return processes.start(["pretrain", "--config", CONFIG, "--workdir", str(folder), *words], count, devices)


def losses(folder):
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == list(range(rows[0]["step"], rows[0]["step"] + len(rows)))
    return np.array([row["loss"] for row in rows])


@pytest.fixture(scope="module")
def on_one(filled):
    folder = filled.parent / "one"
    shutil.copytree(filled, folder)
    ((status, output),) = processes.finish(pretrain_on(folder, 1, 8))
    assert status == 0, output
    assert "going on after step 1" in output
    return folder


@pytest.mark.parametrize(("count", "devices"), [(2, 4), (4, 2)])
def test_processes_agree_with_one(filled, on_one, tmp_path, count, devices):
    folder = tmp_path / "run"
    shutil.copytree(filled, folder)
    done = processes.finish(pretrain_on(folder, count, devices))
    assert [status for status, _ in done] == [0] * count, done
    expected = losses(on_one)
    assert len(expected) == 20
    assert expected.min() > 1.0, "nothing to compare"
    np.testing.assert_allclose(losses(folder), expected, rtol=1e-5)
    assert (folder / "report.html").exists()
    assert "images/s" in done[0][1]
    assert all("images/s" not in output for _, output in done[1:]), "process 0 alone shows how far it is"


def wait_for_step(folder, step, runs):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and all(run.poll() is None for run in runs):
        if any(row["step"] >= step for row in read_metrics(folder)):
            return
        time.sleep(0.05)
    pytest.fail(f"step {step} did not come: {processes.finish(runs, timeout=1)}")


def test_sigterm_to_one_of_two_stops_both_and_one_goes_on(filled, on_one, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(filled, folder)
    runs = pretrain_on(folder, 2, 4)
    wait_for_step(folder, 4, runs)
    runs[1].send_signal(signal.SIGTERM)
    done = processes.finish(runs)
    assert [status for status, _ in done] == [143, 143], done
    stopped_after = read_metrics(folder)[-1]["step"]
    assert 4 <= stopped_after < 21
    assert json.loads((folder / "config.json").read_text())["steps"] == 21
    ((status, output),) = processes.finish(pretrain_on(folder, 1, 8))
    assert status == 0, output
    assert f"going on after step {stopped_after}" in output
    np.testing.assert_allclose(losses(folder), losses(on_one), rtol=1e-5)


def test_processes_that_disagree_are_named(tmp_path):
    words = [f"--config.seed={seed}" for seed in (0, 3)]
    runs = processes.start(
        ["pretrain", "--config", CONFIG, "--workdir", str(tmp_path / "run"), tuple(words)], processes=2, devices=1
    )
    done = processes.finish(runs)
    assert [status for status, _ in done] == [2, 2], done
    assert "process 1: config.seed is 3, process 0 has 0; expected the same in every process" in done[1][1]
    assert "process 1: another config or label space than process 0" in done[0][1]
    assert not (tmp_path / "run").exists()
