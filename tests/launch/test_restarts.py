"""What the scripts do when a run is stopped, fails or is preempted, with stand-ins for everything around them."""

import shutil
import signal
import time

import pytest

from tests.launch.scripts import LAUNCH, SCRIPTS, run, start

TRAIN = ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "/mnt/mdp/runs/q"]
POD = ["--name", "pod", "--zone", "z", "--type", "v6e-8", "--mount", "10.0.0.2:/share"]


@pytest.fixture
def repository(tmp_path, stand_ins):
    """A copy of launch/ whose .venv/bin/mdp is a stand-in; a function gives it a body and returns the folder."""
    root = tmp_path / "repository"
    shutil.copytree(LAUNCH, root / "launch")
    (root / ".venv/bin").mkdir(parents=True)
    for part in ("pretrain", "finetune"):
        (root / f"configs/quickstart/{part}.py").parent.mkdir(parents=True, exist_ok=True)
        (root / f"configs/quickstart/{part}.py").touch()
    stand_ins.set("make", "exit 0")

    def mdp(body):
        stand_ins.set("mdp", body)
        (root / ".venv/bin/mdp").unlink(missing_ok=True)
        (root / ".venv/bin/mdp").symlink_to(stand_ins.folder / "mdp")
        return root

    return mdp


def parts(stand_ins):
    return [call[1] for call in stand_ins.calls() if call[0] == "mdp"]


def single_gpu(root, stand_ins, *arguments):
    return run(root / "launch/single_gpu.sh", ["--extra", "none", *arguments], stand_ins, cwd=root)


def test_single_gpu_goes_on_after_143(repository, stand_ins):
    root = repository("[ $1 != pretrain ] || [ -e again ] || { touch again; exit 143; }")
    status, _, err = single_gpu(root, stand_ins)
    assert status == 0
    assert parts(stand_ins) == ["pretrain", "pretrain", "finetune", "evaluate"]
    assert err == "single_gpu.sh: mdp pretrain was stopped after a checkpoint and goes on (restart 1 of 20)\n"


def test_single_gpu_waits_for_a_disk_that_does_not_answer(repository, stand_ins):
    stand_ins.set("sleep", "exit 0")
    root = repository("[ $1 != finetune ] || [ -e again ] || { touch again; exit 75; }")
    status, _, err = single_gpu(root, stand_ins)
    assert status == 0
    assert parts(stand_ins) == ["pretrain", "finetune", "finetune", "evaluate"]
    assert err == "single_gpu.sh: mdp finetune met a disk that did not answer and goes on (restart 1 of 20)\n"
    assert ["sleep", "30"] in stand_ins.calls()


@pytest.mark.parametrize(("status", "starts"), [(2, 1), (3, 1), (75, 3), (143, 3)])
def test_single_gpu_gives_up(status, starts, repository, stand_ins):
    stand_ins.set("sleep", "exit 0")
    root = repository(f"exit {status}")
    assert single_gpu(root, stand_ins, "--restarts", "2")[0] == status
    assert parts(stand_ins) == ["pretrain"] * starts


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_single_gpu_passes_a_signal_on_and_waits(sent, repository, stand_ins):
    """The checkpoint is saved after the signal; then nothing is started again."""
    body = "trap 'sleep 0.3; touch saved; exit 143' TERM; touch running; while :; do sleep 0.05; done"
    root = repository(body)
    process = start(root / "launch/single_gpu.sh", ["--extra", "none"], stand_ins, cwd=root)
    while not (root / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert (root / "saved").exists()
    assert parts(stand_ins) == ["pretrain"]


def gcloud(stand_ins, body):
    """What gcloud was asked for, as in `create`, by `resume`, where `describe` does what the body says."""
    stand_ins.set("gcloud", f'case "$*" in *describe*) {body} ;; esac')
    for name in ("sleep", "tar"):
        stand_ins.set(name, "exit 0")
    status, out, err = run(SCRIPTS["tpu_pod.sh"], ["resume", *POD, "--", *TRAIN], stand_ins)
    return status, out + err, [call[4] for call in stand_ins.calls() if call[0] == "gcloud"]


FROM_INSTALL = ["scp", "ssh", "ssh"]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("echo ACTIVE", ["describe", "describe"]),
        ("echo SUSPENDED", ["describe", "delete", "create", "describe"]),
        ("exit 1", ["describe", "create", "describe"]),
        ("echo PROVISIONING", ["describe", "describe"]),
    ],
    ids=["there", "preempted", "none", "waiting"],
)
def test_tpu_pod_resumes_from_every_state(first, expected, stand_ins):
    """`first` is what the first `describe` does; from the second on the slice is there."""
    status, _, calls = gcloud(stand_ins, f"[ -e $0.asked ] && echo ACTIVE || {{ touch $0.asked; {first}; }}")
    assert status == 0
    assert calls == expected + FROM_INSTALL


