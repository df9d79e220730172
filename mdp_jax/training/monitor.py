"""What a run writes while it goes: metrics.jsonl, TensorBoard, the progress bar; and the check for finite values."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import rich.console
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from mdp_jax import distributed
from mdp_jax.errors import NonFiniteError
from mdp_jax.reporting.progress import Progress
from mdp_jax.storage.json_files import write_text
from mdp_jax.storage.metrics_file import append, read_metrics

STEPS_AHEAD = 3


def _json_value(value: Any) -> Any:
    """A metric as JSON: NaN (nothing measured, as the loss of a dataset without pixels) becomes null."""
    value = np.asarray(value)
    if value.ndim:
        return [_json_value(item) for item in value]
    number = value.item()
    return None if isinstance(number, float) and not math.isfinite(number) else number


class Board:
    """TensorBoard's event file of a workdir, written at once: a writer with a thread waits for ever on a full disk.

    Where it cannot be written, the run goes on without it and says so once.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Begins a file; values of `first_step` and later that lie in earlier files are out of date."""
        self._writer: EventsWriter | None = None
        with self._writing():
            self._writer = EventsWriter(str(workdir / "events"))
            restart = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=first_step, wall_time=time.time(), session_log=restart))

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number to the file."""
        with self._writing():
            if self._writer is not None:
                event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
                self._writer.write_event(event)

    def flush(self) -> None:
        """Brings what was added to the disk."""
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


class Monitor:
    """Collects the metrics of every step on the device and looks at them every `log_every` steps.

    Looking at a value waits for the device, so nothing is looked at in between; then every step since is checked.
    """

    def __init__(
        self, workdir: str | os.PathLike, start_step: int, steps: int, batch: int, schedule: Callable[[int], float]
    ):
        """Opens the files of a workdir; rows of steps after `start_step` are dropped, they will come again.

        Args:
          workdir: of the run.
          start_step: steps already taken.
          steps: length of the whole run.
          batch: images in each step.
          schedule: learning rate by the number of steps taken.
        """
        self._file = pathlib.Path(workdir) / "metrics.jsonl"
        self._main = distributed.is_main()  # one process writes and shows
        if self._main:
            kept = [row for row in read_metrics(workdir) if row["step"] <= start_step]
            write_text(self._file, "".join(json.dumps(row) + "\n" for row in kept))
            self._board = Board(pathlib.Path(workdir), start_step + 1)
        console = rich.console.Console(stderr=True, quiet=not self._main)
        self._progress = Progress(steps, start_step, console=console)
        self._batch, self._schedule = batch, schedule
        self._pending: list[tuple[int, dict]] = []
        self._since = time.perf_counter()
        self._waited = 0.0

    def __enter__(self) -> "Monitor":
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._main:
            self._board.close()
        self._progress.__exit__(*exception)

    def waited(self, seconds: float) -> None:
        """Adds time that the loop spent waiting for data."""
        self._waited += seconds

    def record(self, step: int, metrics: dict) -> None:
        """Keeps the metrics (arrays on the device) of the step that made `step` steps."""
        self._pending.append((step, metrics))
        # The host runs ahead of the device by a few steps and no more: each one holds a batch in device memory.
        if len(self._pending) > STEPS_AHEAD:
            jax.block_until_ready(self._pending[-1 - STEPS_AHEAD][1])

    def flush(self, also: dict[str, np.ndarray] | None = None) -> None:
        """Writes the mean of the metrics since the last time as one row.

        Args:
          also: numbers that the row has beside them, as they are.

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
        seconds = time.perf_counter() - self._since
        images_per_second = len(rows) * self._batch / seconds
        wait = min(self._waited / seconds, 1.0)
        means = {name: _mean([row[name] for row in rows]) for name in rows[0]}
        speed = {"images_per_second": round(images_per_second, 2), "data_wait_fraction": round(wait, 4)}
        self.write(steps[-1], means | {"lr": float(self._schedule(steps[-1] - 1))} | speed | (also or {}))
        self._progress.update(
            steps[-1], loss=float(means["loss"]), images_per_second=images_per_second, data_wait_fraction=wait
        )
        self._pending.clear()
        self._since, self._waited = time.perf_counter(), 0.0

    def write(self, step: int, values: dict) -> None:
        """Appends one row of numbers, or lists of numbers, to metrics.jsonl and to TensorBoard."""
        if not self._main:
            return
        append(self._file, {"step": step} | {name: _json_value(value) for name, value in values.items()})
        for name, value in values.items():
            for i, item in enumerate(np.atleast_1d(np.asarray(value, np.float64))):
                if not math.isfinite(item):  # nothing measured
                    continue
                self._board.add(name if np.ndim(value) == 0 else f"{name}/{i}", float(item), step)
        self._board.flush()

    def pause(self) -> None:
        """Restarts the clock of the speed, after time spent on something else than training steps."""
        self._since, self._waited = time.perf_counter(), 0.0


def _mean(values: list) -> np.ndarray:
    """The mean over steps; of counts the last value; NaN entries (nothing measured) are left out."""
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.integer):
        return values[-1]
    count = np.sum(~np.isnan(values), axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)
