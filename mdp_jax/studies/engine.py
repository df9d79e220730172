"""Runs what is missing of a suite: several runs at once, each in its own process."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import rich.console

from mdp_jax.errors import PreemptedError, UserError
from mdp_jax.reporting.progress import Progress
from mdp_jax.studies.runs import Run, finished
from mdp_jax.words import counted

COMMAND = (sys.executable, "-c", "from mdp_jax.cli import main; main()")
_POLL = 0.1  # seconds


class Place(NamedTuple):
    """The resources that a run is started with.

    Attributes:
      cores: of the CPU.
      variables: environment variables.
    """

    cores: set[int]
    variables: dict[str, str]


@dataclass
class _Child:
    run: Run
    process: subprocess.Popen
    slot: int
    since: float
    log_start: int  # bytes of its log before it: of earlier attempts


def slots(jobs: int, gpus: Sequence[str] = ()) -> list[Place]:
    """Divides the resources of this process among runs.

    Args:
      jobs: number of runs at once; each gets its share of the cores.
      gpus: CUDA device of each job, as many as `jobs`; empty = each sees what this process sees.

    Raises:
      UserError: there are more jobs than cores, or a GPU twice.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if not 1 <= jobs <= len(cores):
        option = f"--gpus {' '.join(gpus)}" if gpus else f"--jobs {jobs}"
        raise UserError(f"{option}: {counted(jobs, 'run')} at once; expected 1 to {len(cores)}, the number of cores")
    twice = next((gpu for gpu in gpus if list(gpus).count(gpu) > 1), None)
    if twice is not None:
        raise UserError(f"--gpus {' '.join(gpus)}: {twice} is there twice; expected each device once")
    shares = [set(cores[len(cores) * i // jobs : len(cores) * (i + 1) // jobs]) for i in range(jobs)]
    return [Place(share, {"CUDA_VISIBLE_DEVICES": gpus[i]} if gpus else {}) for i, share in enumerate(shares)]


def log_file(run: Run, folder: pathlib.Path) -> pathlib.Path:
    """The file with the output of a run. It is not in the run's workdir, which must have no other files.

    Args:
      run: of the suite.
      folder: of the suite.
    """
    return folder / "logs" / f"{run.name.replace('/', '-')}.log"


def _last_line(file: pathlib.Path, start: int) -> str:
    text = file.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("mdp:")]
    return (said or lines or ["it printed nothing"])[-1]


class Engine:
    """Starts runs in dependency order, each once. Where one fails, only the runs that start from it are given up.

    Attributes:
      failures: {name of a run: what went wrong}.
      out_of_time: whether the minutes were over before all runs were finished.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        places: Sequence[Place],
        lock: int,
        command: Sequence[str] = COMMAND,
        console: rich.console.Console | None = None,
        minutes: float | None = None,
    ):
        """Makes an engine for the runs of one suite.

        Args:
          folder: of the suite, absolute.
          places: what `slots` gives.
          lock: descriptor that children hold open.
          command: the beginning of every command line.
          console: where progress is shown; stderr where None.
          minutes: after which the runs are told to save and stop; None = when all is done.
        """
        self._folder, self._places, self._lock, self._command = folder, places, lock, command
        self._console = console or rich.console.Console(stderr=True)
        self._children: list[_Child] = []
        self._signal: int | None = None
        self._seconds = None if minutes is None else 60 * minutes
        self.out_of_time = False
        self.failures: dict[str, str] = {}

    def carry_out(self, runs: Sequence[Run]) -> None:
        """Runs all that is not finished; `failures` then has what went wrong.

        Args:
          runs: of the suite, each after the one that it starts from.

        Raises:
          PreemptedError: SIGTERM came; the runs were told to stop too, and have ended.
          KeyboardInterrupt: SIGINT came; the runs were told to stop too, and have ended.
        """
        began = time.monotonic()
        (self._folder / "logs").mkdir(exist_ok=True)
        done = {run.name for run in runs if self._finished(run)}
        for run in runs:
            if run.name in done:
                self._tidy(run)
        waiting = [run for run in runs if run.name not in done and run.name not in self.failures]
        with self._signals(), Progress(len(runs), len(done), unit="run", console=self._console) as progress:
            try:
                while (waiting or self._children) and not self._signal:
                    if self._seconds is not None and time.monotonic() - began >= self._seconds:
                        self.out_of_time = True
                        break
                    self._drop(waiting)
                    self._start(waiting, done)
                    if self._collect(done):
                        progress.update(len(done) + len(self.failures))
                    elif self._children:
                        time.sleep(_POLL)
            finally:
                self._end_children(done)
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal:
            raise PreemptedError(f"told to stop; {self._folder} goes on with the same command")

    def _finished(self, run: Run) -> bool:
        """Whether a run has ended well; one whose scores cannot be used has failed."""
        try:
            return finished(run, self._folder)
        except UserError as error:
            self.failures[run.name] = str(error)
            return False

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: types.FrameType | None) -> None:
            del frame
            self._signal = self._signal or number

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _drop(self, waiting: list[Run]) -> None:
        """Gives up the runs that start from one that failed."""
        for run in list(waiting):
            if run.needs in self.failures:
                self.failures[run.name] = f"not started, as {run.needs} failed"
                waiting.remove(run)

    def _start(self, waiting: list[Run], done: set[str]) -> None:
        free = [slot for slot in range(len(self._places)) if slot not in {child.slot for child in self._children}]
        for slot in free:
            ready = next((run for run in waiting if not run.needs or run.needs in done), None)
            if ready is None:
                return
            waiting.remove(ready)
            self._children.append(self._spawn(ready, slot))

    def _spawn(self, run: Run, slot: int) -> _Child:
        cores, variables = self._places[slot]
        package = str(pathlib.Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with log_file(run, self._folder).open("ab") as log:
            log_start = log.tell()
            process = subprocess.Popen(
                [*self._command, *run.words, *(["--platform", "gpu"] if "CUDA_VISIBLE_DEVICES" in variables else [])],
                cwd=self._folder,  # so that workdirs are named as the suite names them, wherever it lies
                env=os.environ | {"PYTHONPATH": paths} | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C reaches this process alone, which passes it on as the signal that saves.
                start_new_session=True,
                pass_fds=(self._lock,),
            )
        if len(self._places) > 1 and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, cores)  # before it has threads, which inherit it
        return _Child(run, process, slot, time.monotonic(), log_start)

    def _collect(self, done: set[str]) -> bool:
        """Takes in the children that have ended; whether there were any."""
        ended = [child for child in self._children if child.process.poll() is not None]
        for child in ended:
            self._children.remove(child)
            run, status = child.run, child.process.returncode
            seconds = round(time.monotonic() - child.since)
            if status == 0 and self._finished(run):
                done.add(run.name)
                self._tidy(run)
                self._say(f"{run.name}: {seconds // 60}:{seconds % 60:02d}")
            elif not self._signal and not self.out_of_time:
                file = log_file(run, self._folder)
                reason = f"exit status {status}, {_last_line(file, child.log_start)} ({file})"
                self.failures.setdefault(run.name, reason)
                self._say(f"{run.name}: {self.failures[run.name]}")
        return bool(ended)

    def _end_children(self, done: set[str]) -> None:
        if self._children:
            why = "time is over" if self.out_of_time else "told to stop"
            self._say(f"{why}: waiting for {counted(len(self._children), 'run')} to save")
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        for child in self._children:
            child.process.wait()
        self._collect(done)

    def _tidy(self, run: Run) -> None:
        """A fine-tuning that has its scores needs its checkpoints no more, and there are hundreds of them."""
        if run.cell:
            shutil.rmtree(self._folder / run.name / "checkpoints", ignore_errors=True)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