def test_tpu_pod_stops_where_the_slice_cannot_be_had(stand_ins):
    status, said, calls = gcloud(stand_ins, "echo FAILED")
    assert status == 1
    assert said == "tpu_pod.sh: pod is FAILED\n"
    assert calls == ["describe", "delete", "create", "describe"]


def test_tpu_pod_stops_where_a_step_fails(stand_ins):
    stand_ins.set("tar", "exit 0")
    stand_ins.set("gcloud", 'case "$*" in *describe*) echo ACTIVE ;; *scp*) exit 5 ;; esac')
    assert run(SCRIPTS["tpu_pod.sh"], ["resume", *POD, "--", *TRAIN], stand_ins)[0] == 5
    assert stand_ins.calls()[-1][4] == "scp"


@pytest.mark.parametrize(("state", "started"), [("active", False), ("activating", False), ("failed", True)])
def test_tpu_worker_starts_once(state, started, stand_ins):
    stand_ins.set("mountpoint", "exit 0")
    stand_ins.set("systemctl", f"echo {state}")
    stand_ins.set("sudo", "exit 0")
    assert run(SCRIPTS["tpu_worker.sh"], ["start", *TRAIN], stand_ins)[0] == 0
    assert any(call[:2] == ["sudo", "systemd-run"] for call in stand_ins.calls()) == started


def test_tpu_worker_needs_the_shared_folder(stand_ins):
    status, _, err = run(SCRIPTS["tpu_worker.sh"], ["start", *TRAIN], stand_ins)
    assert status == 2
    assert "/mnt/mdp is not mounted on " in err
    assert [call[0] for call in stand_ins.calls()] == ["mountpoint"]
    in_bucket = ["start", *TRAIN[:-1], "gs://bucket/runs/q"]
    assert TRAIN[-2] == "--workdir" and run(SCRIPTS["tpu_worker.sh"], in_bucket, stand_ins)[0] == 97
    assert [call[0] for call in stand_ins.calls()] == ["mountpoint", "systemctl", "sudo", "sudo"]


def slurm(stand_ins, **variables):
    job = {"SLURM_JOB_ID": "71", "SLURM_NTASKS_PER_NODE": "8", "SLURM_GPUS_ON_NODE": "8"} | variables
    stand_ins.set("scontrol", "exit 0")
    return run(SCRIPTS["slurm/train.sbatch"], TRAIN, stand_ins, **job)


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(0, 0, False), (2, 0, False), (134, 0, False), (143, 99, True), (75, 0, True), (75, 19, True), (75, 20, False)],
)
def test_slurm_queues_again_after_143_and_some_75(status, restarts, requeued, stand_ins):
    stand_ins.set("srun", f"exit {status}")
    assert slurm(stand_ins, SLURM_RESTART_COUNT=str(restarts))[0] == status
    assert (["scontrol", "requeue", "71"] in stand_ins.calls()) == requeued


def test_slurm_stays_cancelled_after_scancel(stand_ins):
    """scancel sends SIGTERM to the batch shell as well as to the tasks."""
    stand_ins.set("srun", "kill -TERM $PPID; exit 143")
    assert slurm(stand_ins)[0] == 143
    assert [call[0] for call in stand_ins.calls()] == ["srun"]


def test_slurm_wants_a_task_for_each_gpu(stand_ins):
    status, _, err = slurm(stand_ins, SLURM_NTASKS_PER_NODE="1")
    assert status == 2
    assert err.startswith("train.sbatch: 1 tasks and 8 GPUs on a node: expected as many tasks as GPUs")
    assert stand_ins.calls() == []


def test_slurm_submitted_from_elsewhere(stand_ins, tmp_path):
    status, _, err = slurm(stand_ins, SLURM_SUBMIT_DIR=str(tmp_path))
    assert status == 2
    assert err == f"train.sbatch: {tmp_path}: expected the folder of the repository; submit from there\n"
