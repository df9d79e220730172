"""Cross entropy at the labels' own resolution, as in fine-tuning: one softmax over all classes (METHOD.md 7)."""

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import MethodConfig, ModelConfig
from mdp_jax.method import baselines
from mdp_jax.models import network
from mdp_jax.models.apply import apply_evaluation, apply_training
from mdp_jax.objectives.objective import Functions, Logits, Objective, Setting, flat, pixel_metrics, prepare_nothing


def with_heads(setting: Setting, head_of: np.ndarray) -> Functions:
    """Cross entropy with one softmax for each head.

    Args:
      setting: of the objective.
      head_of: int [C], the head of each global class, non-decreasing from 0.
    """
    label_space = setting.label_space
    model = network.segmenter(setting.model, label_space.num_classes)

    def init(params, batch_stats):
        del params, batch_stats
        return {}

    def loss(params, batch_stats, state, query):
        del state
        outputs = apply_training(model, params, batch_stats, query.image)
        logits = network.upsample(outputs.values, query.labels.shape[1:3])
        labels = flat(query.labels)
        loss, pixels = baselines.multi_head_cross_entropy(flat(logits), labels, query.weights[:, :, 0], head_of)
        metrics = pixel_metrics(pixels.loss, pixels.hit, pixels.weight, labels, label_space)
        return loss, (jnp.sum(pixels.weight), outputs.batch_stats, metrics)

    def update(state, params, batch, carry):
        del params, batch, carry
        return state.memory, {}

    return Functions(model, init, prepare_nothing, loss, update)


def functions(setting: Setting) -> Functions:
    """One softmax over all classes."""
    return with_heads(setting, np.zeros(setting.label_space.num_classes, np.int32))


def scorer(model: ModelConfig, method: MethodConfig, num_classes: int, ids: np.ndarray) -> Logits:
    """The classifier's logits of the classes `ids` (arguments as objective.Objective has them)."""
    del method
    segmenter = network.segmenter(model, num_classes)

    def logits_of(variables: dict, images: jax.Array) -> jax.Array:
        return apply_evaluation(segmenter, variables, images)[..., ids]

    return logits_of


CROSS_ENTROPY = Objective(functions, head="classifier", two_views=False, mixes=True, unlabelled=False, scorer=scorer)
