"""What pretraining minimises, by name: the method itself and what it is compared with (METHOD.md sections 4 and 7)."""

from mdp_jax.objectives.cross_entropy import CROSS_ENTROPY
from mdp_jax.objectives.mdp import MDP
from mdp_jax.objectives.multi_head import MULTI_HEAD
from mdp_jax.objectives.objective import Objective
from mdp_jax.objectives.pixel_to_pixel import PIXEL_TO_PIXEL
from mdp_jax.objectives.prototype import PROTOTYPE

OBJECTIVES: dict[str, Objective] = {
    "mdp": MDP,
    "prototype": PROTOTYPE,
    "pixel_to_pixel": PIXEL_TO_PIXEL,
    "multi_head": MULTI_HEAD,
    "cross_entropy": CROSS_ENTROPY,
}
