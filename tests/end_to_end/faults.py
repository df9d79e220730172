"""A run that is killed again and again must end as the run that never was: `python -m tests.end_to_end.faults --help`.

Each kill comes at a random moment: while the process starts, in a step, or while a checkpoint is written.
"""

import argparse
import json
import pathlib
import random
import signal
import sys
import time

import jax
import numpy as np

from mdp_jax.storage import checkpoints as checkpoint
from mdp_jax.storage.metrics_file import read_metrics
from tests.end_to_end import processes

CONFIG = "tests/end_to_end/faults_config.py"
STARTING = 0.15  # share of the kills that come while a process starts
START_SECONDS = 6.0  # within which those come
STEPS_BETWEEN = 12  # at most, in the long form, from where a process goes on to where it is killed


def pretrain(folder: pathlib.Path, steps: int, devices: int = 2):
    """Starts the run in `folder`."""
    words = ["pretrain", "--config", CONFIG, "--workdir", str(folder), f"--config.steps={steps}"]
    return processes.start(words, processes=1, devices=devices)[0]


def last_step(folder: pathlib.Path) -> int:
    """The last step in metrics.jsonl, 0 where there is none."""
    rows = read_metrics(folder)
    return rows[-1]["step"] if rows else 0


def unfinished(folder: pathlib.Path) -> set[str]:
    """Names of checkpoints whose writing was begun and not ended."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}


def disturb(run, folder: pathlib.Path, kind: signal.Signals, rng: random.Random, between: int) -> dict:
    """Sends one signal at a random moment, waits for the end, and says what was hit; a run may end before."""
    before = unfinished(folder)
    if kind == signal.SIGKILL and rng.random() < STARTING:
        time.sleep(rng.uniform(0, START_SECONDS))
    else:
        target = last_step(folder) + rng.randint(1, between)
        while run.poll() is None and last_step(folder) < target:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
    run.send_signal(kind)
    ((status, output),) = processes.finish([run])
    writing = sorted(unfinished(folder) - before)
    skipped = [line for line in output.splitlines() if line.startswith("skipped")]
    return {"signal": kind.name, "status": status, "step": last_step(folder), "writing": writing, "skipped": skipped}


def torment(
    folder: pathlib.Path, steps: int, kills: int, terms: int, seed: int, between: int = STEPS_BETWEEN
) -> list[dict]:
    """Runs to the end through so many signals, in a random order; returns what each of them hit."""
    rng = random.Random(seed)
    kinds = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(kinds)
    events = []
    for kind in kinds:
        events.append(disturb(pretrain(folder, steps), folder, kind, rng, between))
        print(json.dumps(events[-1]), flush=True)
        expected = {signal.SIGKILL: (-9, 0), signal.SIGTERM: (143, 0)}[kind]
        if events[-1]["status"] not in expected:
            raise RuntimeError(f"unexpected exit status: {events[-1]}")
    ((status, output),) = processes.finish([pretrain(folder, steps)])
    if status != 0:
        raise RuntimeError(output)
    return events


def require_equal(ours: pathlib.Path, expected: pathlib.Path) -> int:
    """Checks that two workdirs ended in the same state, bit for bit; returns how many arrays were compared."""
    states = [checkpoint.load(folder)[0] for folder in (ours, expected)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    return len(jax.tree.leaves(states[0]))


def main() -> None:
    """Runs the study and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="new folder for both runs")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terms", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    ((status, output),) = processes.finish([pretrain(args.folder / "undisturbed", args.steps)])
    if status != 0:
        sys.exit(output)
    events = torment(args.folder / "disturbed", args.steps, args.kills, args.terms, args.seed)
    arrays = require_equal(args.folder / "disturbed", args.folder / "undisturbed")
    interrupted = sum(event["status"] != 0 for event in events)
    writing = sum(bool(event["writing"]) for event in events)
    print(f"{interrupted} of {len(events)} signals hit the run, {writing} while a checkpoint was written; ", end="")
    print(f"all {arrays} arrays are equal, bit for bit, after {args.steps} steps")


if __name__ == "__main__":
    main()
