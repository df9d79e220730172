"""Depthwise convolution: the form for CPUs beside a plain loop and XLA's own form, and which program gets which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mdp_jax.models import depthwise
from mdp_jax.models.layers import Conv, Dtypes
from mdp_jax.parity import precision
from mdp_jax.planning import collectives, flops

# Shapes and dilations: a kernel that fits in, one that reaches beyond an axis, and a dilated one of which just the
# middle meets one axis.
CASES = [((2, 9, 8, 3), 1), ((1, 2, 5, 4), 1), ((2, 9, 4, 2), 4)]


def drawn(shape, dtype, size=7):
    random = np.random.default_rng(0)
    shapes = shape, (size, size, 1, shape[-1]), shape
    return [jnp.asarray(random.standard_normal(one), dtype) for one in shapes]


def with_gradients(function, dilation):
    """(x, kernel, gradient of the output) -> output, and the gradients of x and kernel."""

    def run(x, kernel, g):
        y, pull = jax.vjp(lambda x, kernel: function(x, kernel, dilation), x, kernel)
        return y, *pull(g)

    return run


@pytest.mark.parametrize(("shape", "dilation"), CASES)
def test_against_a_loop(shape, dilation):
    """Each output is the sum over the taps that fall inside the image; so are both gradients."""
    with jax.enable_x64(True):
        x, kernel, g = drawn(shape, np.float64)
        found = jax.jit(with_gradients(depthwise.convolution, dilation))(x, kernel, g)
        own = jax.jit(with_gradients(depthwise._whole, dilation))(x, kernel, g)
    x, kernel, g = map(np.asarray, (x, kernel, g))
    expected = np.zeros(shape), np.zeros(shape), np.zeros(kernel.shape)
    for row, column, i, j in np.ndindex(*shape[1:3], 7, 7):
        from_row, from_column = row + dilation * (i - 3), column + dilation * (j - 3)
        if 0 <= from_row < shape[1] and 0 <= from_column < shape[2]:
            expected[0][:, row, column] += x[:, from_row, from_column] * kernel[i, j, 0]
            expected[1][:, from_row, from_column] += g[:, row, column] * kernel[i, j, 0]
            expected[2][i, j, 0] += (x[:, from_row, from_column] * g[:, row, column]).sum(0)
    for one, whole, value in zip(found, own, expected, strict=True):
        assert one.dtype == whole.dtype == np.float64
        np.testing.assert_allclose(one, value, atol=1e-13)
        np.testing.assert_allclose(whole, value, atol=1e-13)


def test_bfloat16_is_rounded_once():
    """The sums, of 49 products forwards and of up to 200 backwards, are in float32: what is left is one rounding."""
    arrays = drawn((2, 10, 10, 4), jnp.bfloat16)
    found = jax.jit(with_gradients(depthwise.convolution, 1))(*arrays)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(one, np.float64)) for one in arrays]
        exact = jax.jit(with_gradients(depthwise._whole, 1))(*wide)
    for one, value in zip(found, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(one, np.float64), value, rtol=2.0**-8, atol=1e-5)


def test_accelerators_get_xlas_own_form():
    """For each platform that a program is lowered for, whatever is here."""
    arrays = drawn((2, 8, 8, 4), jnp.float32)
    traced = jax.jit(with_gradients(depthwise.convolution, 1)).trace(*arrays)
    for platform, convolutions in (("cpu", 0), ("cuda", 3), ("tpu", 3)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
        assert ("stablehlo.multiply" in text) == (platform == "cpu")


def test_devices_that_share_a_batch_exchange_the_kernels_gradient_alone():
    devices = np.array(jax.devices()[:4])
    split, alike = (NamedSharding(Mesh(devices, "batch"), PartitionSpec(*axes)) for axes in (["batch"], []))
    arrays = drawn((8, 6, 3, 4), jnp.float32)
    step = jax.jit(with_gradients(depthwise.convolution, 1), out_shardings=(split, split, alike))
    placed = [jax.device_put(one, where) for one, where in zip(arrays, (split, alike, split), strict=True)]
    compiled = step.lower(*placed).compile()
    text = compiled.as_text()
    assert "conditional" not in text  # the choice is gone
    moved = collectives.count(text)
    assert {kind: size for kind, size in moved.bytes.items() if size} == {"all-reduce": arrays[1].nbytes}
    for one, value in zip(compiled(*placed), step(*arrays), strict=True):
        np.testing.assert_allclose(one, value, rtol=1e-5, atol=1e-5)


def test_a_kernel_of_a_convolution_layer_decides():
    """Of all filters for one channel each, those that keep the size go this way; the others are as before."""
    dtypes = Dtypes(jnp.dtype("float32"), jnp.dtype("float32"))
    x = jnp.ones((1, 6, 6, 4))
    for values, ours in (
        ({"groups": 4}, True),
        ({"groups": 4, "dilation": 2}, True),
        ({"groups": 4, "stride": 2}, False),
        ({"groups": 4, "padding": (0, 0)}, False),
        ({"groups": 2}, False),
        ({}, False),
    ):
        conv = Conv(4, 3, dtypes, **values)
        params = jax.eval_shape(lambda conv=conv: conv.init(jax.random.key(0), x))
        assert ("platform_index" in str(jax.make_jaxpr(conv.apply)(params, x))) == ours


def test_readers_of_programs_read_xlas_own_form():
    """What is counted is the same as without a choice."""
    arrays = drawn((2, 8, 8, 4), jnp.bfloat16)
    ours, own = (
        jax.make_jaxpr(with_gradients(form, 2))(*arrays).jaxpr for form in (depthwise.convolution, depthwise._whole)
    )
    assert flops.count(ours) == flops.count(own)
    assert precision.roundings(ours) == precision.roundings(own) == 3
