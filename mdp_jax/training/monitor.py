"""Writes metrics.jsonl, TensorBoard's events and the progress bar of a run, and checks that values are finite."""

import contextlib
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
import rich.console

from mdp_jax import distributed
from mdp_jax.errors import NonFiniteError, UserError
from mdp_jax.reporting.progress import Progress, forecast
from mdp_jax.storage.bucket_path import BucketPath
from mdp_jax.storage.metrics_file import Rows, read_metrics
from mdp_jax.storage.paths import as_path
from mdp_jax.training.events import Event, EventsWriter, SessionLog, Summary, scalar

STEPS_AHEAD = 3
_SLOW = 20.0  # seconds from which one step is enough to tell the speed
_LONG = 2**19  # bytes of a file of events in a bucket from which on the next one begins
_TIMED = 4  # steps of which the first, with compilation, is left out, for the others to tell it


def _json_value(value: Any) -> Any:
    """A metric as JSON: NaN (nothing measured, as the loss of a dataset without pixels) becomes null."""
    value = np.asarray(value)
    if value.ndim:
        return [_json_value(item) for item in value]
    number = value.item()
    return None if isinstance(number, float) and not math.isfinite(number) else number


class Writer(Protocol):
    """What gets the numbers and pictures of a run besides metrics.jsonl."""

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a finite number."""

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Adds a picture, the bytes of a PNG file."""

    def flush(self) -> None:
        """Sends or writes what was added; it is all of one step."""

    def close(self) -> None:
        """Ends the writer."""


