"""Cross entropy with one softmax for each dataset (METHOD.md section 7)."""

import dataclasses

from mdp_jax.objectives import cross_entropy
from mdp_jax.objectives.objective import Functions, Setting


def functions(setting: Setting) -> Functions:
    """Makes a cross entropy with a head for each dataset; heads share no class.

    Args:
      setting: of the objective.
    """
    return cross_entropy.with_heads(setting, setting.label_space.dataset_of())


MULTI_HEAD = dataclasses.replace(cross_entropy.CROSS_ENTROPY, functions=functions, label_spaces=("concatenated",))
