"""Runs on disks that are too small for them: `python -m tests.robustness.disk --help`. Needs the right to mount."""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from mdp_jax.storage import checkpoints
from tests.end_to_end import processes

CONFIGS = {"pretrain": "tests/end_to_end/faults_config.py", "finetune": "tests/robustness/kills_config.py"}
# KiB: for less than the config, the metrics, the first save, a later one, the report, all of it
SIZES = (4, 8, 12, 24, 60, 150, 400, 800, 1200, 1700, 2100, 2500, 2700, 3300, 4000, 4600, 5000)


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
      status: of the process; None where it hung.
      errors: lines of its stderr that are no progress.
      saved: steps of the checkpoints that can be read.
    """

    status: int | None
    errors: list[str]
    saved: list[int]


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, kib: int) -> Iterator[pathlib.Path]:
    """A disk of so many KiB.

    Args:
      folder: where it is mounted.
      kib: its size.

    Raises:
      PermissionError: mounting is not allowed here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PermissionError("no mount") from error
    if done.returncode:
        raise PermissionError(done.stderr)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run(loop: str, folder: pathlib.Path, kib: int, steps: int = 8, seconds: int = 120) -> Ended:
    """Trains on a disk of so many KiB, mounted on a folder."""
    with small_disk(folder, kib) as disk:
        words = [loop, "--config", CONFIGS[loop], "--workdir", str(disk / "r"), f"--config.steps={steps}"]
        started = processes.start(words, processes=1, devices=2)
        try:
            ((status, output),) = processes.finish(started, timeout=seconds)
        except subprocess.TimeoutExpired:
            return Ended(None, [], [])
        errors = [line for line in output.splitlines() if line.startswith(("mdp: ", "Traceback", "ERROR", "Exception"))]
        return Ended(status, errors, _readable(disk / "r" / "checkpoints"))


def _readable(folder: pathlib.Path) -> list[int]:
    """The steps of the checkpoints of a folder; those that cannot be read are none."""
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
    if steps:
        found = checkpoints.load(folder.parent, say=_refuse)
        assert int(found.state["step"]) == steps[-1]
    return steps


def _refuse(line: str) -> None:
    raise AssertionError(line)


def problem(ended: Ended) -> str:
    """What is wrong with an end; "" where nothing is."""
    if ended.status is None:
        return "it hung"
    said = [line for line in ended.errors if "TensorBoard" not in line]
    if ended.status == 0 and not said:
        return ""
    if ended.status == 2 and len(said) == 1 and "No space left on device" in said[0]:
        return ""
    return f"status {ended.status}, {said[:3]}"


def main() -> None:
    """Tries all sizes with both loops; exit status 1 where one ended otherwise than in a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="KIB")
    args = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        for loop in CONFIGS:
            for kib in args.sizes:
                began = time.monotonic()
                ended = run(loop, pathlib.Path(place) / "disk", kib)
                wrong = problem(ended)
                bad += bool(wrong)
                seconds = f"{time.monotonic() - began:.0f} s"
                print(f"{loop} {kib} KiB: status {ended.status}, {ended.saved}, {seconds} {wrong}", flush=True)
    print(f"{len(CONFIGS) * len(args.sizes)} runs, {bad} did not end in one line")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
