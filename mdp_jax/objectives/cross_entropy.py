"""Cross entropy at the labels' own resolution, as in fine-tuning: one softmax over all classes (METHOD.md 7)."""

import jax
import jax.numpy as jnp
import numpy as np

from mdp_jax.configs import MethodConfig, ModelConfig
from mdp_jax.method import baselines
from mdp_jax.method.weights import pixel_weights
from mdp_jax.models import network
from mdp_jax.models.apply import apply_evaluation, apply_training
from mdp_jax.objectives.objective import (
    ClassRows,
    Functions,
    Logits,
    Objective,
    Query,
    Rows,
    Setting,
    State,
    flat,
    pixel_metrics,
    prepare_nothing,
)
from mdp_jax.objectives.parts import Aux


def with_heads(setting: Setting, head_of: np.ndarray) -> Functions:
    """Makes a cross entropy with one softmax for each head.

    Args:
      setting: of the objective.
      head_of: int [C], the head of each global class, non-decreasing from 0.
    """
    label_space = setting.label_space
    model = network.segmenter(setting.model, label_space.num_classes)

    def init(params: dict, batch_stats: dict) -> dict:
        del params, batch_stats
        return {}

    def loss(params: dict, batch_stats: dict, state: State, query: Query) -> tuple[jax.Array, Aux]:
        del state
        outputs = apply_training(model, params, batch_stats, query.image)
        _, height, width, _ = query.labels.shape
        logits = network.upsample(outputs.values, (height, width))
        labels = flat(query.labels)
        weights = pixel_weights(labels, query.weights[:, :, 0], label_space.num_classes, setting.method.pixel_weights)
        loss, pixels = baselines.multi_head_cross_entropy(flat(logits), labels, weights, head_of)
        metrics = pixel_metrics(pixels.loss, pixels.hit, pixels.weight, labels, label_space)
        return loss, Aux(jnp.sum(pixels.weight), outputs.batch_stats, metrics)

    def update(state: State, params: dict, batch: dict, carry: dict) -> tuple[dict, dict]:
        del params, batch, carry
        return state.memory, {}

    return Functions(model, init, prepare_nothing, loss, update)


def functions(setting: Setting) -> Functions:
    """Makes a cross entropy with one softmax over all classes.

    Args:
      setting: of the objective.
    """
    return with_heads(setting, np.zeros(setting.label_space.num_classes, np.int32))


def scorer(model: ModelConfig, method: MethodConfig, num_classes: int, ids: np.ndarray) -> Logits:
    """Makes the function of the classifier's logits of one dataset's classes.

    Args:
      model: the network under the classifier.
      method: not used.
      num_classes: C.
      ids: int [C_d], global ids of the dataset's classes.
    """
    del method
    segmenter = network.segmenter(model, num_classes)

    def logits_of(variables: dict, images: jax.Array) -> jax.Array:
        return apply_evaluation(segmenter, variables, images)[..., ids]

    return logits_of


def _merge(rows: Rows) -> Rows:
    """The mean of the weights, and of the optimizer's buffers of them: both logits count alike."""
    return {path: row.mean(axis=0, dtype=np.float64).astype(row.dtype) for path, row in rows.items()}


def _directions(variables: dict) -> np.ndarray:
    """The weights of each class, without its bias."""
    return np.asarray(variables["params"]["classifier"]["conv"]["kernel"])[0, 0].T


CROSS_ENTROPY = Objective(
    functions,
    head="classifier",
    two_views=False,
    mixes=True,
    unlabelled=False,
    scorer=scorer,
    class_rows=ClassRows(
        ((r"(params|opt_state/.*(trace|mu|nu))/classifier/conv/(kernel|bias)", -1),), _merge, _directions, "decoder"
    ),
    weighs=True,
)
