"""The commands that each script prints, word by word, and that the real `mdp` understands its part of them."""

import os

import pytest

from tests.launch.scripts import ROOT, SCRIPTS, commands, mdp_arguments, run

MDP = f"{ROOT}/.venv/bin/mdp"
TRAIN = ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "/mnt/mdp/runs/q", "--config.steps=9"]
TPUS = ["gcloud", "compute", "tpus"]
POD = ["--name", "pod", "--zone", "us-west4-a", "--type", "v5litepod-16", "--mount", "10.0.0.2:/share"]
ZONE = "--zone=us-west4-a"
DESCRIBE = [*TPUS, "queued-resources", "describe", "pod", ZONE, "--format=value(state.state)"]
DELETE = [*TPUS, "queued-resources", "delete", "pod", ZONE, "--force", "--quiet"]
CREATE = [*TPUS, "queued-resources", "create", "pod", ZONE, "--node-id=pod", "--accelerator-type=v5litepod-16"]
CREATE += ["--runtime-version=v2-alpha-tpuv5-lite"]
UNPACK = "mkdir -p mdp_jax && tar -xzf mdp_jax.tar.gz -C mdp_jax && "
WORKER = "mdp_jax/launch/tpu_worker.sh "


def on_worker(which, line):
    return [*TPUS, "tpu-vm", "ssh", "pod", f"--worker={which}", f"--command={line}", ZONE]


INSTALL = [
    ["tar", "-czf", "/tmp/pod.tar.gz", "-C", str(ROOT)],
    [*TPUS, "tpu-vm", "scp", "/tmp/pod.tar.gz", "pod:mdp_jax.tar.gz", "--worker=all", ZONE],
    on_worker("all", UNPACK + WORKER + "install 10.0.0.2:/share"),
]
START = on_worker("all", WORKER + f"start {' '.join(TRAIN)}")


@pytest.fixture
def printed(stand_ins, accepted):
    """A function: the commands that a script prints in a dry run, which runs none of them."""

    def dry_run(name, *arguments, **variables):
        status, out, err = run(SCRIPTS[name], arguments, stand_ins, **variables)
        assert (status, err) == (0, "")
        assert [call[0] for call in stand_ins.calls()] in ([], ["nvidia-smi"])
        lines = commands(out)
        for line in lines:
            if mdp_arguments(line):
                accepted(mdp_arguments(line))
        return lines

    return dry_run


def test_single_gpu(printed):
    finetune = [
        "finetune",
        "--platform",
        "gpu",
        "--config",
        "configs/quickstart/finetune.py",
        "--init",
        "runs/single_gpu/pretrain",
    ]
    pretrain = ["--config", "configs/quickstart/pretrain.py"]
    assert printed("single_gpu.sh", "--dry-run") == [
        ["make", "-C", str(ROOT), "venv", "EXTRA=cuda12"],
        ["export", "CUDA_VISIBLE_DEVICES=0"],
        [MDP, "pretrain", "--platform", "gpu", *pretrain, "--workdir", "runs/single_gpu/pretrain"],
        [MDP, *finetune, "--workdir", "runs/single_gpu/finetune"],
        [MDP, "evaluate", "--platform", "gpu", "--checkpoint", "runs/single_gpu/finetune"],
    ]


def test_single_gpu_with_values_for_both_configs(printed):
    options = ["--extra", "cuda13", "--gpu", "3", "--workdir", "my runs", "--dry-run"]
    values = ["--config.data_dir=it's here", "--config.data.mean=(1.0, 2.0, 3.0)"]
    make, device, pretrain, finetune, evaluate = printed("single_gpu.sh", *options, "--", *values)
    assert make[-1] == "EXTRA=cuda13"
    assert device == ["export", "CUDA_VISIBLE_DEVICES=3"]
    assert pretrain[-3:] == ["my runs/pretrain", *values]
    assert finetune[-3:] == ["my runs/finetune", *values]
    assert evaluate[-1] == "my runs/finetune"


def test_single_gpu_on_a_machine_without_one(printed):
    make, pretrain, _, _ = printed("single_gpu.sh", "--extra", "none", "--dry-run")
    assert make == ["make", "-C", str(ROOT), "venv"]
    assert pretrain[:4] == [MDP, "pretrain", "--platform", "cpu"]


