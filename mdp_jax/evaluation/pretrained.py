"""A pretrained network as a segmenter of its own sets: by the prototypes or the heads of their classes."""

from typing import NamedTuple

import jax
import numpy as np

from mdp_jax.configs import PretrainConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.objectives.objective import Logits
from mdp_jax.objectives.registry import OBJECTIVES

ALL = "all"


class Answers(NamedTuple):
    """The classes in which a network answers.

    Attributes:
      classes: names.
      ids: int64, their global ids.
    """

    classes: tuple[str, ...]
    ids: np.ndarray


def answers_in(label_space: LabelSpace, name: str, given: str) -> Answers:
    """Finds the classes of a set, or of all sets.

    Args:
      label_space: of the network.
      name: of a set; "" or "all" for all of them, whose names are then "set/class". A set may itself be named "all".
      given: the option with its value, which the error begins with.

    Raises:
      UserError: there is no such set, or it has no labels.
    """
    names = [known for known, classes in label_space.datasets if classes]
    for (known, classes), ids in zip(label_space.datasets, label_space.global_ids, strict=True):
        if known == name and classes:
            return Answers(classes, np.array(ids, int))
        if known == name:
            raise UserError(f"{given}: {name} has no labels, so no classes; expected one of {', '.join(names)}, or all")
    if name not in ("", ALL):
        raise UserError(f"{given} was trained on {', '.join(names)}; expected one of them, or all")
    return Answers(tuple(label_space.global_names()), np.arange(label_space.num_classes))


class ClassScorer:
    """Stands where evaluation takes a models.network.Segmenter; its logits are an objective's."""

    def __init__(self, logits: Logits):
        """Takes the logits.

        Args:
          logits: (variables, normalised images [B,H,W,3]) -> [B,h,w,C].
        """
        self._logits = logits

    def apply(self, variables: dict, images: jax.Array, train: bool) -> jax.Array:
        """Images [B,H,W,3], normalised, to logits [B,h,w,C].

        Args:
          variables: {"params", "batch_stats", "memory"}, the memory as it is in a state or as nested dicts.
          images: as models.network takes them.
          train: False; running statistics are used.
        """
        del train
        return self._logits(variables, images)


class SetSegmenter(ClassScorer):
    """A scorer of some classes; the objective says how."""

    def __init__(self, config: PretrainConfig, label_space: LabelSpace, ids: np.ndarray):
        """Makes it.

        Args:
          config: of `mdp pretrain`.
          label_space: of all its datasets.
          ids: int [C'], global ids of the classes.

        Raises:
          UserError: an objective without classes.
        """
        scorer = OBJECTIVES[config.objective].scorer
        if scorer is None:
            raise UserError(
                f"objective {config.objective} has neither prototypes nor a classifier; expected a fine-tuned network"
            )
        super().__init__(scorer(config.model, config.method, label_space.num_classes, ids))


class SourceSegmenter(SetSegmenter):
    """A scorer with a class for each of one dataset's.

    It is over the classes of this dataset alone. So it says how well the pretraining has learnt each of its sets, not
    how well the features transfer.
    """

    def __init__(self, config: PretrainConfig, label_space: LabelSpace, dataset: int):
        """Makes it for one dataset.

        Args:
          config: of `mdp pretrain`.
          label_space: of all its datasets.
          dataset: which of them, one with labels.

        Raises:
          UserError: an objective without classes.
        """
        super().__init__(config, label_space, np.array(label_space.global_ids[dataset]))
