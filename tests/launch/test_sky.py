"""The task files of launch/sky: what they run, and whether SkyPilot's own parser takes them."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

from mdp_jax import distributed
from tests.launch.scripts import LAUNCH, ROOT

FILES = sorted((LAUNCH / "sky").glob("*.yaml"))
SHELLCHECK = pathlib.Path(sys.executable).parent / "shellcheck"
# SkyPilot brings a hundred packages, some of them in versions of their own, so it has an environment of its own.
SKY_PYTHON = pathlib.Path(os.environ.get("MDP_SKY_PYTHON", ROOT / ".venv-sky" / "bin" / "python"))
STAND_IN = r"""#!/bin/bash
printf "%s\n" "$@"
env | grep "^MDP_" >&2
exit 143
"""
PARSE = """
import json, sys
import sky, yaml

found = {}
for name in sys.argv[1:]:
    task = sky.Task.from_yaml_config(yaml.safe_load(open(name)), env_overrides=[("BUCKET", "gs://my-bucket")])
    found[name] = {
        "nodes": task.num_nodes,
        "mounts": {path: [str(storage.source), storage.mode.value] for path, storage in task.storage_mounts.items()},
        "resources": [
            [dict(one.accelerators), str(one.cloud), one.use_spot, one.job_recovery] for one in task.resources
        ],
    }
print(json.dumps(found))
"""


def task_of(file):
    return yaml.safe_load(file.read_text())


def test_there_is_one_for_each_kind_of_machine():
    assert {"gpu", "nodes", "tpu", "spot"} <= {file.stem for file in FILES}


@pytest.fixture
def mdp(tmp_path):
    """A function that runs the `run` of a task as SkyPilot does: what `mdp` was given, with its variables."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stand_in = tmp_path / ".venv/bin/mdp"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)

    def start(task, **variables):
        environment = {"PATH": "/usr/bin:/bin", **task["envs"], **variables}
        environment = {name: value for name, value in environment.items() if value is not None}
        done = subprocess.run(
            ["bash", "-c", task["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 143, done.stderr  # the status goes through to SkyPilot
        return done.stdout.splitlines(), dict(line.split("=", 1) for line in done.stderr.splitlines())

    return start


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_run(file, mdp, accepted):
    task = task_of(file)
    values = "--config configs/finetune/voc.py --workdir /mnt/mdp/x --config.data.crop=(64,64) --init /mnt/mdp/y"
    ips = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    words, variables = mdp(task, **ips)
    assert words[:2] == ["pretrain", "--platform"]
    assert words[2] == ("tpu" if file.stem == "tpu" else "gpu")
    assert f"[{'tpu' if file.stem == 'tpu' else 'cuda12'},gcs,s3]" in task["setup"]
    accepted(words)
    words, _ = mdp(task, **ips, PART="finetune", ARGUMENTS=values)
    assert words[3:] == shlex.split(values)
    accepted(words)
    if task.get("num_nodes", 1) > 1:
        names = {name: variables[variable] for name, variable in distributed.VARIABLES.items()}
        assert names == {"coordinator": "10.0.0.1:8476", "processes": "2", "process": "1"}
    else:
        assert not variables


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_several_machines_share_their_workdir(file):
    """Also a run that is started again elsewhere needs a workdir that outlives its machine."""
    task = task_of(file)
    outlives = task["envs"]["ARGUMENTS"].split("--workdir ")[1].startswith("/mnt/mdp/")
    assert outlives == ("/mnt/mdp" in task.get("file_mounts", {})) == (file.stem != "gpu")


def test_a_stopped_run_goes_on_and_a_wrong_one_ends():
    recovery = task_of(LAUNCH / "sky/spot.yaml")["resources"]["job_recovery"]
    assert recovery == {"recover_on_exit_codes": [143, 75], "max_restarts_on_errors": 0}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck(file, part):
    done = subprocess.run(
        [SHELLCHECK, "--shell=bash", "-"], input=task_of(file)[part], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not SKY_PYTHON.exists(), reason="SkyPilot is not installed: make sky, or set MDP_SKY_PYTHON")
def test_skypilot_takes_them(tmp_path):
    """In its own environment, without an account, and without a server."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    command = [SKY_PYTHON, "-c", PARSE, *map(str, FILES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {pathlib.Path(name).stem: task for name, task in json.loads(done.stdout.splitlines()[-1]).items()}
    assert found["nodes"]["nodes"] == 2
    assert found["nodes"]["resources"] == [[{"A100-80GB": 8}, "GCP", False, None]]
    assert found["tpu"]["resources"][0][:3] == [{"tpu-v5litepod-16": 1}, "GCP", False]
    assert len(found["gpu"]["resources"]) == 3
    for accelerators, cloud, spot, recovery in found["spot"]["resources"]:
        assert len(accelerators) == 1 and cloud == "GCP" and spot
        assert recovery["recover_on_exit_codes"] == [143, 75]
    for name in ("nodes", "tpu", "spot"):
        assert found[name]["mounts"] == {"/mnt/mdp": ["gs://my-bucket", "MOUNT"]}


@pytest.mark.skipif(not SKY_PYTHON.exists(), reason="SkyPilot is not installed: make sky, or set MDP_SKY_PYTHON")
def test_skypilot_refuses_a_wrong_file(tmp_path):
    """Its parser does look at the fields."""
    (tmp_path / "wrong.yaml").write_text((LAUNCH / "sky/spot.yaml").read_text().replace("use_spot", "use_spots"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    command = [SKY_PYTHON, "-c", PARSE, str(tmp_path / "wrong.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "use_spots" in done.stderr
