"""Names and layouts, and that nothing is lost on the way there and back."""

import jax
import numpy as np

from mdp_jax.weights import torch_weights


def test_names_and_layouts_by_hand():
    kernel = np.arange(2 * 2 * 3 * 5.0).reshape(2, 2, 3, 5)  # height, width, in, out
    tree = {"layer1": {"0": {"conv1": {"kernel": kernel}, "bn1": {"scale": np.ones(5), "bias": np.zeros(5)}}}}
    state = torch_weights.to_torch(tree)
    assert sorted(state) == ["layer1.0.bn1.bias", "layer1.0.bn1.weight", "layer1.0.conv1.weight"]
    assert state["layer1.0.conv1.weight"].shape == (5, 3, 2, 2)
    assert state["layer1.0.conv1.weight"][4, 2, 1, 0] == kernel[1, 0, 2, 4]
    statistics = torch_weights.to_torch({"bn1": {"mean": np.zeros(5), "var": np.ones(5)}})
    assert sorted(statistics) == ["bn1.running_mean", "bn1.running_var"]


def test_there_and_back_is_bit_equal():
    random = np.random.RandomState(0)
    params = {
        "conv": {"kernel": random.standard_normal((3, 3, 2, 4)), "bias": random.standard_normal(4)},
        "bn": {"scale": random.standard_normal(4), "bias": random.standard_normal(4)},
    }
    batch_stats = {"bn": {"mean": random.standard_normal(4), "var": random.standard_normal(4)}}
    state = torch_weights.to_torch(params) | torch_weights.to_torch(batch_stats)
    state["bn.num_batches_tracked"] = np.array(3)
    back = torch_weights.from_torch(state)
    assert jax.tree.structure(back) == jax.tree.structure((params, batch_stats))
    jax.tree.map(np.testing.assert_array_equal, back, (params, batch_stats))
