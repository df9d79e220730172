import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdp_jax.models.layers import MLP, BatchNorm, Conv, ConvBlock, Dtypes, LayerNorm, Row
from tests.models import seeded

FLOAT32 = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return BatchNorm(FLOAT32, name="bn")(x, train)


def test_batch_norm_equals_torch_over_several_steps(torch_outputs):
    expected = torch_outputs("batch_norm")
    x = seeded.bn_input(0).astype(np.float32)
    variables = seeded.variables(jax.eval_shape(lambda: Layer().init(jax.random.key(0), x, train=False)))
    for step in range(4):
        x = seeded.bn_input(step).astype(np.float32)
        y, updated = Layer().apply(variables, x, train=True, mutable="batch_stats")
        variables = {**variables, **updated}
        np.testing.assert_allclose(y, expected[f"train{step}"], atol=1e-5)
        np.testing.assert_allclose(updated["batch_stats"]["bn"]["mean"], expected[f"mean{step}"], rtol=1e-6)
        np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], expected[f"var{step}"], rtol=1e-6)
    y = Layer().apply(variables, seeded.bn_input(4).astype(np.float32), train=False)
    np.testing.assert_allclose(y, expected["eval"], atol=1e-5)


def test_batch_norm_by_hand():
    x = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    variables = Layer().init(jax.random.key(0), x, train=True)
    assert variables["batch_stats"]["bn"] == {"mean": 0.0, "var": 1.0}  # initialising is no step
    y, updated = Layer().apply(variables, x, train=True, mutable="batch_stats")
    np.testing.assert_allclose(y.ravel(), [-1.0, 1.0], atol=1e-5)  # mean 2, biased variance 1
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], [0.9 + 0.1 * 2.0], rtol=1e-6)  # unbiased: 2


def test_batch_norm_of_one_value_is_finite():
    x = jnp.full((1, 1, 1, 2), 7.0)
    variables = Layer().init(jax.random.key(0), x, train=True)
    y, updated = Layer().apply(variables, x, train=True, mutable="batch_stats")
    np.testing.assert_array_equal(y, jnp.zeros_like(x))
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], [0.9, 0.9], rtol=1e-6)


def test_batch_norm_survives_a_mean_far_above_the_spread():
    """E[x^2] - E[x]^2 would lose this variance, 1e-4, to float32 rounding at 100^2."""
    noise = 0.01 * seeded.image("far", (4, 8, 8, 1))
    x = (100.0 + noise).astype(np.float32)
    variables = Layer().init(jax.random.key(0), x, train=True)
    _, updated = Layer().apply(variables, x, train=True, mutable="batch_stats")
    exact = x.astype(np.float64).var(ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], [0.9 + 0.1 * exact], rtol=1e-6)


@pytest.mark.parametrize("compute, wide", [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_dtypes(compute, wide):
    with jax.enable_x64(True):
        block = ConvBlock(4, 3, Dtypes(jnp.dtype(compute), jnp.dtype("float32")))
        x = jnp.asarray(seeded.image("dtypes", (2, 5, 5, 3)), jnp.float32)
        variables = jax.eval_shape(lambda: block.init(jax.random.key(0), x, train=True))
        y, updated = jax.eval_shape(lambda v: block.apply(v, x, train=True, mutable="batch_stats"), variables)
        assert y.dtype == compute
        assert {leaf.dtype.name for leaf in jax.tree.leaves(updated)} == {wide}
        assert updated == {"batch_stats": variables["batch_stats"]}  # shapes and dtypes do not change in a step
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["params"])} == {"float32"}


def test_statistics_of_bfloat16_are_not_rounded_to_bfloat16():
    x = jnp.asarray(seeded.image("bf16", (2, 8, 8, 1)), jnp.bfloat16)
    layer = BatchNorm(Dtypes(jnp.dtype("bfloat16"), jnp.dtype("float32")))
    variables = layer.init(jax.random.key(0), x, train=True)
    _, updated = layer.apply(variables, x, train=True, mutable="batch_stats")
    exact = np.asarray(x, np.float64).mean()
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.1 * exact], rtol=1e-5)


