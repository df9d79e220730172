"""How processes are told of each other; what they do together is tested by end_to_end/test_processes.py."""

import argparse

import numpy as np
import pytest

from mdp_jax import distributed
from mdp_jax.commands import arguments
from mdp_jax.errors import UserError


def given(words, environment=()):
    parser = argparse.ArgumentParser()
    arguments.add_processes(parser)
    return distributed.given(parser.parse_args(words), dict(environment))


def test_flags_then_variables_then_nothing():
    flags = ["--coordinator", "host:1234", "--processes", "4", "--process", "3"]
    variables = {"MDP_COORDINATOR": "other:99", "MDP_PROCESSES": "4", "MDP_PROCESS": "0"}
    assert given(flags) == ("host:1234", 4, 3)
    assert given([], variables) == ("other:99", 4, 0)
    assert given(["--process", "1"], variables) == ("other:99", 4, 1)
    assert given([]) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "--coordinator .or MDP_COORDINATOR.: missing"),
        (
            ["--coordinator", "host", "--processes", "2", "--process", "0"],
            "--coordinator host .or MDP_COORDINATOR.: expected HOST:PORT",
        ),
        (
            ["--coordinator", "host:1", "--processes", "two", "--process", "0"],
            "--processes two .or MDP_PROCESSES.: expected a whole",
        ),
        (
            ["--coordinator", "host:1", "--processes", "²", "--process", "0"],
            "--processes ² .or MDP_PROCESSES.: expected a",
        ),
        (
            ["--coordinator", "host:99999", "--processes", "2", "--process", "0"],
            "--coordinator host:99999 .* HOST:PORT",
        ),
        (
            ["--coordinator", "host:1", "--processes", "2", "--process", "2"],
            "--process 2: expected a number from 0 to 1, as",
        ),
    ],
)
def test_what_cannot_be(words, message):
    with pytest.raises(UserError, match=message):
        given(words)


def test_one_task_of_slurm_is_not_a_cluster():
    assert not distributed.on_a_cluster({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1"})
    assert not distributed.on_a_cluster({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"})  # a batch script, without srun
    assert distributed.on_a_cluster({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"})
    assert not distributed.on_a_cluster({"SLURM_STEP_NUM_TASKS": "", "JAX_PLATFORMS": "cpu"})
    assert not distributed.on_a_cluster({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"dev/accel0": ""}, True),
        ({"dev/accel/accel0": "", "sys/bus/pci/devices/a/vendor": "0x8086\n"}, False),  # another maker's
        ({"dev/vfio/0": "", "sys/bus/pci/devices/a/vendor": "0x1ae0\n"}, True),
        ({"dev/vfio/0": "", "sys/bus/pci/devices/a/vendor": "0x10de\n"}, False),
        ({"sys/bus/pci/devices/a/vendor": "0x1ae0\n"}, False),  # a network card of the same maker
    ],
)
def test_machines_with_a_tpu(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert distributed.has_tpu(tmp_path) is expected


def test_one_process_adds_up_what_it_has():
    counts = np.array([[2**40, 3], [0, 5]])
    assert distributed.total(counts) is counts
    assert distributed.from_main(7) == 7
    distributed.require_agreement({"config.seed": 1})
