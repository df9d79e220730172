"""The one training loop: it puts batches through a step, and calls hooks after a number of steps."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from mdp_jax import config as config_files
from mdp_jax import runtime
from mdp_jax.configs import FinetuneConfig, PretrainConfig
from mdp_jax.data.batches.pipeline import Batches
from mdp_jax.errors import PreemptedError, UserError
from mdp_jax.storage.checkpoints import Checkpoints
from mdp_jax.training import sharding
from mdp_jax.training.best import Best
from mdp_jax.training.monitor import Monitor, Writer
from mdp_jax.training.profiling import WAIT, Profile, Tracing
from mdp_jax.training.programs import Program
from mdp_jax.training.signals import Stop, StoppedError
from mdp_jax.training.wandb_writer import WandbWriter


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
      values: numbers to log.
      lines: to show.
      score: by which the best checkpoint is chosen; None where nothing was measured.
      pictures: name -> PNG, for TensorBoard.
    """

    values: dict[str, float]
    lines: list[str]
    score: float | None = None
    pictures: Mapping[str, bytes] = {}


@dataclasses.dataclass(frozen=True)
class Hooks:
    """The functions of one kind of training that the loop calls. With several processes each makes all calls.

    Attributes:
      meta: step -> JSON values that its checkpoint has besides the state.
      taken: called with every batch, NumPy arrays of this process.
      warn: (values of a row of metrics.jsonl, step) -> {kind: sentence} of what may be wrong; each kind is said once.
      row: () -> numbers that a row of metrics.jsonl has besides the metrics; called before a row is written, and
        before `meta` at every step that is saved.
      validate: state -> Validation; None where there is no validation.
      validate_every: steps; 0 = only after the last step.
      best: keeps the checkpoint of the best validation; None where it is not kept.
      owed: whether the step that the run goes on from was saved and not validated, as where it was told to stop then.
    """

    meta: Callable[[int], dict]
    taken: Callable[[dict], None] = lambda batch: None
    warn: Callable[[dict, int], dict[str, str]] = lambda values, step: {}
    row: Callable[[], dict] = dict
    validate: Callable[[Any], Validation] | None = None
    validate_every: int = 0
    best: Best | None = None
    owed: bool = False


def train(
    state: Any,
    batches: Batches,
    program: Program,
    mesh: Mesh,
    steps: int,
    config: PretrainConfig | FinetuneConfig,
    folder: pathlib.Path,
    checkpoints: Checkpoints,
    hooks: Hooks,
    stop: Stop,
    profile: Profile | None = None,
) -> Any:
    """Takes the steps that are left.

    Args:
      state: the state to go on from; it is donated.
      batches: begin with that of the first step that is left; closed at the end.
      program: of the run.
      mesh: of the run.
      steps: number of steps of the whole run.
      config: `batch`, `log_every`, `checkpoint_every` and `wandb` are read.
      folder: the workdir.
      checkpoints: of the workdir; closed at the end.
      hooks: functions of this kind of training.
      stop: entered by the caller.
      profile: steps that are traced, inside of the run; None for none.

    Returns:
      The state after the last step.

    Raises:
      NonFiniteError: a loss or gradient is not finite; the last good checkpoint stays.
      PreemptedError: the run was told to stop, and has saved a checkpoint.
      UserError: a checkpoint cannot be written.
    """
    start = int(state.step)
    tracing = Tracing(profile, folder, start)
    stop.saving(True)
    try:
        with (
            Monitor(folder, start, steps, config.batch, program.schedule, _other_writer(config)) as monitor,
            contextlib.closing(batches),
        ):
            stop.before_steps(folder)
            _catch_up(start, state, monitor, hooks, stop, folder)
            for step in range(start + 1, steps + 1):
                with tracing.step(step):
                    asked = time.perf_counter()
                    with runtime.span(WAIT):
                        batch = next(batches)
                    monitor.waited(time.perf_counter() - asked)
                    hooks.taken(batch)
                    state, metrics = program.step(state, sharding.to_devices(batch, mesh))
                    monitor.record(step, metrics)
                monitor.leave_out(tracing.done(step, state))
                monitor.say(*tracing.said)
                tracing.said.clear()
                last, stopped, complete = step == steps, stop.reached(), True
                due = last or (hooks.validate_every and step % hooks.validate_every == 0)
                validate = hooks.validate if due and (last or not stopped) else None
                save = stopped or last or step % config.checkpoint_every == 0
                if save or validate or step % config.log_every == 0:
                    monitor.flush(hooks.row(), hooks.warn)
                if validate:
                    try:
                        _validate(step, state, validate, monitor, hooks, prove=not stopped)
                    except StoppedError:
                        save, stopped, complete = True, True, False
                    monitor.pause()
                if save:  # after the flush: a state that is not finite is never saved
                    if hooks.best:  # before: a run that goes on from this step does not score earlier ones again
                        hooks.best.settle(prove=not stopped)
                    checkpoints.save(step, state, hooks.meta(step), prove=not stopped)  # time is short then
                if stopped and not (last and complete):
                    message = f"told to stop; {folder} goes on after step {step} with the same command"
                    raise PreemptedError(message, stop.status)
    except BaseException:
        with contextlib.suppress(UserError):  # what ended the run is what is said
            checkpoints.close(prove=False)
        with contextlib.suppress(UserError):
            _close_best(hooks, prove=False)
        raise
    else:
        checkpoints.close()
        _close_best(hooks)
    finally:
        stop.saving(False)
        tracing.close()  # after the checkpoint, for which time may be short
    return state


def _other_writer(config: PretrainConfig | FinetuneConfig) -> Callable[[pathlib.Path], Writer] | None:
    """What makes the writer besides TensorBoard's, where the config asks for it."""
    if not config.wandb:
        return None
    return functools.partial(WandbWriter, project=config.wandb, config=config_files.to_dict(config))


def _validate(
    step: int, state: Any, validate: Callable[[Any], Validation], monitor: Monitor, hooks: Hooks, prove: bool
) -> None:
    """Validates, writes what was found, and keeps the state where it is the best."""
    found = validate(state)
    monitor.write(step, found.values)
    monitor.say(*(f"step {step}: {line}" for line in found.lines))
    monitor.show(step, found.pictures)
    if hooks.best:
        hooks.best.offer(step, state, found.score, hooks.meta(step), prove)


def _catch_up(step: int, state: Any, monitor: Monitor, hooks: Hooks, stop: Stop, folder: pathlib.Path) -> None:
    """Makes the validation that a run left when it was told to stop, if it did."""
    if not hooks.owed:
        return
    assert hooks.validate is not None  # which owed it
    hooks.row()
    try:
        _validate(step, state, hooks.validate, monitor, hooks, prove=True)
    except StoppedError:
        message = f"told to stop; {folder} goes on after step {step} with the same command"
        raise PreemptedError(message, stop.status) from None
    if hooks.best:
        hooks.best.settle()
    monitor.pause()


def _close_best(hooks: Hooks, prove: bool = True) -> None:
    if hooks.best:
        hooks.best.close(prove)
