"""A new run that goes on from the whole state of a finished one: more steps, or another learning rate."""

import dataclasses
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from mdp_jax.configs import RunConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.evaluation import workdirs
from mdp_jax.storage import checkpoints
from mdp_jax.storage.leaves import leaf_names
from mdp_jax.storage.paths import expanded
from mdp_jax.training import transfer
from mdp_jax.training.state import FinetuneState, PretrainState, first_average
from mdp_jax.training.transfer import require_leaves

State = TypeVar("State", FinetuneState, PretrainState)


class Continued(NamedTuple, Generic[State]):
    """A state to go on from.

    Attributes:
      state: on the host, its step that of the other run.
      report: what `transfer.json` of the new workdir holds.
      meta: what the checkpoint has beside its state (storage/checkpoints.py).
    """

    state: State
    report: dict
    meta: dict[str, Any]


def with_first_average(saved: dict, wanted: bool) -> dict:
    """A saved state with a moving average of the weights, or without one.

    Args:
      saved: of a fine-tuning, as nested dicts.
      wanted: whether there is to be one. One that is not there begins with the weights.
    """
    if bool(saved.get("ema")) == wanted:
        return saved
    if not wanted:
        return {name: part for name, part in saved.items() if name != "ema"}
    return saved | {"ema": first_average(saved["params"], saved.get("batch_stats") or {})}


def require_source(config: RunConfig) -> None:
    """Checks, before photos are read, that there is what a run begins with; nothing of it is read.

    Args:
      config: of a run without checkpoints of its own.

    Raises:
      UserError: `init` or `continue_from` names no file or workdir, or one without a checkpoint.
    """
    if config.continue_from:
        try:
            checkpoints.require_some(expanded(config.continue_from))
        except UserError as error:
            raise type(error)(f"--continue_from {error}") from None
    elif config.init != "scratch":
        transfer.require_source(config.init)


def _require_alike(saved: dict, state: FinetuneState | PretrainState, where: str) -> None:
    """Checks network and optimizer, each with its own words."""
    without = {name: part for name, part in saved.items() if name != "opt_state"}
    require_leaves(without, dataclasses.replace(state, opt_state=()), where)
    momenta = [{"opt_state": found} for found in (saved.get("opt_state", ()), state.opt_state)]
    try:
        require_leaves(momenta[0], momenta[1], where, "optimizer")
    except UserError as error:
        keys = "config.optim.name, clip_norm and layer_decay, and in fine-tuning config.trainable"
        raise UserError(f"{error}; expected that of the other run, which {keys} decide") from None


def continue_from(workdir: str, which: str, steps: int, state: State, label_space: LabelSpace) -> Continued[State]:
    """Reads the whole state of a run: weights, running statistics, momenta, an objective's memory, and the steps taken.

    A moving average that only the new run keeps begins with the weights; one that only the other run kept is left out.

    Args:
      workdir: of the finished run.
      which: "last", "best" or a step.
      steps: of the new run as a whole; the learning rate falls over these.
      state: of step 0 of the new run; shapes (jax.ShapeDtypeStruct) will do, so that this is known before it is made.
      label_space: of the new run.

    Raises:
      UserError: no such checkpoint, or one of the other loop; other classes, another network or optimizer; or it has
        taken as many steps already.
    """
    where = f"--continue_from {workdir}"
    loops = {True: "mdp pretrain", False: "mdp finetune"}
    own = isinstance(state, PretrainState)
    if (expanded(workdir) / "config.json").is_file() and workdirs.is_pretraining(workdir) != own:
        raise UserError(f"{where}: the workdir of {loops[not own]}; expected one of {loops[own]}, or --init {workdir}")
    chosen = checkpoints.choose(expanded(workdir), which)
    LabelSpace.from_rows(chosen.saved.meta["label_space"]).require_same(label_space, where)
    saved = with_first_average(chosen.saved.state, bool(getattr(state, "ema", {})))
    if "opt_state" not in saved and jax.tree.leaves(state.opt_state):
        raise UserError(f"{where}: no momenta in it, as after mdp adopt; expected the workdir of a training, or --init")
    _require_alike(saved, state, where)
    if chosen.step >= steps:
        raise UserError(
            f"config.steps={steps}: {where} has taken {chosen.step} steps already; expected more than that, as in "
            f"--config.steps={2 * chosen.step}"
        )
    have = leaf_names(saved)
    leaves = [
        np.asarray(jax.device_get(have[name])).astype(leaf.dtype, copy=False)
        for name, leaf in leaf_names(state).items()
    ]
    source = f"step {chosen.step} of the workdir {workdir}, with its momenta"
    taken = [
        {"leaf": name, "shape": list(np.shape(leaf)), "from": name}
        for name, leaf in have.items()
        if name.split("/")[0] in ("params", "batch_stats")
    ]
    report = {"source": source, "leaves": taken, "not taken": {}}
    return Continued(jax.tree.unflatten(jax.tree.structure(state), leaves), report, chosen.saved.meta)
