"""What pretraining minimises, by name: the method itself and what it is compared with (METHOD.md sections 4 and 7).

An objective is a network, the state that it needs beside the query network's, a loss, and what comes before it and
follows the optimizer: pure functions, which all go through one training step.
"""

import numpy as np

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method import losses
from mdp_jax.objectives.cross_entropies import cross_entropy_objective
from mdp_jax.objectives.objective import Objective
from mdp_jax.objectives.pixel_to_pixel import pixel_to_pixel
from mdp_jax.objectives.prototypes import prototype_objective


def loss_options(method) -> losses.LossOptions:
    """The static values of the prototype loss from a config's `method`."""
    return losses.LossOptions(
        method.temperature,
        method.sparse_coding,
        method.sparse_classes,
        method.sparse_weight,
        method.sparse_temperature,
    )


def _mdp(config, label_space: LabelSpace, devices: int) -> Objective:
    return prototype_objective(config, label_space, devices, loss_options(config.method))


def _prototype(config, label_space: LabelSpace, devices: int) -> Objective:
    options = loss_options(config.method)._replace(sparse_coding="off")
    return prototype_objective(config, label_space, devices, options)


def _multi_head(config, label_space: LabelSpace, devices: int) -> Objective:
    del devices
    return cross_entropy_objective(config, label_space, label_space.dataset_of())


def _cross_entropy(config, label_space: LabelSpace, devices: int) -> Objective:
    del devices
    return cross_entropy_objective(config, label_space, np.zeros(label_space.num_classes, np.int32))


OBJECTIVES = {
    "mdp": _mdp,
    "prototype": _prototype,  # neither sparse coding nor mixing
    "pixel_to_pixel": pixel_to_pixel,
    "multi_head": _multi_head,  # one softmax for each dataset
    "cross_entropy": _cross_entropy,  # one softmax over all classes
}
UNMIXED = ("prototype", "pixel_to_pixel")  # objectives that are defined without mixing
TWO_VIEWS = ("mdp", "prototype", "pixel_to_pixel")  # objectives with a momentum encoder, which sees a second view
PROTOTYPES = ("mdp", "prototype")  # objectives with a bank, by which pixels of unlabelled datasets are labelled


def objective(config, label_space: LabelSpace, devices: int) -> Objective:
    """The objective that config.objective names.

    Args:
      config: of `mdp pretrain`, checked.
      label_space: of all datasets.
      devices: how many the batch is split over.
    """
    return OBJECTIVES[config.objective](config, label_space, devices)
