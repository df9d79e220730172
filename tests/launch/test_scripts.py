"""What every script of launch/ has in common: shellcheck, --help, one line for wrong arguments, a true --dry-run."""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from mdp_jax import distributed
from mdp_jax.commands import arguments
from tests.launch.scripts import LAUNCH, ROOT, SCRIPTS, commands, mdp_arguments, run

TRAIN = ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "/mnt/mdp/runs/q"]
POD = ["--name", "pod", "--zone", "us-west4-a"]
FULL_POD = [*POD, "--type", "v5litepod-16", "--mount", "10.0.0.2:/share"]


def test_shellcheck():
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=path)
    assert shellcheck, "shellcheck is missing: make venv"
    files = [path for pattern in ("*.sh", "*.sbatch") for path in sorted(LAUNCH.rglob(pattern))]
    assert set(SCRIPTS.values()) < set(files)
    found = subprocess.run([shellcheck, "--external-sources", *files], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_readable(script):
    text = script.read_text()
    assert len(text.splitlines()) < 150
    assert max(map(len, text.splitlines())) <= 160
    assert "set -euo pipefail" in text
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_help(script, stand_ins):
    status, out, err = run(script, ["--help"], stand_ins)
    assert (status, err, stand_ins.calls()) == (0, "", [])
    assert out.startswith("usage: ")
    assert "--dry-run" in out


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gpu_smoke.sh", ["now"], "unknown argument: now"),
        ("gpu_smoke.sh", ["--extra"], "--extra: expected a value"),
        ("gpu_smoke.sh", ["--extra", "tpu"], "--extra tpu: expected cuda12, cuda13 or none"),
        ("gpu_smoke.sh", ["--report", "launch"], "--report launch: exists already"),
        ("gpu_smoke.sh", ["--minutes", "0"], "--minutes 0: expected a whole number from 1 to 999"),
        ("gpu_smoke.sh", ["--steps", "0"], "--steps 0: expected a number"),
        ("gpu_smoke.sh", ["--dry-run", "--tests", "tests/no"], "--tests tests/no: no such file or folder"),
        ("single_gpu.sh", ["--steps", "3"], "unknown argument: --steps"),
        ("single_gpu.sh", ["--workdir"], "--workdir: expected a value"),
        ("single_gpu.sh", ["--extra", "tpu"], "--extra tpu: expected cuda12, cuda13 or none"),
        ("single_gpu.sh", ["--gpu", "0,1"], "--gpu 0,1: expected a number"),
        ("single_gpu.sh", ["--restarts", "-1"], "--restarts -1: expected a number"),
        ("single_gpu.sh", ["--pretrain", "configs/no.py"], "configs/no.py: no such config"),
        ("single_gpu.sh", ["--", "--batch=3"], "--batch=3: expected --config.key=value after --"),
        ("tpu_pod.sh", [], "no command: expected create, install, start"),
        ("tpu_pod.sh", ["restart"], "restart: expected create, install, start"),
        ("tpu_pod.sh", ["delete", "--zone", "z"], "--name is required"),
        ("tpu_pod.sh", ["delete", "--name", "n"], "--zone is required"),
        ("tpu_pod.sh", ["create", *POD, "--type", "v3-8"], "--type v3-8: expected v5litepod-N, v6e-N, v5p-N or v4-N"),
        ("tpu_pod.sh", ["install", *POD, "--mount", "/share"], "--mount /share: expected SERVER:/SHARE or gs://BUCKET"),
        ("tpu_pod.sh", ["start", *POD, "--", "evaluate"], "expected -- pretrain ... or -- finetune ..."),
        ("tpu_pod.sh", ["start", *POD, "--", *TRAIN[:-1], "runs/q"], "expected a --workdir below /mnt/mdp"),
        (
            "tpu_pod.sh",
            ["start", *POD, "--", *TRAIN[:-1], "gs:/b"],
            "expected a --workdir below /mnt/mdp, or in",
        ),
        ("tpu_pod.sh", ["resume", *FULL_POD[:6], "--", *TRAIN], "expected --mount for what is below /mnt/mdp"),
        ("tpu_pod.sh", ["resume", *FULL_POD], "expected -- pretrain ... or -- finetune ..."),
        ("tpu_pod.sh", ["create", *POD, "--gpus", "3"], "unknown argument: --gpus"),
        ("tpu_worker.sh", [], "no command: expected install, start, stop or follow"),
        ("tpu_worker.sh", ["install", "/share"], "install /share: expected SERVER:/SHARE or gs://BUCKET"),
        ("tpu_worker.sh", ["install", "gs://bucket/folder"], "install gs://bucket/folder: expected SERVER:/SHARE"),
        ("tpu_worker.sh", ["start", "evaluate"], "start: expected pretrain or finetune"),
        ("tpu_worker.sh", ["stop", "now"], "stop: expected nothing after it"),
        ("gke/submit.sh", ["cpu"], "cpu: expected tpu or gpu"),
        ("gke/submit.sh", ["tpu", "--", *TRAIN], "--image : expected the name of an image"),
        ("gke/submit.sh", ["tpu", "--image", "i", "--topology", "3x3"], "--topology 3x3: expected 1x1, 2x2, 2x4"),
        ("gke/submit.sh", ["tpu", "--image", "i", "--gpus", "8"], "unknown argument of tpu: --gpus"),
        ("gke/submit.sh", ["gpu", "--image", "i", "--gpus", "08"], "08: expected a number"),
        ("gke/submit.sh", ["gpu", "--image", "i", "--name", "My_run"], "My_run: expected a name of a-z, 0-9 and -"),
        ("gke/submit.sh", ["gpu", "--image", "i", "--", *TRAIN[:-1], "runs/q"], "expected a --workdir below /mnt/mdp"),
        ("slurm/train.sbatch", [], "no part: expected pretrain or finetune"),
        ("slurm/train.sbatch", TRAIN[:3], "--workdir is required"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(name, arguments, message, stand_ins):
    status, out, err = run(SCRIPTS[name], arguments, stand_ins)
    assert (status, out) == (2, "")
    assert err.startswith(f"{SCRIPTS[name].name}: {message}")
    assert err.count("\n") == 1
    assert [call[0] for call in stand_ins.calls()] in ([], ["nvidia-smi"])


def readme_lines():
    blocks = re.findall(r"```bash\n(.*?)```", (LAUNCH / "README.md").read_text(), flags=re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[0].startswith("launch/") or words[0] == "sbatch"]


@pytest.mark.parametrize("words", readme_lines(), ids=shlex.join)
def test_lines_of_the_readme(words, stand_ins, accepted):
    """Each is understood by its script, and what it would give to mdp is understood by mdp; nothing is run."""
    script = next(i for i, word in enumerate(words) if word.startswith("launch/"))
    arguments = words[script + 1 :]
    first = 1 if words[script].endswith(("tpu_pod.sh", "submit.sh")) else 0
    status, out, err = run(ROOT / words[script], [*arguments[:first], "--dry-run", *arguments[first:]], stand_ins)
    assert (status, err) == (0, "")
    assert [call[0] for call in stand_ins.calls()] in ([], ["nvidia-smi"])
    for line in commands(out.split("<<'EOF'")[0]):
        given = mdp_arguments(line)
        if given:
            accepted(given)


def test_readme_shows_every_script_for_users():
    shown = {str(pathlib.Path(word)) for words in readme_lines() for word in words if word.startswith("launch/")}
    assert shown == {f"launch/{name}" for name in SCRIPTS} - {"launch/tpu_worker.sh"}


def test_links_of_the_readme_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", (LAUNCH / "README.md").read_text())
    assert all((LAUNCH / target).exists() for target in targets if not target.startswith("http"))


def test_flags_and_variables_for_other_launchers():
    text = (LAUNCH / "README.md").read_text().split("## Elsewhere")[1]
    flags, *variables = re.findall("`([^`]*(?:MDP_|--coord)[^`]*)`", text)
    parser = argparse.ArgumentParser()
    arguments.add_processes(parser)
    assert vars(parser.parse_args(flags.split())) == {"coordinator": "HOST:PORT", "processes": "N", "process": "I"}
    assert variables == list(distributed.VARIABLES.values())
