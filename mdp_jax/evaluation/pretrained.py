"""A pretrained network as a segmenter of one of its own sets: by the prototypes or the head of that set's classes."""

import jax
import numpy as np

from mdp_jax.configs import PretrainConfig
from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.objectives.objective import Logits
from mdp_jax.objectives.registry import OBJECTIVES


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


class SourceSegmenter(ClassScorer):
    """A scorer with a class for each of one dataset's.

    The objective says how: over the classes of this dataset alone. So it says how well the pretraining has learnt each
    of its sets, not how well the features transfer.
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
        scorer = OBJECTIVES[config.objective].scorer
        if scorer is None:
            raise UserError(
                f"objective {config.objective} has neither prototypes nor a classifier; expected a fine-tuned network"
            )
        ids = np.array(label_space.global_ids[dataset])
        super().__init__(scorer(config.model, config.method, label_space.num_classes, ids))