def test_convolution_against_a_loop():
    """Stride 2, dilation 2, bias: each output is the sum over the taps that fall inside the image."""
    conv = Conv(2, 3, FLOAT32, stride=2, dilation=2, bias=True)
    x = seeded.image("loop", (1, 6, 5, 3))
    params = seeded.variables(jax.eval_shape(lambda: {"params": {"conv": conv.init(jax.random.key(0), x)["params"]}}))
    kernel, bias = params["params"]["conv"]["kernel"], params["params"]["conv"]["bias"]
    expected = np.zeros((1, 3, 3, 2))
    for i, j in np.ndindex(3, 3):
        expected[0, i, j] = bias
        for a, b in np.ndindex(3, 3):
            row, column = 2 * i + 2 * (a - 1), 2 * j + 2 * (b - 1)
            if 0 <= row < 6 and 0 <= column < 5:
                expected[0, i, j] += x[0, row, column] @ kernel[a, b]
    y = conv.apply({"params": params["params"]["conv"]}, x.astype(np.float32))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_initial_weights_are_kaiming_normal_by_fan_out():
    x = jnp.zeros((1, 4, 4, 64))
    block = jax.jit(lambda: ConvBlock(128, 3, FLOAT32).init(jax.random.key(0), x, train=False))()["params"]
    kernel = np.asarray(block["conv"]["kernel"])
    assert kernel.shape == (3, 3, 64, 128)
    deviation = np.sqrt(2 / (3 * 3 * 128))
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)
    assert abs(kernel.mean()) < 0.02 * deviation
    assert np.abs(kernel).max() > 4 * deviation  # not truncated
    np.testing.assert_array_equal(block["bn"]["scale"], np.ones(128))
    np.testing.assert_array_equal(block["bn"]["bias"], np.zeros(128))


class Halved(nn.Module):
    """x / 2 times a factor of its own."""

    @nn.compact
    def __call__(self, x, train):
        return 0.5 * x * self.param("factor", nn.initializers.ones, ())


def test_blocks_in_a_row_by_hand():
    """Factors 2, 4, 6 and 8: after two blocks 1 * 2 = 2 times x, after four 2 * 3 * 4 = 24 times."""
    row = Row(Halved, 4, FLOAT32, levels=2)
    params = {str(i): {"factor": jnp.float32(2 * (i + 1))} for i in range(4)}
    assert jax.tree.structure(row.init(jax.random.key(0), jnp.ones(3), True)["params"]) == jax.tree.structure(params)
    out = row.apply({"params": params}, jnp.arange(3.0), True)
    np.testing.assert_array_equal(out.last, [0, 24, 48])
    np.testing.assert_array_equal(out.levels, [[0, 2, 4], [0, 24, 48]])


class Raised(nn.Module):
    """x plus a factor of its own."""

    @nn.compact
    def __call__(self, x, train):
        return x + self.param("factor", nn.initializers.ones, ())


def test_two_kinds_of_blocks_in_turn_by_hand():
    """x / 2 * 2 + 4 = x + 4; then (x + 4) / 2 * 6 + 8 = 3 x + 20."""
    row = Row(Halved, 4, FLOAT32, levels=2, others=(Raised,))
    params = {str(i): {"factor": jnp.float32(2 * (i + 1))} for i in range(4)}
    for mutable in (False, ["intermediates"]):  # as a loop, and one by one
        out = row.apply({"params": params}, jnp.arange(3.0), True, mutable=mutable)
        out = out[0] if mutable else out
        np.testing.assert_array_equal(out.levels, [[4, 5, 6], [20, 23, 26]])
        np.testing.assert_array_equal(out.last, [20, 23, 26])


class Perceptron(nn.Module):
    """A block with a kernel."""

    @nn.compact
    def __call__(self, x, train):
        return x + MLP(6, FLOAT32, name="mlp")(LayerNorm(FLOAT32, name="norm")(x))


@pytest.mark.parametrize("remat", ["none", "elementwise", "blocks"])
def test_a_row_equals_its_blocks_one_by_one(remat):
    """Values and gradients; the blocks begin with weights of their own, and the program does not grow with them."""
    x = jnp.asarray(seeded.image("row", (2, 5, 4)), jnp.float32)
    row = Row(Perceptron, 3, FLOAT32, remat)
    params = row.init(jax.random.key(0), x, True)["params"]
    kernels = [params[str(i)]["mlp"]["fc1"]["kernel"] for i in range(3)]
    assert kernels[0].shape == (4, 6) and not np.allclose(kernels[0], kernels[1])

    def looped(params):
        return jnp.sum(jnp.square(row.apply({"params": params}, x, True).last))

    def one_by_one(params):
        y = x
        for i in range(3):
            y = Perceptron().apply({"params": params[str(i)]}, y, True)
        return jnp.sum(jnp.square(y))

    found, expected = (jax.value_and_grad(f)(params) for f in (looped, one_by_one))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
    text = str(jax.make_jaxpr(jax.grad(looped))(params))
    assert text.count(" erf ") <= 3 and ("remat" in text or "checkpoint" in text) == (remat != "none")


def test_layer_norm_of_bfloat16_is_computed_in_float32():
    """By hand: a mean of 256, of which bfloat16 has no neighbours, and a spread of 1."""
    norm = LayerNorm(Dtypes(jnp.dtype("bfloat16"), jnp.dtype("float32")), eps=0.0)
    x = jnp.asarray([[255.0, 257.0, 255.0, 257.0]], jnp.float32)
    y = norm.apply({"params": {"scale": jnp.full(4, 2.0), "bias": jnp.ones(4)}}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(np.float32), [[-1, 3, -1, 3]])