def test_gpu_smoke_on_a_gpu(printed, stand_ins, tmp_path):
    stand_ins.set("nvidia-smi", "echo 'NVIDIA L4, 570.86, 23034 MiB'")
    report = str(tmp_path / "report")
    train = [".venv/bin/mdp", "pretrain", "--config", "configs/quickstart/pretrain.py"]
    train += ["--config.steps=7", "--config.log_every=5", "--platform"]
    check = "import jax; print(jax.devices()); assert jax.default_backend() == 'gpu'"
    assert printed("gpu_smoke.sh", "--dry-run", "--report", report, "--steps", "7") == [
        ["make", "venv", "EXTRA=cuda12"],
        [".venv/bin/python", "-c", check],
        [".venv/bin/python", "-m", "pytest", "-q", "tests"],
        [*train, "gpu", "--workdir", f"{report}/pretrain"],
        ["env", "JAX_PLATFORMS=cpu", *train, "cpu", "--workdir", f"{report}/pretrain_cpu"],
        [".venv/bin/mdp", "bench", "--json", f"{report}/bench.json"],
    ]
    assert not (tmp_path / "report").exists()


def test_gpu_smoke_without_a_gpu(printed):
    lines = printed("gpu_smoke.sh", "--dry-run", "--tests", "none")
    assert lines[0] == ["make", "venv"]
    assert lines[1][-1].endswith("== 'cpu'")
    assert [words[1] for words in lines[2:]] == ["pretrain", "bench"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("create", [CREATE, DESCRIBE]),
        ("install", INSTALL),
        ("start", [START]),
        ("follow", [on_worker(0, WORKER + "follow")]),
        ("stop", [on_worker("all", WORKER + "stop")]),
        ("delete", [DELETE]),
        ("resume", [DESCRIBE, DELETE, CREATE, DESCRIBE, *INSTALL, START]),
    ],
)
def test_tpu_pod(command, expected, printed):
    lines = printed("tpu_pod.sh", command, *POD, "--dry-run", "--", *TRAIN, TMPDIR="/tmp")
    packed = [words.pop() for words in lines if words[0] == "tar" for _ in words[5:]]
    assert lines == expected
    if packed:
        assert {"mdp_jax", "configs", "launch", "pyproject.toml"} <= set(packed) <= set(os.listdir(ROOT))
        assert not {".venv", ".git", "runs", "data"} & set(packed)


@pytest.mark.parametrize(
    ("options", "added"),
    [
        (["--spot"], ["--runtime-version=v2-alpha-tpuv5-lite", "--spot"]),
        (["--reserved"], ["--runtime-version=v2-alpha-tpuv5-lite", "--reserved"]),
        (["--type", "v6e-16"], ["--accelerator-type=v6e-16", "--runtime-version=v2-alpha-tpuv6e"]),
        (["--type", "v5p-16"], ["--accelerator-type=v5p-16", "--runtime-version=v2-alpha-tpuv5"]),
        (["--type", "v4-16"], ["--accelerator-type=v4-16", "--runtime-version=tpu-ubuntu2204-base"]),
        (["--runtime", "tpu-next"], ["--accelerator-type=v5litepod-16", "--runtime-version=tpu-next"]),
    ],
)
def test_tpu_pod_kinds_of_slices(options, added, printed):
    create, _ = printed("tpu_pod.sh", "create", *POD, *options, "--dry-run")
    assert create[-len(added) :] == added


def test_tpu_pod_project_goes_to_every_call(printed):
    lines = printed("tpu_pod.sh", "resume", *POD, "--project", "lab", "--dry-run", "--", *TRAIN)
    assert [words[0] for words in lines if "--project=lab" not in words] == ["tar"]


def test_tpu_pod_quotes_twice_for_the_remote_shell(printed):
    (line,) = printed("tpu_pod.sh", "start", *POD, "--dry-run", "--", *TRAIN, "--config.data_dir=it's; echo $HOME")
    assert mdp_arguments(line)[-1] == "--config.data_dir=it's; echo $HOME"