class Board:
    """TensorBoard's event file of a workdir, written at once: a writer with a thread waits for ever on a full disk.

    Where it cannot be written, the run goes on without it and says so once.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int | None, ending: str = ""):
        """Begins a file.

        Args:
          workdir: of the run.
          first_step: values of this step and later ones in earlier files are out of date; None = none of them is.
          ending: of the file's name.
        """
        self._writer: EventsWriter | None = None
        with self._writing():
            self._writer = EventsWriter(str(workdir / "events"), ending)
            if first_step is not None:
                restart = SessionLog(status=SessionLog.START)
                self._writer.write_event(Event(step=first_step, wall_time=time.time(), session_log=restart))

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number to the file.

        Args:
          name: of the curve.
          value: finite.
          step: steps taken.
        """
        with self._writing():
            if self._writer is not None:
                event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
                self._writer.write_event(event)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Adds a picture to the file.

        Args:
          name: of the picture.
          png: the bytes of a PNG file.
          step: steps taken.
        """
        with self._writing():
            if self._writer is not None:
                width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # of the PNG's header
                image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
                summary = Summary(value=[Summary.Value(tag=name, image=image)])
                self._writer.write_event(Event(step=step, wall_time=time.time(), summary=summary))

    def flush(self) -> None:
        """Writes what was added to the disk."""
        with self._writing():
            if self._writer is not None:
                self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with self._writing():
            if self._writer is not None:
                self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            print(f"mdp: TensorBoard's events cannot be written ({error.strerror}); going on without", file=sys.stderr)


class BucketBoard:
    """TensorBoard's events in a bucket: files that are whole, one after the other, which TensorBoard reads as one.

    The newest one is written again with each flush until it is long enough. As with `Board`, the run goes on without
    them where they cannot be written.
    """

    def __init__(self, workdir: BucketPath, first_step: int):
        """Begins a file.

        Args:
          workdir: of the run.
          first_step: as for `Board`.
        """
        self._workdir = workdir
        self._local = tempfile.TemporaryDirectory(prefix="mdp-events-")
        self._said, self._part = False, 0
        self._board = self._next(first_step)

    def _next(self, first_step: int | None) -> Board:
        # Names begin with the second at which a file was begun; of those of one second the number tells the order.
        self._part += 1
        return Board(pathlib.Path(self._local.name), first_step, f".{self._part:05d}")

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number, as `Board.add`."""
        self._board.add(name, value, step)

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Adds a picture, as `Board.picture`."""
        self._board.picture(name, png, step)

    def flush(self) -> None:
        """Writes the newest file as a whole."""
        self._board.flush()
        if self._said:
            return
        for file in pathlib.Path(self._local.name).iterdir():
            content = file.read_bytes()
            try:
                (self._workdir / file.name).write_bytes(content)
            except UserError as error:
                self._said = True
                print(f"mdp: TensorBoard's events cannot be written ({error}); going on without", file=sys.stderr)
                return
            if len(content) > _LONG:
                self._board.close()
                file.unlink()
                self._board = self._next(None)

    def close(self) -> None:
        """Writes what is left, and ends the file."""
        self.flush()
        self._board.close()
        self._local.cleanup()


class Monitor:
    """Collects the metrics of every step on the device, and reads them when `flush` is called.

    Reading a value waits for the device, so nothing is read in between; `flush` checks every step since the last time.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        start_step: int,
        steps: int,
        batch: int,
        schedule: Callable[[int], float],
        also: Callable[[pathlib.Path], Writer] | None = None,
    ):
        """Opens the files of a workdir; rows of steps after `start_step` are dropped, since they will come again.

        Args:
          workdir: of the run.
          start_step: number of steps already taken.
          steps: length of the whole run.
          batch: images in each step.
          schedule: learning rate by the number of steps taken.
          also: makes another writer for the workdir, in the process that writes.

        Raises:
          UserError: a file, or the other writer, cannot be opened.
        """
        folder = as_path(workdir)
        self._main = distributed.is_main()  # one process writes and shows
        if self._main:
            self._rows = Rows(folder, [row for row in read_metrics(folder) if row["step"] <= start_step])
            board = BucketBoard(folder, start_step + 1) if isinstance(folder, BucketPath) else None
            self._writers: list[Writer] = [board or Board(folder, start_step + 1)]
            self._writers += [also(folder)] if also else []
        console = rich.console.Console(stderr=True, quiet=not self._main)
        self._progress = Progress(steps, start_step, console=console)
        self._batch, self._schedule = batch, schedule
        self._pending: list[tuple[int, dict]] = []
        self._first, self._steps = start_step + 1, steps
        self._first_done: float | None = None
        self._first_took = (0.0, 0.0)  # seconds of the first step, and those of them in which it waited for data
        self._forecast_due = True
        self._since = time.perf_counter()
        self._waited = 0.0
        self._warned: set[str] = set()

    def __enter__(self) -> "Monitor":
        self._progress.__enter__()
        if self._first <= self._steps:
            self.say("compiling the step, which takes minutes for a large network or on a busy machine")
        return self

    def __exit__(self, *exception: Any) -> None:
        for writer in self._writers if self._main else ():
            writer.close()
        self._progress.__exit__(*exception)

    def waited(self, seconds: float) -> None:
        """Adds time that the loop spent waiting for data."""
        self._waited += seconds

    def record(self, step: int, metrics: dict) -> None:
        """Stores the metrics of a step.

        Args:
          step: number of steps taken.
          metrics: arrays on the device.
        """
        self._pending.append((step, metrics))
        if self._forecast_due:
            self._time(step, metrics)
        # The host runs ahead of the device by a few steps and no more: each one holds a batch in device memory.
        if len(self._pending) > STEPS_AHEAD:
            jax.block_until_ready(self._pending[-1 - STEPS_AHEAD][1])

    def _time(self, step: int, metrics: dict) -> None:
        """Says how long the run will take, once its first steps tell."""
        jax.block_until_ready(metrics)
        if self._first_done is None:
            self._first_done = time.perf_counter()
            self._first_took = (self._first_done - self._since, self._waited)
            self._progress.count_from(step)
            return
        timed = step - self._first
        seconds = (time.perf_counter() - self._first_done) / timed
        if seconds > _SLOW or timed == _TIMED - 1:
            self._forecast_due = False
            if step < self._steps:
                self.say(*forecast(seconds, self._steps - step))

    def say(self, *lines: str) -> None:
        """Shows lines above the progress bar."""
        for line in lines:
            self._progress.say(line)

    def flush(
        self,
        also: dict[str, np.ndarray] | None = None,
        warn: Callable[[dict, int], dict[str, str]] = lambda values, step: {},
    ) -> None:
        """Writes the mean of the metrics since the last time as one row.

        Args:
          also: numbers that the row has besides the metrics.
          warn: (values of the row, step) -> {kind: sentence} of what may be wrong; each kind is said once.

        Raises:
          NonFiniteError: a loss or gradient norm among them is not finite; the row is not written.
        """
        if not self._pending:
            return
        steps, rows = zip(*((step, jax.device_get(metrics)) for step, metrics in self._pending), strict=True)
        for step, row in zip(steps, rows, strict=True):
            for name in ("loss", "gradient_norm"):
                if not math.isfinite(float(row[name])):
                    raise NonFiniteError(f"step {step}: {name} is {float(row[name])}; earlier checkpoints are kept")
        seconds, waited, timed = time.perf_counter() - self._since, self._waited, len(rows)
        if self._first in steps and timed > 1:  # the first step is mostly compilation
            seconds, waited, timed = seconds - self._first_took[0], waited - self._first_took[1], timed - 1
        images_per_second = timed * self._batch / seconds
        wait = min(waited / seconds, 1.0)
        means = {name: _mean([row[name] for row in rows]) for name in rows[0]}
        speed = {"images_per_second": round(images_per_second, 2), "data_wait_fraction": round(wait, 4)}
        values = means | {"lr": float(self._schedule(steps[-1] - 1))} | speed | (also or {})
        self.write(steps[-1], values)
        for kind, sentence in warn(values, steps[-1]).items():
            if kind not in self._warned:
                self.say(f"mdp: warning: step {steps[-1]}: {sentence}")
                self._warned.add(kind)
        self._progress.update(
            steps[-1], loss=float(means["loss"]), images_per_second=images_per_second, data_wait_fraction=wait
        )
        self._pending.clear()
        self._since, self._waited = time.perf_counter(), 0.0

    def write(self, step: int, values: dict) -> None:
        """Appends one row to metrics.jsonl and to TensorBoard.

        Args:
          step: number of steps taken.
          values: {name: number or array of numbers}.
        """
        if not self._main:
            return
        self._rows.append({"step": step} | {name: _json_value(value) for name, value in values.items()})
        for name, value in values.items():
            for i, item in enumerate(np.atleast_1d(np.asarray(value, np.float64))):
                if not math.isfinite(item):  # nothing measured
                    continue
                for writer in self._writers:
                    writer.add(name if np.ndim(value) == 0 else f"{name}/{i}", float(item), step)
        for writer in self._writers:
            writer.flush()

    def show(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Gives pictures to TensorBoard and to the other writer.

        Args:
          step: number of steps taken.
          pictures: name -> the bytes of a PNG file.
        """
        for writer in self._writers if self._main and pictures else ():
            for name, png in pictures.items():
                writer.picture(name, png, step)
            writer.flush()

    def leave_out(self, seconds: float) -> None:
        """Leaves time that went into something else than training steps out of the speed."""
        self._since += seconds

    def pause(self) -> None:
        """Restarts the clock of the speed, after time spent on something else than training steps."""
        self._since, self._waited = time.perf_counter(), 0.0


def _mean(values: list) -> np.ndarray:
    """The mean over steps; of counts the last value; NaN entries (nothing measured) are left out."""
    of_steps = np.asarray(values)
    if np.issubdtype(of_steps.dtype, np.integer):
        return of_steps[-1]
    count = np.sum(~np.isnan(of_steps), axis=0)
    return np.where(count > 0, np.nansum(of_steps, axis=0) / np.maximum(count, 1), np.nan)
