"""One fine-tuning through kill -9, SIGTERM and Ctrl-C at chosen moments: `python -m tests.robustness.kills --help`.

It must end as the run that nobody disturbed, bit for bit; Ctrl-C and SIGTERM must not lose a step that was done.
"""

import argparse
import collections
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from mdp_jax.storage import checkpoints
from mdp_jax.storage.metrics_file import read_metrics
from mdp_jax.training.signals import STATUS
from tests.end_to_end import processes
from tests.end_to_end.faults import last_step, require_equal, unfinished

CONFIG = "tests/robustness/kills_config.py"
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EVERY = 4  # steps from one validation to the next, as the config has it
PATIENCE = 120  # seconds that a moment is waited for
SPEED = ("images_per_second", "data_wait_fraction")  # values of a row that differ from run to run


class Event(NamedTuple):
    """One signal.

    Attributes:
      kind: name of the signal.
      moment: that it was meant for.
      status: with which the process ended; 0 where it had ended before.
      step: last row of the metrics.
      saved: newest checkpoint.
    """

    kind: str
    moment: str
    status: int
    step: int
    saved: int


def start(folder: pathlib.Path, steps: int) -> subprocess.Popen:
    """Starts the run in a folder."""
    words = ["finetune", "--config", CONFIG, "--workdir", str(folder), f"--config.steps={steps}"]
    return processes.start(words, processes=1, devices=2)[0]


def newest(folder: pathlib.Path) -> int:
    """The newest checkpoint that was committed, 0 where there is none."""
    steps = [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdecimal()]
    return max(steps, default=0)


def _moments(folder: pathlib.Path, steps: int, rng: random.Random) -> dict[str, Callable[[], bool]]:
    """{moment: whether it has come}, as seen from the start of a process."""
    since, first, before = time.monotonic(), last_step(folder), unfinished(folder)
    delay, ahead = rng.uniform(0, 4), rng.randint(1, 4)
    events = folder / "events"
    files = lambda: len(list(folder.glob("events.out*"))) + (len(list(events.glob("*"))) if events.is_dir() else 0)  # noqa: E731
    opened = files()

    def validating() -> bool:
        rows = read_metrics(folder)
        return bool(rows) and rows[-1]["step"] > first and rows[-1]["step"] % EVERY == 0 and "val_mIoU" not in rows[-1]

    return {
        "start": lambda: time.monotonic() - since > delay,
        "compile": lambda: files() > opened,  # the files of the loop are there, and its first step is not
        "step": lambda: last_step(folder) >= min(first + ahead, steps),
        "save": lambda: bool(unfinished(folder) - before),
        "validation": validating,
        "report": lambda: newest(folder) == steps and time.monotonic() - since > delay,
    }


def disturb(folder: pathlib.Path, steps: int, kind: signal.Signals, moment: str, rng: random.Random) -> Event:
    """Starts the run, sends it one signal at a moment, and waits for its end."""
    has_come = _moments(folder, steps, rng)[moment]
    run, until = start(folder, steps), time.monotonic() + PATIENCE
    while run.poll() is None and not has_come() and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.05))
    run.send_signal(kind)
    ((status, output),) = processes.finish([run])
    event = Event(kind.name, moment, status, last_step(folder), newest(folder))
    # A process that Python had not started, or had ended, dies of the signal itself: the shell says the same number.
    expected = {0, -kind} if kind == signal.SIGKILL else {0, -kind, STATUS[kind]}
    if status not in expected or ("Traceback" in output and status != -kind):
        raise RuntimeError(f"{event}: {output}")
    if kind != signal.SIGKILL and event.saved < event.step:
        raise RuntimeError(f"steps were lost: {event}: {output}")
    return event


def _plan(count: int, rng: random.Random) -> Iterator[tuple[signal.Signals, str]]:
    """Signals and moments: all of them about equally often, those of the report last."""
    moments = ("start", "compile", "step", "save", "validation")
    reports = max(1, count // 6)
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    rng.shuffle(kinds)
    for i, kind in enumerate(kinds):
        yield kind, "report" if i >= count - reports else moments[i % len(moments)]


def finish(folder: pathlib.Path, steps: int) -> None:
    """Runs to the end."""
    ((status, output),) = processes.finish([start(folder, steps)])
    if status:
        raise RuntimeError(output)


def torment(folder: pathlib.Path, steps: int, count: int, seed: int) -> list[Event]:
    """Runs to the end through so many signals."""
    rng, events = random.Random(seed), []
    for kind, moment in _plan(count, rng):
        if moment == "report" and newest(folder) < steps:
            finish(folder, steps)  # so that what is left is to score it and to write
        events.append(disturb(folder, steps, kind, moment, rng))
        print(json.dumps(events[-1]._asdict()), flush=True)
    finish(folder, steps)
    return events


def require_same(ours: pathlib.Path, expected: pathlib.Path) -> int:
    """Checks that two workdirs ended alike: states and best states bit for bit, scores, metrics.

    Returns the number of arrays of the last state.
    """
    scores = [(folder / "evaluation.json").read_text() for folder in (ours, expected)]
    rows = [
        [{key: value for key, value in row.items() if key not in SPEED} for row in read_metrics(folder)]
        for folder in (ours, expected)
    ]
    if scores[0] != scores[1]:
        raise AssertionError("other scores")
    of_steps = [[row for row in found if "loss" in row] for found in rows]
    if of_steps[0] != of_steps[1]:
        raise AssertionError("other metrics")
    if not (ours / "report.html").exists():
        raise AssertionError("no report")
    best = [checkpoints.choose(folder, checkpoints.BEST) for folder in (ours, expected)]
    if best[0].step != best[1].step or best[0].saved.meta != best[1].saved.meta:
        raise AssertionError("another best checkpoint")
    jax.tree.map(np.testing.assert_array_equal, *(found.saved.state for found in best))
    return require_equal(ours, expected)


def main() -> None:
    """Runs the study and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--count", type=int, default=30, help="signals (default 30)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        finish(folder / "undisturbed", args.steps)
        events = torment(folder / "disturbed", args.steps, args.count, args.seed)
        arrays = require_same(folder / "disturbed", folder / "undisturbed")
    hit = collections.Counter(f"{event.kind} {event.moment}" for event in events if event.status)
    print(", ".join(f"{number} {name}" for name, number in sorted(hit.items())))
    print(
        f"{sum(hit.values())} of {len(events)} signals hit the run; all {arrays} arrays, the scores and the metrics ",
        end="",
    )
    print(f"are those of the undisturbed run after {args.steps} steps")
    sys.exit(0)


if __name__ == "__main__":
    main()
