"""A pretrained network as a segmenter of one of its own sets: by the prototypes or the head of that set's classes."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.errors import UserError
from mdp_jax.models import network
from mdp_jax.objectives.registry import PROTOTYPES


class SourceSegmenter:
    """Stands where evaluation takes a models.network.Segmenter, with a class for each of one dataset's.

    With a prototype bank the logits are v . P_c / tau (METHOD.md section 4) over the classes of this dataset alone, and
    -2 / tau for a class that was never seen, taken where evaluation's interpolation puts them; without one they are
    those of the classifier. So it says how well the pretraining has learnt each of its sets, not how well the features
    transfer.
    """

    def __init__(self, config: ConfigDict, label_space: LabelSpace, dataset: int):
        """Args:
        config: of `mdp pretrain`.
        label_space: of all its datasets.
        dataset: which of them, one with labels.

        Raises:
            UserError: an objective without classes.
        """
        if config.objective == "pixel_to_pixel":
            raise UserError(
                "objective pixel_to_pixel has neither prototypes nor a classifier; expected a fine-tuned network"
            )
        self._ids = np.array(label_space.global_ids[dataset])
        self._temperature = config.method.temperature
        # Trained on the labels y[::s, ::s], feature i describes pixel s i; for evaluation it is the middle of a cell.
        self._stride = 0 if config.method.label_stride else config.model.output_stride
        self._by_prototypes = config.objective in PROTOTYPES
        classes = label_space.num_classes
        self._network = (
            network.pixel_encoder(config.model) if self._by_prototypes else network.segmenter(config.model, classes)
        )

    def apply(self, variables: dict, images: jax.Array, train: bool) -> jax.Array:
        """Images [B,H,W,3], normalised, to logits [B,h,w,C_d].

        Args:
            variables: {"params", "batch_stats", "bank": {"vectors", "images_seen"}}; the bank is {} for objectives
                without one.
            images: as models.network takes them.
            train: False; running statistics are used.
        """
        weights = {name: variables[name] for name in ("params", "batch_stats")}
        outputs = self._network.apply(weights, images, train=train)
        if not self._by_prototypes:
            return outputs[..., self._ids]
        bank = {name: leaf[self._ids] for name, leaf in variables["bank"].items()}
        similarity = jnp.einsum("bhwd,cd->bhwc", outputs, bank["vectors"], precision=jax.lax.Precision.HIGHEST)
        seen = bank["images_seen"].reshape(1, 1, 1, -1) > 0
        # Below every cosine, and finite when windows are added up and resized.
        logits = jnp.where(seen, similarity, -2.0) / self._temperature
        for axis in (1, 2) if self._stride else ():
            logits = _at_cells(logits, axis, self._stride, images.shape[axis])
        return logits


def _at_cells(x: jax.Array, axis: int, stride: int, side: int) -> jax.Array:
    """x [B,h,w,C], of the pixels 0, s, 2 s, .. of an axis, interpolated linearly in the middles of its n equal cells.

    The n cells cover `side` pixels; beyond the last of the pixels its value goes on.
    """
    n = x.shape[axis]
    at = np.clip((((np.arange(n) + 0.5) * side / n) - 0.5) / stride, 0, n - 1)
    before = at.astype(np.int32)
    share = np.expand_dims(at - before, [i for i in range(x.ndim) if i != axis]).astype(x.dtype)
    after = jnp.take(x, np.minimum(before + 1, n - 1), axis=axis)
    return (1 - share) * jnp.take(x, before, axis=axis) + share * after
