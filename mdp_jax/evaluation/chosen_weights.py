"""Which weights of a checkpoint are meant: those of the steps, their moving average, or the momentum encoder."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mdp_jax.errors import UserError

PLAIN, EMA, MOMENTUM = "plain", "ema", "momentum"
WEIGHTS = (PLAIN, EMA, MOMENTUM)


class Weights(NamedTuple):
    """Weights of a checkpoint, as nested dicts.

    Attributes:
      name: one of WEIGHTS.
      usual: whether they are those that are taken where nobody chooses.
      params: of the network.
      batch_stats: running statistics; {} for a network without batch normalisation.
    """

    name: str
    usual: bool
    params: dict
    batch_stats: dict


def in_words(name: str) -> str:
    """What is said of weights after the step of their checkpoint; empty for plain ones.

    Args:
      name: one of WEIGHTS.
    """
    return {PLAIN: "", EMA: ", moving average", MOMENTUM: ", momentum encoder"}[name]


def weights_of(state: Mapping[str, Any], meta: Mapping[str, Any], which: str, where: str) -> Weights:
    """Takes weights from a checkpoint.

    Args:
      state: of either loop, as nested dicts.
      meta: what the checkpoint has beside it; "config" is read.
      which: one of WEIGHTS; "" = the moving average where it is kept, else the plain weights.
      where: the workdir, for the error.

    Raises:
      UserError: no such weights, or a name that is none of WEIGHTS.
    """
    usual = EMA if state.get("ema") else PLAIN
    name = which or usual
    if name == PLAIN:
        return _made(name, usual, state)
    if name == EMA:
        if usual != EMA:
            raise UserError(
                f"--weights {EMA}: {where} keeps no moving average of its weights; expected --weights {PLAIN}, or a "
                "fine-tuning with config.optim.ema_decay above 0"
            )
        return _made(name, usual, state["ema"])
    if name != MOMENTUM:
        raise UserError(f"--weights {name}: expected one of {', '.join(WEIGHTS)}")
    # Here, so that the commands, which name the weights, do not import all networks.
    from mdp_jax.objectives.registry import OBJECTIVES

    objective = meta["config"].get("objective", "")
    averaged = OBJECTIVES[objective].averaged if objective else None
    if averaged is None:
        having = ", ".join(known for known, entry in OBJECTIVES.items() if entry.averaged)
        of = f"of the objective {objective}" if objective else "of mdp finetune or mdp adopt"
        raise UserError(
            f"--weights {MOMENTUM}: {where} is {of}, which has no momentum encoder; expected the workdir of mdp "
            f"pretrain with the objective {having}"
        )
    return _made(name, usual, averaged(state["memory"]))


def _made(name: str, usual: str, found: Mapping[str, Any]) -> Weights:
    return Weights(name, name == usual, found["params"], found.get("batch_stats") or {})
