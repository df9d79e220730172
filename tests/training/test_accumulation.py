"""Gradients in parts: equal to those of the whole batch, whatever the parts weigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.objectives.parts import Mean, cut, join
from mdp_jax.training.accumulation import gradient_in_parts


def test_cut_takes_a_part_of_every_device_and_keeps_neighbours():
    # Two devices hold 0..3 and 4..7; each part has a pair of each.
    parts = cut({"x": np.arange(8)}, parts=2, devices=2)
    assert parts["x"].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert join(parts, devices=2)["x"].tolist() == list(range(8))


def loss_of(params, batch_stats, part, index):
    """Weighted least squares; the running statistic counts the parts."""
    error = jnp.square(part["x"] * params["a"] - part["y"])
    weight = jnp.sum(part["w"])
    loss = jnp.sum(part["w"] * error) / jnp.where(weight > 0, weight, 1.0)
    first, count = part["y"][0], jnp.asarray(part["w"].size)
    metrics = {
        "share": Mean(weight, count),
        "first": Mean(jnp.stack([first, 0 * first]), jnp.array([1, 0]), jnp.nan),
        "index": Mean(count * index * 1.0, count),
    }
    return loss, (weight, batch_stats + 1, metrics)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1, 1, 1, 1], [1, 0, 2, 0, 0, 0, 3, 1], [0] * 8])
def test_parts_give_the_gradient_of_the_whole(weights):
    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.normal(size=8)),
        "y": jnp.asarray(rng.normal(size=8)),
        "w": jnp.asarray(weights, float),
    }
    params = {"a": jnp.asarray(0.5)}
    whole = gradient_in_parts(loss_of, params, jnp.zeros(()), batch, parts=1, devices=1)
    for parts, devices in ((2, 1), (4, 1), (2, 2)):
        loss, gradient, batch_stats, _ = jax.jit(
            lambda p, b, parts=parts, devices=devices: gradient_in_parts(loss_of, p, jnp.zeros(()), b, parts, devices)
        )(params, batch)
        np.testing.assert_allclose(loss, whole[0], rtol=1e-5)
        np.testing.assert_allclose(gradient["a"], whole[1]["a"], rtol=1e-5)
        assert int(batch_stats) == parts


@pytest.mark.parametrize("parts", [1, 2])
def test_each_metric_has_a_weight_of_its_own(parts):
    """Half of the pixels weigh nothing, all of them in the second part: a mean over all pixels does not see this."""
    batch = {"x": jnp.zeros(4), "y": jnp.array([1.0, 1.0, 3.0, 3.0]), "w": jnp.array([1.0, 2.0, 0.0, 0.0])}
    *_, metrics = gradient_in_parts(loss_of, {"a": jnp.ones(())}, jnp.zeros(()), batch, parts, devices=1)
    np.testing.assert_allclose(metrics["share"], 3 / 4)
    np.testing.assert_allclose(metrics["first"], [1 if parts == 1 else (1 + 3) / 2, np.nan])
    np.testing.assert_allclose(metrics["index"], 0 if parts == 1 else 0.5)
