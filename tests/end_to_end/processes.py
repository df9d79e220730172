"""`mdp` commands in several processes on this machine, each with virtual CPU devices of its own."""

import os
import pathlib
import socket
import subprocess
import sys

from tests import small

ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMMAND = "from mdp_jax.cli import main; main()"


def command() -> list[str]:
    """Runs `mdp` with the network and the pages that this process has (tests/small.py)."""
    return [sys.executable, "-c", small.prelude() + _COMMAND]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(words: list[str], processes: int, devices: int, **variables: str) -> list[subprocess.Popen]:
    """Starts `mdp WORDS` in so many processes with so many devices each; process i gets the i-th item of a tuple."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    address = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(processes)]
    runs = []
    for i in range(processes):
        own = [word[i] if isinstance(word, tuple) else word for word in words]
        own += [*address, "--process", str(i)] if processes > 1 else []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        runs.append(subprocess.Popen([*command(), *own], env=environment, cwd=ROOT, **pipes))
    return runs


def finish(runs: list[subprocess.Popen], timeout: float = 300) -> list[tuple[int, str]]:
    """(exit status, what it printed) of every process; all are killed where one of them takes too long."""
    try:
        return [(run.returncode, output) for run in runs for output in [run.communicate(timeout=timeout)[0]]]
    finally:
        for run in runs:
            run.kill()
