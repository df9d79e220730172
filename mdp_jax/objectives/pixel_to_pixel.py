"""Pixels against the pixels of a second view of the same image: a baseline (METHOD.md section 7)."""

import jax
import jax.numpy as jnp

from mdp_jax.data.label_space import LabelSpace
from mdp_jax.method.pixel_contrast import pixel_contrast, sample_pixels, take_pixels
from mdp_jax.objectives.objective import (
    Before,
    MomentumEncoder,
    Objective,
    apply,
    flat,
    labels_of_features,
    pixel_metrics,
)


def pixel_to_pixel(config, label_space: LabelSpace, devices: int) -> Objective:
    """Supervised contrast within each image: pixels of the query view, momentum embeddings of the second view.

    Each step draws the pixels of both views anew, by the seed and its number.
    """
    encoder = MomentumEncoder(config, devices)

    def memory(params, batch_stats):
        return encoder.copied(params, batch_stats) | {"bank": {}}

    def loss(params, batch_stats, state, query):
        del state
        vectors, batch_stats = apply(encoder.network, params, batch_stats, query.image)
        places, keys, key_labels = (query.beside[name] for name in ("places", "keys", "key_labels"))
        labels = take_pixels(labels_of_features(query.labels, config), places)
        vectors = take_pixels(flat(vectors), places)
        loss, pixels = pixel_contrast(vectors, labels[..., 0], keys, key_labels, config.method.temperature)
        metrics = pixel_metrics(pixels.loss, pixels.hit, pixels.weight, labels, label_space)
        return loss, (jnp.sum(pixels.weight), batch_stats, metrics)

    def follow(state, params, batch, kept):
        del batch
        parts = {
            "momentum_params": encoder.averaged(state, params),
            "momentum_batch_stats": kept["batch_stats"],
            "bank": {},
        }
        return parts, kept["metrics"]

    return Objective(encoder.network, memory, _drawing(config, encoder), loss, follow)


def _drawing(config, encoder: MomentumEncoder):
    """`before` that draws the pixels of both views and embeds those of the second one."""
    budget = config.method.pixel_budget
    seed = jax.random.key(config.seed)

    def before(state, batch):
        vectors, batch_stats = encoder.embed(state, batch["key_image"])
        labels = [labels_of_features(batch[name].astype(jnp.int32), config) for name in ("label", "key_label")]
        draws = jax.random.split(jax.random.fold_in(seed, state.step))
        (own, own_dropped), (other, other_dropped) = (
            sample_pixels(draw, label, budget) for draw, label in zip(draws, labels, strict=True)
        )
        beside = {
            "places": own,
            "keys": take_pixels(vectors, other),
            "key_labels": take_pixels(labels[1], other),
        }
        metrics = {"dropped_fraction": (own_dropped + other_dropped) / 2}
        return Before(batch["label"], beside, {"batch_stats": batch_stats, "metrics": metrics})

    return before
