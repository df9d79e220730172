"""The prototype loss alone: no sparse coding, no mixing (METHOD.md section 7)."""

import dataclasses

from mdp_jax.objectives import mdp
from mdp_jax.objectives.objective import Functions, Setting


def functions(setting: Setting) -> Functions:
    """Makes the method without sparse coding.

    Args:
      setting: of the objective.
    """
    method = dataclasses.replace(setting.method, sparse_coding="off")
    return mdp.functions(dataclasses.replace(setting, method=method))


PROTOTYPE = dataclasses.replace(mdp.MDP, functions=functions, mixes=False)