def test_tpu_worker_install(printed):
    python = f"{ROOT}/.venv/bin/python"
    uv = [
        ["python3", "-m", "pip", "install", "--quiet", "--user", "uv"],
        ["python3", "-m", "uv", "venv", "--quiet", "--python", "3.12", f"{ROOT}/.venv"],
        ["python3", "-m", "uv", "pip", "install", "--quiet", "--python", python, "--editable", f"{ROOT}[tpu,gcs,s3]"],
        ["sudo", "mkdir", "-p", "/mnt/mdp"],
    ]
    assert printed("tpu_worker.sh", "--dry-run", "install", "10.0.0.2:/share") == [
        *uv,
        ["sudo", "apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "--yes", "--quiet", "nfs-common"],
        ["sudo", "mount", "-t", "nfs", "10.0.0.2:/share", "/mnt/mdp"],
        ["sudo", "chmod", "a+rwx", "/mnt/mdp"],
    ]
    assert printed("tpu_worker.sh", "--dry-run", "install") == uv[:-1]
    *first, owner, mount = printed("tpu_worker.sh", "--dry-run", "install", "gs://bucket")
    assert first == uv
    assert owner[:2] == ["sudo", "chown"]
    assert mount == ["gcsfuse", "--implicit-dirs", "bucket", "/mnt/mdp"]


def test_tpu_worker_service(printed):
    (line,) = printed("tpu_worker.sh", "--dry-run", "start", *TRAIN)
    end = line.index(MDP)
    assert line[end + 1 :] == [TRAIN[0], "--platform", "tpu", *TRAIN[1:]]
    assert line[:3] == ["sudo", "systemd-run", "--unit=mdp"]
    assert f"--working-directory={ROOT}" in line[:end]
    properties = dict(word.removeprefix("--property=").split("=") for word in line[:end] if "--property=" in word)
    assert properties == {
        "KillMode": "mixed",  # SIGTERM to mdp itself
        "TimeoutStopSec": "120",
        "Restart": "on-failure",
        "RestartSec": "30",
        "RestartPreventExitStatus": "2 3",
        "StartLimitIntervalSec": "21600",
        "StartLimitBurst": "20",
        "LimitMEMLOCK": "infinity",
    }
    assert "--setenv=JAX_COMPILATION_CACHE_DIR=/mnt/mdp/compiled" in line[:end]


def test_a_slice_whose_paths_are_in_buckets_mounts_nothing(printed):
    train = [*TRAIN[:4], "gs://bucket/runs/q", "--config.data_dir=gs://bucket/data"]
    lines = printed("tpu_pod.sh", "resume", *POD[:6], "--dry-run", "--", *train)
    install, start = (line[-2] for line in lines[-2:])
    assert install == f"--command={UNPACK}{WORKER}install"
    assert start == f"--command={WORKER}start {' '.join(train)}"
    (line,) = printed("tpu_worker.sh", "--dry-run", "start", *train)
    assert f"--setenv=JAX_COMPILATION_CACHE_DIR={ROOT}/.compiled" in line
    (line,) = printed("tpu_worker.sh", "--dry-run", "start", *train, "--config.data_dir=/mnt/mdp/data")
    assert "--setenv=JAX_COMPILATION_CACHE_DIR=/mnt/mdp/compiled" in line


def test_tpu_worker_stop_and_follow(printed):
    assert printed("tpu_worker.sh", "--dry-run", "stop") == [["sudo", "systemctl", "stop", "mdp"]]
    ((*line, last),) = printed("tpu_worker.sh", "--dry-run", "follow")
    assert (line[:3], last) == (["sudo", "journalctl", "--unit=mdp"], "--follow")


def test_slurm(printed):
    arguments = [*TRAIN[:4], "runs/slurm", "--config.data_dir=my data"]
    assert printed("slurm/train.sbatch", "--dry-run", *arguments) == [
        ["srun", "--kill-on-bad-exit=0", "--cpus-per-task=1", MDP, arguments[0], "--platform", "gpu", *arguments[1:]],
        ["scontrol", "requeue", "JOB"],
    ]
    variables = {"SLURM_JOB_ID": "71", "SLURM_CPUS_PER_TASK": "12", "SLURM_NTASKS_PER_NODE": "4"}
    step, requeue = printed("slurm/train.sbatch", "--dry-run", *arguments, **variables, SLURM_GPUS_ON_NODE="4")
    assert step[2] == "--cpus-per-task=12"
    assert requeue == ["scontrol", "requeue", "71"]


def test_slurm_directives():
    lines = [line for line in SCRIPTS["slurm/train.sbatch"].read_text().splitlines() if line.startswith("#SBATCH --")]
    options = {name: value for name, _, value in (line.removeprefix("#SBATCH --").partition("=") for line in lines)}
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "TERM@90"  # without B: the steps get it, not the batch shell
    assert options["requeue"] == ""
    assert options["open-mode"] == "append"  # the log of the job queued again goes on
    assert not {"gpus-per-task", "gpu-bind"} & set(options)  # a task must see all GPUs of the node
