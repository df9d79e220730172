"""The state that a fine-tuning begins with."""

import types

import jax
import jax.numpy as jnp
import optax
import pytest

from mdp_jax.training import finetuning
from mdp_jax.training.state import FinetuneState, first_average
from mdp_jax.training.transfer import Transferred


@pytest.mark.parametrize("averages", [True, False])
def test_the_moving_average_begins_with_the_weights_that_were_taken(averages):
    """And not with those that the network was initialised with, which decay slowly."""
    params, stats = {"backbone": jnp.zeros(2), "classifier": jnp.ones(2)}, {"backbone": jnp.zeros(2)}
    ema = first_average(params, stats) if averages else {}
    state = FinetuneState(jnp.int32(0), params, stats, optax.EmptyState(), ema)
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    program = types.SimpleNamespace(make=lambda: state, shardings=jax.tree.map(lambda leaf: one_device, state))
    own = jax.ShapeDtypeStruct((2,), jnp.float32)  # is not taken
    taken = Transferred(
        {"backbone": 3 + jnp.zeros(2), "classifier": own}, {"backbone": 4 + jnp.zeros(2)}, [], "a file", {}
    )
    found, report = finetuning._first_state(program, taken)
    assert jax.tree.map(lambda leaf: leaf.tolist(), found.params) == {"backbone": [3, 3], "classifier": [1, 1]}
    assert found.batch_stats["backbone"].tolist() == [4, 4] and report["source"] == "a file"
    expected = {"params": found.params, "batch_stats": found.batch_stats} if averages else {}
    assert jax.tree.map(lambda leaf: leaf.tolist(), found.ema) == jax.tree.map(lambda leaf: leaf.tolist(), expected)
