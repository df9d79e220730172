"""How far a run is: a bar in a terminal, plain lines where stderr goes to a file."""

import time
from collections.abc import Callable

import rich.console
import rich.progress

_DAY = 86400


def forecast(seconds: float, steps: int) -> list[str]:
    """What a run says of its length after its first steps.

    Args:
        seconds: that a step takes.
        steps: that are left.

    Returns:
        A line, and a second one with a warning where a day or more is left.
    """
    left = seconds * steps
    lines = [f"{seconds:.3g} s a step, {steps} steps left: about {_duration(left)}, validation aside"]
    if left >= _DAY:
        lines.append(
            f"warning: this run will take {left / _DAY:.1f} days on this machine; Ctrl-C keeps what is done. Lower "
            "config.data.crop, config.batch, config.model.width or the steps, take a smaller config.model.backbone, or "
            "use an accelerator"
        )
    return lines


def _duration(seconds: float) -> str:
    """A time in words of few digits."""
    if seconds >= _DAY:
        return f"{seconds / _DAY:.1f} days"
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


class Progress:
    """Context manager that shows step, loss, images/s, share of time waiting for data, and time left, on stderr.

    In a terminal a bar is redrawn in place; elsewhere every update prints one line.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        unit: str = "step",
        console: rich.console.Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Makes the bar; it is shown when the context is entered.

        Args:
          total: number of steps of the whole run.
          start: number of steps taken before this process.
          unit: word before the count.
          console: where to write; stderr where None.
          clock: gives seconds.
        """
        self._total, self._unit, self._clock = total, unit, clock
        self._console = console or rich.console.Console(stderr=True)
        self._anchor = (start, clock())
        self._first_update = True
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(f"{unit} {start}/{total}", total=total, completed=start, state="starting")

    @property
    def live(self) -> bool:
        """Whether a bar is redrawn in place, so that frequent updates do no harm."""
        return self._console.is_terminal

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(
        self,
        step: int,
        loss: float | None = None,
        images_per_second: float | None = None,
        data_wait_fraction: float | None = None,
    ) -> None:
        """Shows that `step` steps of the whole run are done.

        Args:
            step: counted from the beginning of the run, not of this process.
            loss: of the last steps.
            images_per_second: speed of the last steps.
            data_wait_fraction: share (0..1) of the time of the last steps spent waiting for data.
        """
        parts = [
            None if loss is None else f"loss {loss:.4f}",
            None if images_per_second is None else f"{images_per_second:.1f} images/s",
            None if data_wait_fraction is None else f"data wait {data_wait_fraction:.0%}",
            self._time_left(step),
        ]
        count, state = f"{self._unit} {step}/{self._total}", "  ".join(part for part in parts if part)
        if self.live:
            self._bar.update(self._task, description=count, completed=step, state=state)
        else:
            self._console.print(f"{count}  {state}".rstrip(), markup=False, highlight=False, soft_wrap=True)

    def count_from(self, step: int) -> None:
        """Reckons the time that is left from the speed since now, when `step` steps of the whole run are done.

        Args:
            step: as for `update`.
        """
        self._anchor, self._first_update = (step, self._clock()), False

    def say(self, line: str) -> None:
        """Shows a line of its own; a bar stays below it."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _time_left(self, step: int) -> str:
        """From the mean speed since `count_from`, or else since the first update: compilation comes before it."""
        now = self._clock()
        since_step, since = self._anchor
        if self._first_update:
            self._anchor, self._first_update = (step, now), False
        if step <= since_step or step >= self._total:
            return ""
        seconds = round((self._total - step) * (now - since) / (step - since_step))
        return f"left {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
