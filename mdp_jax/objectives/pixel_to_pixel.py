"""Pixels against the pixels of a second view of the same image: a baseline (METHOD.md section 7)."""

import jax
import jax.numpy as jnp

from mdp_jax.method.pixel_contrast import pixel_contrast, sample_pixels, take_pixels
from mdp_jax.models.apply import apply_training
from mdp_jax.objectives.momentum import SHARDINGS, MomentumEncoder, averaged
from mdp_jax.objectives.objective import (
    Functions,
    Objective,
    Prepare,
    Prepared,
    Query,
    Setting,
    State,
    flat,
    labels_of_features,
    pixel_metrics,
)
from mdp_jax.objectives.parts import Aux


def functions(setting: Setting) -> Functions:
    """Makes a supervised contrast within each image: pixels of the query view, momentum embeddings of the second view.

    Each step draws new pixels of both views, by the seed and the number of the step.

    Args:
      setting: of the objective.
    """
    encoder, method = MomentumEncoder(setting), setting.method

    def loss(params: dict, batch_stats: dict, state: State, query: Query) -> tuple[jax.Array, Aux]:
        del state
        outputs = apply_training(encoder.network, params, batch_stats, query.image)
        positions, keys, key_labels = (query.aux[name] for name in ("positions", "keys", "key_labels"))
        labels = take_pixels(labels_of_features(query.labels, setting.stride, method.label_stride), positions)
        vectors = take_pixels(flat(outputs.values), positions)
        loss, pixels = pixel_contrast(vectors, labels[..., 0], keys, key_labels, method.temperature)
        metrics = pixel_metrics(pixels.loss, pixels.hit, pixels.weight, labels, setting.label_space)
        return loss, Aux(jnp.sum(pixels.weight), outputs.batch_stats, metrics)

    def update(state: State, params: dict, batch: dict, carry: dict) -> tuple[dict, dict]:
        del batch
        return encoder.update(state.memory, params, carry["batch_stats"]), carry["metrics"]

    return Functions(encoder.network, encoder.init, _drawing(setting, encoder), loss, update)


def _drawing(setting: Setting, encoder: MomentumEncoder) -> Prepare:
    """A `prepare` that draws the pixels of both views and embeds those of the second one."""
    method, seed = setting.method, jax.random.key(setting.seed)

    def prepare(state: State, batch: dict) -> Prepared:
        embedded = encoder.embed(state.memory, batch["key_image"])
        labels = [
            labels_of_features(batch[name].astype(jnp.int32), setting.stride, method.label_stride)
            for name in ("label", "key_label")
        ]
        draws = jax.random.split(jax.random.fold_in(seed, state.step))
        (own, own_dropped), (other, other_dropped) = (
            sample_pixels(draw, label, method.pixel_budget) for draw, label in zip(draws, labels, strict=True)
        )
        aux = {
            "positions": own,
            "keys": take_pixels(embedded.vectors, other),
            "key_labels": take_pixels(labels[1], other),
        }
        metrics = {"dropped_fraction": (own_dropped + other_dropped) / 2}
        return Prepared(batch["label"], aux, {"batch_stats": embedded.batch_stats, "metrics": metrics})

    return prepare


PIXEL_TO_PIXEL = Objective(
    functions,
    head="projection",
    two_views=True,
    mixes=False,
    unlabelled=False,
    shardings=SHARDINGS,
    averaged=averaged,
)
