"""Runs the scripts of launch/ where they reach no cloud, no cluster and no package index, and reads what they print."""

import os
import pathlib
import shlex
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = {
    name: LAUNCH / name
    for name in (
        "gpu_smoke.sh",
        "single_gpu.sh",
        "tpu_pod.sh",
        "tpu_worker.sh",
        "gke/submit.sh",
        "slurm/train.sbatch",
    )
}
OUTSIDE = (
    "gcloud",
    "tar",
    "kubectl",
    "gcsfuse",
    "sudo",
    "systemctl",
    "mountpoint",
    "srun",
    "scontrol",
    "nvidia-smi",
    "make",
)


class StandIns:
    """A folder for PATH with a stand-in for every command that reaches outside: it notes the call and fails."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self._log = folder / "stand_ins", folder / "calls"
        self.folder.mkdir()
        self._log.touch()
        for name in OUTSIDE:
            self.set(name, "exit 97")

    def set(self, name: str, body: str) -> None:
        """Gives the stand-in of a command another body, in bash."""
        file = self.folder / name
        file.write_text(f'#!/bin/bash\n{{ printf "%q " {name} "$@"; echo; }} >>{shlex.quote(str(self._log))}\n{body}\n')
        file.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """The calls so far, as words."""
        return [shlex.split(line) for line in self._log.read_text().splitlines()]

    def environment(self) -> dict[str, str]:
        """Of a script: its PATH begins with the stand-ins, and no account or variable of a job is inherited."""
        kept = {key: os.environ[key] for key in ("HOME", "TMPDIR", "LANG") if key in os.environ}
        return kept | {"PATH": f"{self.folder}:/usr/bin:/bin", "CLOUDSDK_CONFIG": str(self.folder / "no_account")}


def start(script: pathlib.Path, arguments, stand_ins: StandIns, cwd=ROOT, **variables: str) -> subprocess.Popen:
    """Starts a script in a session of its own."""
    before = signal.getsignal(signal.SIGINT)
    # A shell cannot trap what it was started with as ignored, as background jobs are with SIGINT. To set it in the new
    # process (`preexec_fn`) would copy this whole process, whose threads may hold locks.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            ["bash", str(script), *arguments],
            cwd=cwd,
            env=stand_ins.environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def run(script: pathlib.Path, arguments, stand_ins: StandIns, cwd=ROOT, **variables: str):
    """Runs a script to its end: exit status, standard output, standard error."""
    process = start(script, arguments, stand_ins, cwd, **variables)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def commands(text: str) -> list[list[str]]:
    """The printed commands as words; lines that begin with # are remarks."""
    return [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]


def mdp_arguments(words: list[str]) -> list[str] | None:
    """What follows `mdp` in a command, also where it lies in a command for a remote shell; None without mdp."""
    for i, word in enumerate(words):
        if word.endswith("bin/mdp"):
            return words[i + 1 :]
        if word.endswith("tpu_worker.sh") and words[i + 1] == "start":
            return words[i + 2 :]
        if word.startswith("--command="):
            return mdp_arguments(shlex.split(word.removeprefix("--command=")))
    return None
