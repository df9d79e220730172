"""Multi-Dataset Pretraining for semantic segmentation in JAX and Flax (the method of arXiv 2106.04121).

`load` gives a trained network; `pretrain`, `finetune` and `evaluate` do what the parts of the command `mdp` do. The
module `configs` makes the configs. Importing this package loads none of the libraries behind it and sets nothing.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from mdp_jax import configs as configs
    from mdp_jax.evaluation.loaded import Network as Network
    from mdp_jax.evaluation.loaded import load as load
    from mdp_jax.evaluation.scoring import evaluate as evaluate
    from mdp_jax.training.finetuning import finetune as finetune
    from mdp_jax.training.pretraining import pretrain as pretrain

_HOMES = {
    "Network": "mdp_jax.evaluation.loaded",
    "load": "mdp_jax.evaluation.loaded",
    "evaluate": "mdp_jax.evaluation.scoring",
    "finetune": "mdp_jax.training.finetuning",
    "pretrain": "mdp_jax.training.pretraining",
}
__all__ = ["Network", "configs", "evaluate", "finetune", "load", "pretrain"]


def __getattr__(name: str) -> typing.Any:
    if name == "configs":
        return importlib.import_module("mdp_jax.configs")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
