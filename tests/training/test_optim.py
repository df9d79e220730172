"""Schedules and SGD: values worked out by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdp_jax.training.optim import cosine_with_warmup, kernels, polynomial, sgd


def test_warmup_and_cosine_by_hand():
    schedule = cosine_with_warmup(peak=0.8, warmup_steps=4, steps=12)
    np.testing.assert_allclose([schedule(i) for i in range(4)], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    # After the warm-up half a cosine over 8 steps: at its beginning, middle, and end.
    np.testing.assert_allclose([schedule(4), schedule(8), schedule(12)], [0.8, 0.4, 0.0], atol=1e-6)


def test_warmup_longer_than_the_run_stays_a_warmup():
    schedule = cosine_with_warmup(peak=1.0, warmup_steps=100, steps=10)
    np.testing.assert_allclose([schedule(0), schedule(9)], [0.1, 1.0], rtol=1e-6)


def test_polynomial_by_hand():
    schedule = polynomial(lr=0.01, lr_min=1e-4, power=0.9, steps=101)
    assert float(schedule(0)) == pytest.approx(0.01, rel=1e-6)
    assert float(schedule(50)) == pytest.approx(0.0099 * 0.5**0.9 + 1e-4, rel=1e-6)
    assert float(schedule(100)) == pytest.approx(1e-4, rel=1e-6)


def test_sgd_by_hand():
    params = {"conv": {"kernel": jnp.array(2.0), "bias": jnp.array(1.0)}}
    optimizer = sgd(lambda step: 0.1, momentum=0.5, weight_decay=0.25, decay_all=False)
    state = optimizer.init(params)
    gradient = {"conv": {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}}
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    # kernel: buffer 1 + 0.25 x 2 = 1.5, 2 - 0.15; bias, without decay: buffer 1, 1 - 0.1.
    np.testing.assert_allclose([params["conv"]["kernel"], params["conv"]["bias"]], [1.85, 0.9], rtol=1e-6)
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    # kernel: buffer 0.75 + 1 + 0.25 x 1.85 = 2.2125; bias: 0.5 + 1.
    np.testing.assert_allclose([params["conv"]["kernel"], params["conv"]["bias"]], [1.62875, 0.75], rtol=1e-6)


def test_decay_on_every_parameter():
    params = {"bn": {"scale": jnp.array(2.0)}}
    optimizer = sgd(lambda step: 1.0, momentum=0.0, weight_decay=0.25, decay_all=True)
    updates, _ = optimizer.update({"bn": {"scale": jnp.array(0.0)}}, optimizer.init(params), params)
    assert float(updates["bn"]["scale"]) == -0.5


def test_kernels():
    assert kernels({"a": {"kernel": 1, "bias": 2}, "bn": {"scale": 3}}) == {
        "a": {"kernel": True, "bias": False},
        "bn": {"scale": False},
    }
