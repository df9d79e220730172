"""Cross entropies at the labels' own resolution, as in fine-tuning: two baselines (METHOD.md section 7)."""

import jax.numpy as jnp
import numpy as np

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method import baselines
from mdp_jax.models import network
from mdp_jax.objectives.objective import Objective, apply, batch_as_it_is, flat, pixel_metrics


def cross_entropy_objective(config, label_space: LabelSpace, head_of: np.ndarray) -> Objective:
    """Cross entropy with one softmax for each head.

    Args:
      config, label_space: as for objectives.objective.
      head_of: int [C], the head of each global class, non-decreasing from 0.
    """
    model = network.segmenter(config.model, label_space.num_classes)

    def memory(params, batch_stats):
        del params, batch_stats
        return {"momentum_params": {}, "momentum_batch_stats": {}, "bank": {}}

    def loss(params, batch_stats, state, query):
        del state
        logits, batch_stats = apply(model, params, batch_stats, query.image)
        logits = network.upsample(logits, query.labels.shape[1:3])
        labels = flat(query.labels)
        loss, pixels = baselines.multi_head_cross_entropy(flat(logits), labels, query.weights[:, :, 0], head_of)
        metrics = pixel_metrics(pixels.loss, pixels.hit, pixels.weight, labels, label_space)
        return loss, (jnp.sum(pixels.weight), batch_stats, metrics)

    def follow(state, params, batch, kept):
        del params, batch, kept
        return {name: getattr(state, name) for name in ("momentum_params", "momentum_batch_stats", "bank")}, {}

    return Objective(model, memory, batch_as_it_is, loss, follow)
