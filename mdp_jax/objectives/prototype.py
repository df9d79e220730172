"""The prototype loss alone: no sparse coding, no mixing (METHOD.md section 7)."""

import dataclasses

from mdp_jax.configs import MethodConfig
from mdp_jax.method.losses import LossOptions
from mdp_jax.objectives import mdp
from mdp_jax.objectives.objective import Functions, Setting


def functions(setting: Setting) -> Functions:
    """Makes the method without sparse coding.

    Args:
      setting: of the objective.
    """
    method = dataclasses.replace(setting.method, sparse_coding="off")
    return mdp.functions(dataclasses.replace(setting, method=method))


def loss_options(method: MethodConfig) -> LossOptions:
    """Those of the method without sparse coding."""
    return mdp.loss_options(method)._replace(sparse_coding="off")


PROTOTYPE = dataclasses.replace(mdp.MDP, functions=functions, mixes=False, loss_options=loss_options, relates=False)
